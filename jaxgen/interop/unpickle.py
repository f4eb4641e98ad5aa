"""A pickle machine that makes plain data and nothing else.

Python's own `pickle` imports and calls whatever a file names. This one knows the instructions that
picklers of protocol 2 and later write for data. What a file names is looked up in the caller's
table and nowhere else: anything that is not there is refused by name or, where the caller asks for
it, kept as a `Record` of what the file would have made.

The result is finite: None, numbers, text, bytes, dtypes, arrays, records, and lists, tuples and
dictionaries of these, no container inside itself. A file can keep the machine busy for
`MAX_OPCODES` instructions, and lengths and indices in it allocate nothing beyond its own size.
"""

import dataclasses
import pickletools
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

MAX_OPCODES = 2_000_000
MAX_DEPTH = 100  # of containers within containers
MAX_VALUES = 10_000_000  # in the result, where a container that stands in it twice counts twice
MAX_NAME = 200  # bytes of the name of a module or class
MAX_INTEGER = 64  # bytes
LAST_PROTOCOL = 5

_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_NUMBERS = {'BININT': '<i', 'BININT1': 'B', 'BININT2': '<H', 'BINFLOAT': '>d'}
# Those that begin with a length, and how it is stored. Strings of Python 2 count as text.
_INTEGERS = {'LONG1': 'B', 'LONG4': '<i'}
_BYTES = {'SHORT_BINBYTES': 'B', 'BINBYTES': '<I', 'BINBYTES8': '<Q'}
_TEXTS = {
    'SHORT_BINUNICODE': 'B', 'BINUNICODE': '<I', 'BINUNICODE8': '<Q',
    'SHORT_BINSTRING': 'B', 'BINSTRING': '<i',
}  # fmt: skip
_GETS = {'BINGET': 'B', 'LONG_BINGET': '<I'}
_PUTS = {'BINPUT': 'B', 'LONG_BINPUT': '<I'}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}

# Exact types: a tuple's hash would go down its elements without a bound.
_KEYS = (str, int, float, bool, bytes, type(None))
_LEAVES = (*_KEYS, np.ndarray)


class Malformed(Exception):
    """Why a file is refused, in words that follow its name; readers make a UserError of it."""


@dataclasses.dataclass(frozen=True)
class Constructor:
    """Something that a file may call. `call` gets the tuple of the file's arguments, unchecked."""

    call: Callable[[tuple], Any]


@dataclasses.dataclass(eq=False)
class Record:
    """What the file would have made of a class that is not in the table: never looked up or run.

    Attributes:
      name: 'module.name'.
      arguments: of the call; None where the class is only mentioned.
      state: what would have become its attributes.
      items: what would have been set by key.
    """

    name: str
    arguments: tuple | None = None
    state: Any = None
    items: dict = dataclasses.field(default_factory=dict)


def quoted(text: str) -> str:
    """Text out of a file for a message: printable ASCII, shortened."""
    return ascii(text if len(text) <= MAX_NAME else f'{text[:MAX_NAME]}…')


