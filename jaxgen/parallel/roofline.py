"""What a compiled training step asks of each device, and how fast it can be there at best.

    roofline    of each phase: max(FLOPs / peak, main-memory traffic / bandwidth) + collectives
    MFU         model FLOPs / (step time · peak of all devices)

A step is a number of phases, each compiled on its own; one that runs every k-th step counts 1/k in
times, FLOPs and traffic, and in full in the memory.

The roofline is a bound: nothing can be faster, and real programs are slower, since no phase is
limited by the same thing throughout. The compiler's own estimate (the sum of the cycles that it
writes beside each TPU instruction) errs to the other side. Collectives count as hidden behind
nothing, by ring algorithms over two links. Peaks are bfloat16's: at jax's default precision a TPU
multiplies float32 matrices as bfloat16 too. Sizes are bytes on one device.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxgen.errors import UserError
from jaxgen.parallel.hlo import Collective, read_work
from jaxgen.parallel.topology import GIB, Chip, Topology


@dataclasses.dataclass(frozen=True)
class Memory:
    """Main memory of one device during a phase. `aliased`: outputs that reuse their argument."""

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @classmethod
    def of(cls, compiled: jax.stages.Compiled) -> Memory:
        """As the compiler states it."""
        stats = compiled.memory_analysis()
        return cls(
            stats.argument_size_in_bytes,
            stats.output_size_in_bytes,
            stats.alias_size_in_bytes,
            stats.temp_size_in_bytes,
            stats.generated_code_size_in_bytes,
        )

    @property
    def total(self) -> int:
        """Everything at once."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Phase:
    """One compiled phase, per run of it and per device unless it says otherwise.

    Attributes:
        name, every: of the phase; it runs on every `every`-th step.
        seconds: that the compiler took.
        shortage: in what it does not fit, if the compiler gave up; the rest is 0 then.
        memory: what it takes.
        model_flops: of all devices together, without what is computed again.
        flops: matrix FLOPs, with what is computed again.
        traffic: bytes from and to main memory.
        bytes_accessed: XLA's own count, on-chip memory included.
        cycles: that the compiler expects; 0 where it says nothing.
        collectives: what a device sends.
    """

    name: str
    every: int
    seconds: float
    shortage: str | None = None
    memory: Memory = Memory(0, 0, 0, 0, 0)
    model_flops: float = 0.0
    flops: float = 0.0
    traffic: float = 0.0
    bytes_accessed: float = 0.0
    cycles: float = 0.0
    collectives: tuple[Collective, ...] = ()

    def communication(self, chip: Chip) -> float:
        """Seconds of all collectives, one after the other."""
        sent = sum(item.count * item.link_bytes for item in self.collectives)
        return sent / (2 * chip.link_bandwidth)

    def roofline(self, chip: Chip) -> float:
        """Seconds at the very least."""
        work = max(self.flops / chip.flops, self.traffic / chip.bandwidth)
        return work + self.communication(chip)

    def compiler(self, chip: Chip) -> float | None:
        """Seconds by the compiler's cycles; None where it states none."""
        if not (self.cycles and chip.clock):
            return None
        return self.cycles / chip.clock + self.communication(chip)


def compile_phase(
    name: str,
    every: int,
    lowered: jax.stages.Lowered,
    mesh_shape: Mapping[str, int],
    *,
    model_macs: float,
    executed_macs: float,
    options: Mapping[str, str] | None = None,
) -> Phase:
    """Compiles a phase and reads the result; running out of the device's memory is a result too.

    Args:
        name, every: of the phase.
        lowered: for a mesh of `mesh_shape` (axis to size, in the order of its devices).
        model_macs, executed_macs: by `flops.count_macs`, over all devices, of the phase without and
            with rematerialisation.
        options: of the compiler; those that it doesn't know are left out, all together.
    """
    start = time.monotonic()
    try:
        compiled = _compile(lowered, options)
    except jax.errors.JaxRuntimeError as error:
        shortage = shortage_in(str(error))
        if shortage is None:
            raise
        return Phase(name, every, time.monotonic() - start, shortage)
    seconds = time.monotonic() - start
    work = read_work(compiled.as_text(), mesh_shape)
    return Phase(
        name,
        every,
        seconds,
        memory=Memory.of(compiled),
        model_flops=2 * model_macs,
        flops=2 * executed_macs / math.prod(mesh_shape.values()),
        traffic=work.bytes,
        bytes_accessed=(compiled.cost_analysis() or {}).get('bytes accessed', 0.0),
        cycles=work.cycles,
        collectives=work.collectives,
    )


