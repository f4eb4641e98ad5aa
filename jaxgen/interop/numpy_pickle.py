"""Reads a pickle of numpy arrays in dictionaries and lists; nothing in it is looked up or run.

The machine of `interop.unpickle` keeps every class that the file names as a `Record`. Here those
that make up an array become one, and any other is refused by name.
"""

import math
import pathlib
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.interop.unpickle import Malformed, Record, Unpickler, quoted

MAX_BYTES = 2**31
MAX_DIMENSIONS = 32

_RECONSTRUCT = ('numpy.core.multiarray._reconstruct', 'numpy._core.multiarray._reconstruct')
_DTYPES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8')


def read(path: str | pathlib.Path) -> Any:
    """The data of a file: dictionaries, lists, tuples, numbers, text and arrays.

    Raises:
      UserError: no such file, it is damaged, or it has something else in it; one line.
    """
    name = str(path)
    try:
        with pathlib.Path(path).expanduser().open('rb') as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise Malformed(f'it is larger than {MAX_BYTES} bytes')
        return loads(data)
    except Malformed as error:
        raise UserError(f'{name!r} is refused: {error}') from error
    except OSError as error:
        raise UserError(f'{name!r} cannot be read: {error.strerror or error}') from error


def loads(data: bytes) -> Any:
    """As `read`, from bytes.

    Raises:
      Malformed: why it is refused.
    """
    machine = Unpickler(data, {}, records=True)
    value = machine.load()
    if machine.position != len(data):
        raise Malformed(f'it goes on for {len(data) - machine.position} bytes after its end')
    return _plain(value, {})


def _plain(value: Any, known: dict[int, np.ndarray]) -> Any:
    # The machine has checked that this ends: no container inside itself, at most 100 levels.
    if type(value) is dict:
        return {key: _plain(item, known) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item, known) for item in value)
    if isinstance(value, Record):
        if id(value) not in known:
            known[id(value)] = _array(value)
        return known[id(value)]
    return value


def _array(record: Record) -> np.ndarray:
    if record.name not in _RECONSTRUCT or record.items:
        raise Malformed(f'it refers to {quoted(record.name)}, which is not allowed')
    match record.arguments, record.state:
        case (
            (Record(name='numpy.ndarray', arguments=None), (0,), b'b'),
            (1, tuple() as shape, Record() as kind, bool() as fortran, bytes() as elements),
        ):
            dtype = _dtype(kind)
        case _:
            raise Malformed('it has an array that numpy did not write')
    counts = all(type(n) is int and n >= 0 for n in shape) and len(shape) <= MAX_DIMENSIONS
    if not counts or math.prod(shape) * dtype.itemsize != len(elements):
        raise Malformed(f'it has an array whose shape {quoted(str(shape))} is not that of its data')
    return np.frombuffer(elements, dtype).reshape(shape, order='F' if fortran else 'C')


def _dtype(record: Record) -> np.dtype:
    match record.name, record.arguments, record.state:
        case 'numpy.dtype', (str(code), *_), (3, '<' | '|', None, None, None, -1, -1, 0):
            if code in _DTYPES:
                return np.dtype(code).newbyteorder('<')
    raise Malformed('it has an array that is not of plain little-endian numbers')