class Unpickler:
    """Reads one pickle after the other from `data`; `position` is behind the last one.

    Args:
      data: bytes or a view of them.
      allowed: 'module.name' to a `Constructor`, or to the value that the name stands for.
      persistent: makes the object that a persistent id stands for; None: there must be none.
      records: keep what is not allowed as `Record` instead of refusing it.
      sets: takes sets too, as lists.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        allowed: Mapping[str, Any],
        *,
        persistent: Callable[[Any], Any] | None = None,
        records: bool = False,
        sets: bool = False,
    ) -> None:
        self.position = 0
        self._data = memoryview(data)
        self._allowed = allowed
        self._persistent = persistent
        self._records = records
        self._actions = _ACTIONS | _SETS if sets else _ACTIONS
        self._count = 0
        self._reset()

    def load(self) -> Any:
        """The next pickle's value.

        Raises:
          Malformed: it is damaged, or not plain data.
        """
        self._reset()
        while (name := self._next()) != 'STOP':
            self._step(name)
        if len(self._stack) != 1 or self._marks:
            raise Malformed('its pickle ends with something left over')
        value = self._stack[0]
        check_plain(value)
        self._reset()
        return value

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if not 0 <= count <= len(self._data) - self.position:
            raise Malformed('it ends in the middle, or a length in it is wrong')
        self.position += count
        return bytes(self._data[self.position - count : self.position])

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def _next(self) -> str:
        self._count += 1
        if self._count > MAX_OPCODES:
            raise Malformed(f'its pickle has more than {MAX_OPCODES:,} instructions')
        code = self.take(1)[0]
        if code not in _NAMES:
            raise Malformed(f'byte {code} at {self.position - 1} is no pickle instruction')
        return _NAMES[code]

    def _step(self, name: str) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            self._stack.append(self._number(_NUMBERS[name]))
        elif name in _TEXTS:
            self._stack.append(_decode(self.take(self._number(_TEXTS[name]))))
        elif name in _BYTES:
            self._stack.append(self.take(self._number(_BYTES[name])))
        elif name in _INTEGERS:
            self._integer(self._number(_INTEGERS[name]))
        elif name in _GETS:
            self._get(self._number(_GETS[name]))
        elif name in _PUTS:
            self._put(self._number(_PUTS[name]))
        elif name in _TUPLES:
            self._stack.append(tuple([self._pop() for _ in range(_TUPLES[name])][::-1]))
        elif name in self._actions:
            self._actions[name](self)
        else:
            raise Malformed(f'its pickle has the instruction {name}, which is not allowed')

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def _integer(self, length: int) -> None:
        if length > MAX_INTEGER:
            raise Malformed(f'it has an integer of {length} bytes')
        self._stack.append(int.from_bytes(self.take(length), 'little', signed=True))

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise Malformed('its pickle takes from an empty stack')
        return self._stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self._stack.pop()

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise Malformed('its pickle goes back to a mark that is not there')
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise Malformed(f'its pickle refers to object {index}, which is not there')
        self._stack.append(self._memo[index])

    def _put(self, index: int) -> None:
        if index >= MAX_OPCODES:
            raise Malformed(f'its pickle gives an object the number {index}')
        self._memo[index] = self._top()

    def _protocol(self) -> None:
        if (version := self.take(1)[0]) > LAST_PROTOCOL:
            raise Malformed(f'its pickle protocol is {version}, known are those up to 5')

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise Malformed(f'its pickle appends to a {type(target).__name__}')
        target.extend(values)

    def _append(self) -> None:
        self._extend([self._pop()])

    def _update(self, values: list[Any]) -> None:
        target = self._top()
        target = target.items if isinstance(target, Record) else target
        if type(target) is not dict or len(values) % 2:
            raise Malformed(f'its pickle sets items of a {type(target).__name__}')
        for key in values[0::2]:
            if type(key) not in _KEYS:
                raise Malformed(f'it has a {type(key).__name__} as the key of a dictionary')
        target.update(zip(values[0::2], values[1::2], strict=True))

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _global(self) -> None:
        self._stack.append(self._find(self._line(), self._line()))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise Malformed('it names a class by something else than text')
        self._stack.append(self._find(module, name))

    def _line(self) -> str:
        rest = bytes(self._data[self.position : self.position + MAX_NAME + 1])
        line, end, _ = rest.partition(b'\n')
        if not end:
            raise Malformed('it has a name without an end')
        self.position += len(line) + 1
        return _decode(line)

    def _find(self, module: str, name: str) -> Any:
        full = f'{module}.{name}'
        if full in self._allowed:
            return self._allowed[full]
        if self._records:
            return Record(full)
        raise Malformed(f'it refers to {quoted(full)}, which is not allowed')

    def _call(self) -> None:
        arguments, target = self._pop(), self._pop()
        if type(arguments) is not tuple:
            raise Malformed(f'its pickle calls with a {type(arguments).__name__} as arguments')
        if isinstance(target, Constructor):
            self._stack.append(target.call(arguments))
        elif isinstance(target, Record) and target.arguments is None:
            self._stack.append(Record(target.name, arguments))
        else:
            raise Malformed(f'its pickle calls a {type(target).__name__}')

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Record) and target.state is None:
            target.state = state
        elif type(target) is not dict:
            raise Malformed(f'its pickle sets attributes of a {type(target).__name__}')
        # A state dict carries the versions of its modules in an attribute. Nothing needs them.
        elif type(state) is not dict or not state.keys() <= {'_metadata'}:
            raise Malformed('its pickle sets attributes of a dictionary')

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise Malformed('its pickle refers to data outside')
        self._stack.append(self._persistent(self._pop()))


_ACTIONS: dict[str, Callable[[Unpickler], Any]] = {
    'PROTO': Unpickler._protocol,
    'FRAME': lambda machine: machine.take(8),
    'MARK': Unpickler._mark,
    'MEMOIZE': lambda machine: machine._put(len(machine._memo)),
    'EMPTY_LIST': lambda machine: machine._stack.append([]),
    'EMPTY_DICT': lambda machine: machine._stack.append({}),
    'TUPLE': lambda machine: machine._stack.append(tuple(machine._pop_mark())),
    'APPEND': Unpickler._append,
    'APPENDS': lambda machine: machine._extend(machine._pop_mark()),
    'SETITEM': Unpickler._set_item,
    'SETITEMS': lambda machine: machine._update(machine._pop_mark()),
    'GLOBAL': Unpickler._global,
    'STACK_GLOBAL': Unpickler._stack_global,
    'REDUCE': Unpickler._call,
    'NEWOBJ': Unpickler._call,
    'BUILD': Unpickler._build,
    'BINPERSID': Unpickler._persistent_id,
}
_SETS = {'EMPTY_SET': _ACTIONS['EMPTY_LIST'], 'ADDITEMS': _ACTIONS['APPENDS']}


def check_plain(value: Any) -> None:
    """Refuses a value that can't be walked through safely; walks without recursion itself.

    Raises:
      Malformed: a container inside itself, one too deep, more than `MAX_VALUES` values when
        repeated containers are written out, or something that is not data.
    """
    known: dict[int, tuple[int, int]] = {}  # container -> (depth, values), where walked through
    path = [_Visit(0, iter((value,)))]  # from the root to where we are
    on_path = set()
    while True:
        visit = path[-1]
        child = next(visit.children, _END)
        below = 0
        if child is _END:
            path.pop()
            if not path:
                return
            on_path.discard(visit.key)
            known[visit.key] = visit.depth, visit.values
            path[-1].add(visit.depth, visit.values)
        elif type(child) in _LEAVES or isinstance(child, np.dtype):
            visit.values += 1
        elif (key := id(child)) in known:
            below = known[key][0]
            visit.add(*known[key])
        elif key in on_path:
            raise Malformed('it has a container inside itself')
        else:
            on_path.add(key)
            path.append(_Visit(key, _children(child)))
        if len(path) + below > MAX_DEPTH + 1:
            raise Malformed(f'it is nested deeper than {MAX_DEPTH} levels')
        if path[-1].values > MAX_VALUES:
            raise Malformed(f'it unfolds to more than {MAX_VALUES:,} values')


_END = object()


@dataclasses.dataclass
class _Visit:
    """A container being walked through: what is still to come, and what has been below it."""

    key: int
    children: Iterator[Any]
    depth: int = 1
    values: int = 1

    def add(self, depth: int, values: int) -> None:
        self.depth = max(self.depth, depth + 1)
        self.values += values


def _children(value: Any) -> Iterator[Any]:
    if type(value) in (list, tuple):
        return iter(value)
    if type(value) is dict:
        return iter(value.values())
    if isinstance(value, Record):
        return iter((value.arguments, value.state, value.items))
    raise Malformed(f'it holds a bare {type(value).__name__}, which is no data')


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Malformed('it has text that is not UTF-8') from None
