"""What a compiled step does, read from its text (`compiled.as_text()`, XLA's HLO).

The text says more than `cost_analysis()`: which arrays lie in the device's main memory (the
others carry a memory space, `S(1)` is a TPU's VMEM), how a layout pads them (`T(8,128)` tiles),
which branch an instruction belongs to and what each collective sends. Nothing here is a stable
interface of XLA, so whatever is not understood counts as nothing and is never an error.

Sizes are bytes on one device, counts per run of the module. Of a conditional's branches the one
that moves most bytes counts.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
_MOVES_NOTHING = frozenset(
    'parameter constant tuple get-tuple-element bitcast after-all partition-id replica-id '
    'conditional while call optimization-barrier'.split()
)
_BITS = {'pred': 8, 'c64': 64, 'c128': 128}
_ARRAY = re.compile(r'\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\](?:\{([^}]*)\})?')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([^\s(]+) \(.*\{$')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of communication. `bytes` is one device's share of the data, once.

    That is the result's size (of an all-gather the gathered one), or the operand's of a
    reduce-scatter. `group` devices take part, along the mesh axes `axes` ('data', 'data+pixel', …;
    '?' where the devices follow no set of axes).
    """

    kind: str
    axes: str
    group: int
    bytes: int
    count: float = 1.0

    @property
    def link_bytes(self) -> float:
        """Bytes that each device sends in one run of it, by the ring algorithms."""
        rounds = {'all-reduce': 2.0, 'collective-permute': self.group / max(self.group - 1, 1)}
        return rounds.get(self.kind, 1.0) * self.bytes * (self.group - 1) / self.group


@dataclasses.dataclass(frozen=True)
class Work:
    """What one run makes a device do: main-memory traffic, the compiler's cycles, collectives."""

    bytes: float = 0.0
    cycles: float = 0.0
    collectives: tuple[Collective, ...] = ()

    def __add__(self, other: Work) -> Work:
        return Work(
            self.bytes + other.bytes,
            self.cycles + other.cycles,
            self.collectives + other.collectives,
        )

    def times(self, rounds: float) -> Work:
        """The same work done `rounds` times."""
        return Work(
            rounds * self.bytes,
            rounds * self.cycles,
            tuple(dataclasses.replace(c, count=rounds * c.count) for c in self.collectives),
        )


def read_work(text: str, mesh_shape: Mapping[str, int] | None = None) -> Work:
    """Adds up a module's instructions, through its calls, loops and branches.

    Args:
        text: `compiled.as_text()`.
        mesh_shape: mesh axis to size, in the order of `mesh.devices`, to name collectives' axes.

    Returns:
        The work of one device. Equal collectives are merged, the largest traffic first. `cycles` is
        0 where the text has no estimate of the compiler's (only a TPU's has).
    """
    reader = _Reader(_computations(text), dict(mesh_shape or {}))
    work = reader.computation(reader.entry)
    merged: dict[Collective, float] = {}
    for item in work.collectives:
        key = dataclasses.replace(item, count=1.0)
        merged[key] = merged.get(key, 0.0) + item.count
    ranked = (dataclasses.replace(key, count=count) for key, count in merged.items() if count)
    collectives = tuple(sorted(ranked, key=lambda c: -c.count * c.link_bytes))
    return dataclasses.replace(work, collectives=collectives)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


