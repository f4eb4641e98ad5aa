"""Writes what `torch.load` reads, without PyTorch: dictionaries of text, numbers, float32 arrays.

The zip archive of PyTorch 1.6 and later: a pickle describes the data, and each array lies beside it
as a storage of its own. The pickle is put together opcode by opcode (protocol 2), since Python's
pickler would import the classes that it names. `jaxgen.interop.torch_reader` is the other way.
"""

import pathlib
import pickle
import struct
import sys
import zipfile
from typing import Any

import numpy as np

FORMAT = b'3\n'
_FOLDER = 'archive'


def write(path: str | pathlib.Path, value: Any) -> None:
    """Writes `value` to `path`.

    Args:
      value: dictionaries, lists and tuples of None, True, False, whole numbers of 32 bits, floats,
        text, and float32 arrays, which PyTorch reads as tensors on the CPU.

    Raises:
      TypeError: something else is in it. OSError: the file can't be written.
    """
    storages: list[np.ndarray] = []
    body = pickle.PROTO + b'\x02' + _dumped(value, storages) + pickle.STOP
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr(f'{_FOLDER}/data.pkl', body)
        archive.writestr(f'{_FOLDER}/byteorder', sys.byteorder.encode())
        for i, array in enumerate(storages):
            with archive.open(f'{_FOLDER}/data/{i}', 'w', force_zip64=True) as file:
                file.write(array.data)
        archive.writestr(f'{_FOLDER}/version', FORMAT)


def _dumped(value: Any, storages: list[np.ndarray]) -> bytes:
    """The opcodes that leave `value` on the stack; its arrays are added to `storages`."""
    if isinstance(value, np.ndarray):
        return _tensor(value, storages)
    if isinstance(value, dict):
        items = [part for item in value.items() for part in item]
        return pickle.EMPTY_DICT + _marked(items, storages) + pickle.SETITEMS
    if isinstance(value, list):
        return pickle.EMPTY_LIST + _marked(value, storages) + pickle.APPENDS
    if isinstance(value, tuple):
        return _marked(value, storages) + pickle.TUPLE
    if value is None:
        return pickle.NONE
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack('<i', value)
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack('>d', value)
    if isinstance(value, str):
        data = value.encode()
        return pickle.BINUNICODE + struct.pack('<I', len(data)) + data
    raise TypeError(f'a {type(value).__name__} cannot be written: {value!r:.80}')


def _marked(items: Any, storages: list[np.ndarray]) -> bytes:
    return pickle.MARK + b''.join(_dumped(item, storages) for item in items)


def _tensor(array: np.ndarray, storages: list[np.ndarray]) -> bytes:
    """A call of PyTorch's own: (storage, offset, shape, strides, needs gradients, hooks)."""
    if array.dtype != np.float32:
        raise TypeError(f'arrays must be float32, got {array.dtype}')
    shape, key = array.shape, str(len(storages))
    # Flat: `ascontiguousarray` would give a number the shape [1], and an empty array has no bytes.
    storages.append(np.ascontiguousarray(array).reshape(-1))
    strides = tuple(np.cumprod((1, *shape[:0:-1])).tolist()[::-1]) if shape else ()
    place = [_dumped(text, storages) for text in ('storage', key, 'cpu')]
    place.insert(1, _named('torch', 'FloatStorage'))
    reference = (
        pickle.MARK + b''.join(place) + _dumped(array.size, storages) + pickle.TUPLE
    ) + pickle.BINPERSID
    hooks = _named('collections', 'OrderedDict') + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = b''.join(_dumped(part, storages) for part in (0, shape, strides, False))
    call = pickle.MARK + reference + arguments + hooks + pickle.TUPLE + pickle.REDUCE
    return _named('torch._utils', '_rebuild_tensor_v2') + call


def _named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode()