def _compile(lowered: jax.stages.Lowered, options: Mapping[str, str] | None) -> jax.stages.Compiled:
    try:
        return lowered.compile(compiler_options=dict(options or {}) or None)
    except jax.errors.JaxRuntimeError as error:
        if 'No such compile option' not in str(error):
            raise
        return lowered.compile()


def shortage_in(message: str) -> str | None:
    """What the compiler says of a program that does not fit; None for any other of its errors."""
    if 'RESOURCE_EXHAUSTED' not in message:
        return None
    used = re.search(r'Used ([\d.]+[KMG]) of ([\d.]+[KMG])', message)
    if used:
        return f'{used.group(1)}iB of {used.group(2)}iB'
    alone = re.search(r'\((\S+[KMG])\) exceeds available \w+ \((\S+[KMG])\)', message)
    if alone:
        return f'{alone.group(1)}iB of {alone.group(2)}iB for temporaries alone'
    return message.splitlines()[0]


@dataclasses.dataclass(frozen=True)
class Fields:
    """The config fields that decide on the memory, to say which of them would help.

    `parts`: name in the config to fields, of which `remat` and `dtype` are looked at.
    """

    batch: int
    pixel: int = 1
    parts: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def advice(self, devices: int) -> tuple[str, ...]:
        """Changes that make a step smaller, each with its reason; the cheapest first."""
        lines = [
            f'{name}.dtype=bfloat16 (halves its activations)'
            for name, part in self.parts.items()
            if part['dtype'] != 'bfloat16'
        ]
        lines += [
            f'{name}.remat=True (keeps only the inputs of its blocks, for more FLOPs)'
            for name, part in self.parts.items()
            if not part.get('remat', True)  # A network without the field can't.
        ]
        if self.batch > devices:
            fewer = devices * max(1, self.batch // devices // 2)
            lines.append(f'batch_size={fewer} (fewer images a device)')
        else:
            lines.append(f'mesh.pixel={2 * self.pixel} (more devices for the pixels of an image)')
        return (*lines, 'a larger slice')


@dataclasses.dataclass(frozen=True)
class Speed:
    """An estimate: seconds a step, and what they mean. `mfu`: share of the peak, 0 to 1."""

    step: float
    images_per_second: float
    images_per_second_per_chip: float
    mfu: float


@dataclasses.dataclass(frozen=True)
class Report:
    """A training step on the devices of `topology`."""

    topology: Topology
    phases: tuple[Phase, ...]
    fields: Fields

    @property
    def memory(self) -> int:
        """Bytes on one device: the largest phase, and the code of all of them."""
        code = sum(phase.memory.code for phase in self.phases)
        return code + max(phase.memory.total - phase.memory.code for phase in self.phases)

    @property
    def shortage(self) -> str | None:
        """In what the step does not fit; None where it does, or where the memory is not known."""
        for phase in self.phases:
            if phase.shortage:
                return f'the phase {phase.name!r} needs {phase.shortage}'
        chip = self.topology.device
        if chip and self.memory > chip.memory:
            return f'it needs {self.memory / GIB:.2f}GiB of {chip.memory / GIB:.2f}GiB'
        return None

    def require_fit(self) -> None:
        """Raises UserError, with the fields that would help, where the step does not fit."""
        if self.shortage:
            advice = ', '.join(self.fields.advice(len(self.topology.devices)))
            raise UserError(
                f'the step does not fit a device of {self.topology.name}: {self.shortage}; '
                f'what would help: {advice}'
            )

    def roofline(self) -> Speed | None:
        """The bound; None without known peaks or without all phases."""
        chip = self.topology.device
        return self._speed([phase.roofline(chip) for phase in self.phases] if chip else [None])

    def compiler(self) -> Speed | None:
        """By the compiler's cycles; None where they are not known."""
        chip = self.topology.device
        return self._speed([phase.compiler(chip) for phase in self.phases] if chip else [None])

    def _speed(self, times: Sequence[float | None]) -> Speed | None:
        if None in times or any(phase.shortage for phase in self.phases):
            return None
        step = sum(t / phase.every for t, phase in zip(times, self.phases, strict=True))
        flops = sum(phase.model_flops / phase.every for phase in self.phases)
        devices, chips = len(self.topology.devices), self.topology.chips
        rate = self.fields.batch / step
        mfu = flops / (step * devices * self.topology.device.flops)
        return Speed(step, rate, rate / chips, mfu)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        chip, roofline, compiler = self.topology.device, self.roofline(), self.compiler()
        return {
            'topology': self.topology.name,
            'devices': len(self.topology.devices),
            'chips': self.topology.chips,
            'batch': self.fields.batch,
            'memory': self.memory,
            'capacity': chip and chip.memory,
            'fits': self.shortage is None,
            'shortage': self.shortage,
            'advice': self.fields.advice(len(self.topology.devices)) if self.shortage else [],
            'phases': [dataclasses.asdict(phase) for phase in self.phases],
            'roofline': roofline and dataclasses.asdict(roofline),
            'compiler': compiler and dataclasses.asdict(compiler),
        }

    def render(self) -> str:
        """The report as lines for a person; everything is per device and per run of a phase."""
        chip = self.topology.device
        lines = [f'{self.topology.name}: {self.topology.chips} chips, per device:']
        for phase in self.phases:
            lines += _phase_lines(phase, chip)
        limit = f' of{_size(chip.memory)} ({self.memory / chip.memory:.0%})' if chip else ''
        lines.append(f'{"memory":<16}{_size(self.memory)}{limit}')
        for name, speed in (('at best', self.roofline()), ('by compiler', self.compiler())):
            if speed:
                lines.append(
                    f'{name:<16}{1e3 * speed.step:8.1f} ms a step, '
                    f'{speed.images_per_second:.0f} img/s '
                    f'({speed.images_per_second_per_chip:.1f} a chip), MFU {speed.mfu:.0%}'
                )
        if not chip:
            lines.append('no estimate of speed: the peaks of these devices are not known')
        return '\n'.join(lines)


def _phase_lines(phase: Phase, chip: Chip | None) -> list[str]:
    every = f', every {phase.every} steps' if phase.every > 1 else ''
    lines = [f'{phase.name}{every} (compiled in {phase.seconds:.0f} s)']
    if phase.shortage:
        return [*lines, f'  does not fit  {phase.shortage}']
    kinds = dataclasses.asdict(phase.memory) | {'total': phase.memory.total}
    lines += [f'  memory        {_size(size)} {kind}' for kind, size in kinds.items()]
    lines += [
        f'  matrix FLOPs  {phase.flops / 1e9:8.4g} G',
        f'  traffic       {_size(phase.traffic)} (XLA, with on-chip memory:'
        f'{_size(phase.bytes_accessed)})',
    ]
    sent = [item.count * item.link_bytes for item in phase.collectives]
    small = 0.0
    for item, size in zip(phase.collectives, sent, strict=True):
        if 1e3 * size < sum(sent):
            small += item.count
            continue
        along = 'groups' if item.axes == '?' else item.axes
        lines.append(
            f'  sends         {_size(item.bytes)} × {item.count:<3.4g} {item.kind} '
            f'over {along} of {item.group}'
        )
    if small:
        lines.append(f'  sends         {small:.4g} small ones')
    if chip:
        lines.append(
            f'  roofline      {1e3 * phase.roofline(chip):8.1f} ms: '
            f'{1e3 * phase.flops / chip.flops:.1f} compute or '
            f'{1e3 * phase.traffic / chip.bandwidth:.1f} memory, and '
            f'{1e3 * phase.communication(chip):.1f} collectives'
        )
    return lines


def _size(count: float) -> str:
    for power, unit in ((30, 'GiB'), (20, 'MiB')):
        if count >= 2**power:
            return f'{count / 2**power:8.2f} {unit}'
    return f'{count / 2**10:8.2f} KiB'