class _Reader:
    def __init__(
        self,
        computations: dict[str, list[_Instruction]],
        mesh_shape: dict[str, int],
    ) -> None:
        self.computations, self.mesh_shape = computations, mesh_shape
        self.entry = next(reversed(computations), '')
        self.known: dict[str, Work] = {}
        self.channels: set[str | None] = set()

    def computation(self, name: str) -> Work:
        if name not in self.known:
            instructions = self.computations.get(name, [])
            types = {i.name: i.type for i in instructions}
            self.known[name] = sum((self.instruction(i, types) for i in instructions), Work())
        return self.known[name]

    def instruction(self, item: _Instruction, types: dict[str, str]) -> Work:
        opcode = item.opcode.removesuffix('-start')
        if opcode in COLLECTIVES:
            return Work(
                _traffic(item, types), _cycles(item), (self.collective(item, opcode, types),)
            )
        if opcode == 'conditional':
            return self.conditional(item)
        if opcode == 'while':
            rounds = re.search(r'known_trip_count":\{"n":"(\d+)"', item.attributes)
            body = self.computation(_called(item, 'body')[0])
            return body.times(int(rounds.group(1)) if rounds else 1)
        if opcode in ('call', 'async'):
            return sum((self.computation(c) for c in _called(item, 'to_apply|calls')), Work())
        if opcode in _MOVES_NOTHING or opcode.endswith(('-done', '-update')):
            return Work()
        if opcode == 'fusion':
            return self.fusion(item, types)
        return Work(_traffic(item, types), _cycles(item))

    def fusion(self, item: _Instruction, types: dict[str, str]) -> Work:
        """One pass over its operands, whatever it computes.

        An asynchronous collective of a TPU runs beside a chain of fusions: all of them carry its
        buffers along, and repeat it with the same channel. It counts once, its buffers too.
        """
        carried: set[str] = set()
        work = Work()
        for name in _called(item, 'calls'):
            inside = self.computations.get(name, [])
            inner_types = {i.name: i.type for i in inside}
            for each in inside:
                if each.opcode.removesuffix('-start') not in COLLECTIVES:
                    continue
                carried |= {
                    _bare(t) for t in (each.type, *map(inner_types.get, each.operands)) if t
                }
                channel = re.search(r'channel_id=(\d+)', each.attributes)
                if channel and channel.group(1) in self.channels:
                    continue
                self.channels.add(channel and channel.group(1))
                work += self.instruction(each, inner_types)
        return work + Work(_traffic(item, types, carried), _cycles(item))

    def conditional(self, item: _Instruction) -> Work:
        names = _called(item, 'branch_computations') or (
            _called(item, 'false_computation') + _called(item, 'true_computation')
        )
        branches = (self.computation(name) for name in names)
        return max(branches, key=lambda work: work.bytes, default=Work())

    def collective(self, item: _Instruction, kind: str, types: dict[str, str]) -> Collective:
        if item.opcode.endswith('-start') and kind in ('all-gather', 'collective-permute'):
            size = _array_sizes(item.type)[1]  # (operand, result, …)
        elif kind == 'reduce-scatter':
            size = sum(sum(_array_sizes(types.get(name, ''))) for name in item.operands)
        else:
            size = sum(_array_sizes(item.type))
        groups = _groups(item.attributes, math.prod(self.mesh_shape.values()))
        group = len(next(iter(groups), ())) or math.prod(self.mesh_shape.values())
        if kind == 'collective-permute':
            groups, group = frozenset(), 2
        return Collective(kind, _axes(groups, self.mesh_shape), group, size)


def _computations(text: str) -> dict[str, list[_Instruction]]:
    found, entry, current = {}, None, []
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            current = found[header.group(2)] = []
            entry = header.group(2) if header.group(1) else entry
        elif line.startswith('  ') and ' = ' in line:
            current.append(_instruction(line.strip()))
    if entry:
        found[entry] = found.pop(entry)
    return found


def _instruction(line: str) -> _Instruction:
    name, rest = line.removeprefix('ROOT ').split(' = ', 1)
    end = _closing(rest) + 1 if rest.startswith('(') else rest.index(' ')
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, rest = rest.split('(', 1)
    rest = '(' + rest
    end = _closing(rest)
    operands = tuple(re.findall(r'%([^\s,()]+)', rest[:end]))
    return _Instruction(name.lstrip('%'), kind, opcode, operands, rest[end + 1 :])


def _closing(text: str) -> int:
    """The index of the parenthesis that closes the first one."""
    depth = 0
    for match in re.finditer(r'[()]', text):
        depth += 1 if match.group() == '(' else -1
        if not depth:
            return match.start()
    return len(text) - 1


def _called(item: _Instruction, attribute: str) -> tuple[str, ...]:
    match = re.search(rf'\b(?:{attribute})=(?:\{{([^}}]*)\}}|(%[^\s,]+))', item.attributes)
    return tuple(re.findall(r'%([^\s,}]+)', match.group())) if match else ()


def _cycles(item: _Instruction) -> float:
    match = re.search(r'"estimated_cycles":"(\d+)"', item.attributes)
    return float(match.group(1)) if match else 0.0


def _traffic(item: _Instruction, types: dict[str, str], carried: Collection[str] = ()) -> float:
    """Bytes read from and written to main memory, as if each operand were read once, whole.

    Arrays of the shapes `carried` are only passed on.
    """
    if item.opcode in ('copy-start', 'slice-start', 'dynamic-slice-start'):
        # The type is (target, source, …) or (source, target, …); the smaller one is what moves.
        arrays = list(_ARRAY.finditer(item.type))[:2]
        moved = min((_padded_bytes(m) for m in arrays), default=0)
        return moved * sum(not _elsewhere(m) for m in arrays)
    operands = ''.join(types.get(name, '') + ' ' for name in dict.fromkeys(item.operands))
    if item.opcode == 'dynamic-update-slice':  # in place: the update is read, then written
        operands = 2 * (types.get(item.operands[1], '') + ' ')
    elif item.opcode in ('slice', 'dynamic-slice', 'gather'):
        operands = 2 * (item.type + ' ')
    else:
        operands += item.type
    arrays = (m for m in _ARRAY.finditer(operands) if not _elsewhere(m))
    return sum(_padded_bytes(m) for m in arrays if _bare(m.group()) not in carried)


def _bare(array: str) -> str:
    """The type without its layout: `f32[2,3]`."""
    return array.partition('{')[0]


def _elsewhere(array: re.Match) -> bool:
    """Whether an array lies in another memory than the main one (0)."""
    space = re.search(r'S\((\d+)\)', array.group(3) or '')
    return bool(space) and space.group(1) != '0'


def _item_bits(dtype: str) -> int:
    digits = re.match(r'[a-z]+(\d+)', dtype)
    return _BITS.get(dtype, int(digits.group(1)) if digits else 0)


def _array_sizes(types: str) -> list[int]:
    """Bytes of each array in a type, without padding."""
    sizes = []
    for match in _ARRAY.finditer(types):
        shape = [int(n) for n in match.group(2).split(',') if n]
        sizes.append(math.prod(shape) * _item_bits(match.group(1)) // 8)
    return sizes


def _padded_bytes(array: re.Match) -> int:
    """Bytes that an array takes with its minor dimensions rounded up to whole tiles."""
    shape = [int(n) for n in array.group(2).split(',') if n]
    order, _, tiling = (array.group(3) or '').partition(':')
    minor_to_major = [int(n) for n in order.split(',') if n]
    tile = re.match(r'T\(([\d,]+)\)', tiling)
    if tile and minor_to_major and len(minor_to_major) == len(shape):
        for dimension, size in zip(
            minor_to_major, reversed([int(n) for n in tile.group(1).split(',')]), strict=False
        ):
            shape[dimension] = -(-shape[dimension] // size) * size
    return math.prod(shape) * _item_bits(array.group(1)) // 8


def _groups(attributes: str, devices: int) -> frozenset[frozenset[int]]:
    """The sets of devices that communicate, from any of the three ways in which XLA writes them."""
    text = attributes.partition('replica_groups=')[2]
    explicit = re.match(r'\{(\{[\d,]*\}(?:,\{[\d,]*\})*)\}', text)
    if explicit:
        sets = re.findall(r'\{([\d,]*)\}', explicit.group(1))
        return frozenset(frozenset(int(n) for n in s.split(',') if n) for s in sets)
    iota = re.match(r'\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
    if iota:
        ids = _iota(*iota.group(2, 3))
        return _rows(ids.reshape(_numbers(iota.group(1))))
    named = re.match(r'mesh\[([^\]]*)\](.*?)\{([^}]*)\}(?:, |$)', text)
    if named:
        axes = re.findall(r"'([^']+)'=(\d+)", named.group(1))
        order = re.search(r'device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)', named.group(2))
        shape = [int(size) for _, size in axes]
        ids = _iota(*order.groups()) if order else np.arange(math.prod(shape))
        together = re.findall(r"'([^']+)'", named.group(3))
        last = [i for i, (axis, _) in enumerate(axes) if axis in together]
        first = [i for i in range(len(axes)) if i not in last]
        ids = ids.reshape(shape).transpose(first + last)
        return _rows(ids.reshape(math.prod(shape[i] for i in first), -1))
    return frozenset([frozenset(range(devices))])


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(',')]


def _iota(shape: str, order: str | None) -> np.ndarray:
    sizes = _numbers(shape)
    ids = np.arange(math.prod(sizes)).reshape(sizes)
    return ids.transpose(_numbers(order)) if order else ids


def _rows(ids: np.ndarray) -> frozenset[frozenset[int]]:
    return frozenset(frozenset(int(n) for n in row) for row in ids)


def _axes(groups: frozenset[frozenset[int]], mesh_shape: Mapping[str, int]) -> str:
    """The mesh axes along which `groups` run, joined by '+'; '?' if there are none such."""
    names: Sequence[str] = [name for name, size in mesh_shape.items() if size > 1]
    ids = np.arange(math.prod(mesh_shape.values())).reshape([mesh_shape[n] for n in names])
    for count in range(1, len(names) + 1):
        for chosen in itertools.combinations(range(len(names)), count):
            rest = [i for i in range(len(names)) if i not in chosen]
            size = math.prod(ids.shape[i] for i in chosen)
            if _rows(ids.transpose(*rest, *chosen).reshape(-1, size)) == groups:
                return '+'.join(names[i] for i in chosen)
    return '?'
