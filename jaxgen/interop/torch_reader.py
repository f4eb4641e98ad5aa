"""Reads what `torch.save` wrote, without PyTorch and without executing anything in the file.

    read(path) -> dictionaries, lists and tuples of numbers, text and numpy arrays

Two formats: the zip archive of PyTorch 1.6 and later, and the stream of pickles before it. In both
a pickle describes the data and refers to storages, flat arrays that lie beside it; a tensor is a
view of one. `ALLOWED` is all that the pickle may refer to. Arrays are views too, so some are
read-only, and parameters, device and gradient flags are forgotten.
"""

import math
import pathlib
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxgen.errors import UserError
from jaxgen.interop.unpickle import Constructor, Malformed, Record, Unpickler, quoted

MAX_ENTRIES = 200_000  # of a zip
MAX_PICKLE = 2**28  # bytes of the pickle in a zip
MAX_STREAM = 2**34  # bytes of a file of the older format, which is read whole
MAX_DIMENSIONS = 32
MAX_SHARING = 4  # bytes of tensors for each byte of storage

# The integer that begins a file of the older format.
_MAGIC = 0x1950A86A20F9469CFC6C
# What people save instead of the file, by its first bytes.
_SIGNATURES = {
    b'version https://git-lfs': 'a pointer of Git LFS instead of the file: fetch it with git lfs',
    b'<': 'a web page, perhaps that of a failed download',
    b'\x89PNG': 'a PNG picture',
    b'\xff\xd8\xff': 'a JPEG picture',
    b'\x93NUMPY': 'an array of NumPy',
    b'\x89HDF': 'an HDF5 file',
    b'\x1f\x8b': 'compressed by gzip: unpack it first',
}


@dataclass(frozen=True, eq=False)
class Storage:
    """The flat array `[N]` that tensors are views of."""

    elements: np.ndarray

    def declared(self, key: str, dtype: np.dtype, count: int) -> 'Storage':
        """Itself, if it is what another reference to it says."""
        if self.elements.dtype != dtype or len(self.elements) != count:
            raise Malformed(f'it refers to storage {quoted(key)} in two ways')
        return self

    def view(self, offset: int, size: Sequence[int], stride: Sequence[int]) -> np.ndarray:
        """The tensor of this shape; offset and strides count elements, as in PyTorch.

        Raises:
          Malformed: it does not lie inside the storage.
        """
        numbers = (offset, *size, *stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(size) != len(stride):
            raise Malformed('it has a tensor whose offset, shape or strides are not counts')
        if len(size) > MAX_DIMENSIONS:
            raise Malformed(f'it has a tensor of {len(size)} dimensions')
        total = len(self.elements)
        count = math.prod(size)
        if count == 0 and math.prod(max(n, 1) for n in size) < 2**40:
            return np.zeros(size, self.elements.dtype)
        # A dimension of one never moves, whatever its stride says.
        steps = [step if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        last = offset + sum((n - 1) * step for n, step in zip(size, steps, strict=True))
        if not 0 < count <= total or last >= total:
            raise Malformed(
                f'it has a tensor of shape {quoted(str(tuple(size)))} that does not fit into its '
                f'storage of {total} elements'
            )
        steps = [step * self.elements.itemsize for step in steps]
        return np.lib.stride_tricks.as_strided(self.elements[offset:], size, steps, writeable=False)


def read(path: str | pathlib.Path, *, records: Sequence[str] = ()) -> Any:
    """The data of a file of `torch.save`.

    Args:
      records: classes, by 'module.name', whose objects are kept as `Record` where the file has any.

    Raises:
      UserError: there is no such file, it is not one, it is damaged, or it refers to something
        that is not allowed; one line.
    """
    with opened(path) as file:
        return _read(file, {**ALLOWED, **{name: Record(name) for name in records}})


@contextmanager
def opened(path: str | pathlib.Path) -> Iterator[BinaryIO]:
    """A file to read; UserError, in one line, for all that goes wrong with it in the block."""
    name = str(path)
    try:
        with pathlib.Path(path).expanduser().open('rb') as file:
            yield file
    except Malformed as error:
        raise UserError(f'{name!r} is refused: {error}') from error
    except OSError as error:
        raise UserError(f'{name!r} cannot be read: {error.strerror or error}') from error
    except MemoryError as error:
        raise UserError(f'{name!r} does not fit into the memory') from error


def read_stream(
    data: bytes, allowed: Mapping[str, Any], *, records: bool = False, bare: bool = False
) -> Any:
    """The data of a file of the format before PyTorch 1.6.

    Args:
      allowed, records: see `Unpickler`.
      bare: its data are storages, not tensors; they become arrays `[N]`.

    Raises:
      Malformed: it is damaged, or refers to something that is not allowed.
    """
    # Storages come after the pickle that refers to them: room is made first, and filled later.
    storages: dict[str, np.ndarray] = {}
    room = len(data)

    def storage(reference: Any) -> Storage:
        nonlocal room
        dtype, key, count, view = _reference(reference, 6)
        if key not in storages:
            room -= count * dtype.itemsize
            if room < 0:
                raise Malformed(f'its storages are larger than the file: {quoted(key)}')
            storages[key] = np.zeros(count, dtype)
        whole = Storage(storages[key]).declared(key, dtype, count)
        if view is None:
            return whole.elements if bare else whole
        match view:
            case (str(), int(start), int(length)) if 0 <= start <= start + length <= count:
                part = whole.elements[start : start + length]
                return part if bare else Storage(part)
        raise Malformed(f'it has a view of storage {quoted(key)} that is not inside it')

    machine = Unpickler(data, allowed, persistent=storage, records=records)
    magic = machine.load()
    if type(magic) is not int or magic != _MAGIC:
        raise Malformed('it is a pickle, but not one of torch.save')
    machine.load()  # the version of the protocol: there has been one only
    machine.load()  # about the system; data are little-endian whatever it says
    value = machine.load()
    keys = machine.load()
    texts = type(keys) is list and all(type(key) is str for key in keys)
    if not texts or sorted(keys) != sorted(storages):
        raise Malformed('the storages that it lists are not those that it refers to')
    for key in keys:
        elements = storages[key]
        (count,) = struct.unpack('<q', machine.take(8))
        if count != len(elements):
            raise Malformed(f'its storage {quoted(key)} has not the size that it should have')
        elements[:] = _elements(machine.take(elements.nbytes), elements.dtype)
    if machine.position != len(data):
        raise Malformed(f'it goes on for {len(data) - machine.position} bytes after its end')
    return value


def _read(file: BinaryIO, allowed: Mapping[str, Any]) -> Any:
    head = file.read(512)
    size = file.seek(0, 2)
    file.seek(0)
    if head.startswith(b'PK'):
        value = _read_zip(file, size, allowed)
    elif head.startswith(b'\x80'):
        if size > MAX_STREAM:
            raise Malformed(f'it has {size} bytes, at most {MAX_STREAM} are read')
        value = read_stream(file.read(), allowed)
    else:
        raise Malformed(f'it is {_what(head)}; needed is a file of torch.save')
    if (total := _array_bytes(value)) > MAX_SHARING * size:
        raise Malformed(f'it has tensors of {total} bytes in a file of {size}')
    return value


def _read_zip(file: BinaryIO, size: int, allowed: Mapping[str, Any]) -> Any:
    with _errors_of_zip():
        archive = zipfile.ZipFile(file)
    with archive:
        top = _folder(archive.namelist())
        entries = _entries(archive, size)

        def take(name: str, limit: int = size) -> bytes:
            if name not in entries:
                raise Malformed(f'its entry {quoted(name)} is missing')
            if entries[name].file_size > limit:
                raise Malformed(f'its entry {quoted(name)} is larger than {limit} bytes')
            with _errors_of_zip():
                return archive.read(entries[name])

        order = take(f'{top}/byteorder', 16) if f'{top}/byteorder' in entries else b'little'
        if order not in (b'little', b'big'):
            raise Malformed('its byte order is neither little nor big')
        storages: dict[str, Storage] = {}

        def storage(reference: Any) -> Storage:
            dtype, key, count, _ = _reference(reference, 5)
            if key not in storages:
                data = take(f'{top}/data/{key}')
                if len(data) != count * dtype.itemsize:
                    raise Malformed(
                        f'its storage {quoted(key)} has {len(data)} bytes where '
                        f'{quoted(str(count))} elements of {dtype} should be'
                    )
                storages[key] = Storage(_elements(data, dtype, order.decode()))
            return storages[key].declared(key, dtype, count)

        return Unpickler(take(f'{top}/data.pkl', MAX_PICKLE), allowed, persistent=storage).load()


@contextmanager
def _errors_of_zip() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # more kinds than zipfile documents
        raise Malformed(f'it is a damaged zip: {quoted(str(error))}') from error


def _entries(archive: zipfile.ZipFile, size: int) -> Mapping[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in entries:
            raise Malformed(f'its entry {quoted(info.filename)} is there twice')
        # torch.save never compresses. So no entry can be larger than the file.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Malformed(f'its entry {quoted(info.filename)} is compressed')
        entries[info.filename] = info
    if len(entries) > MAX_ENTRIES:
        raise Malformed(f'it has more than {MAX_ENTRIES:,} entries')
    if sum(info.file_size for info in entries.values()) > size:
        raise Malformed('its entries are larger than the file')
    return entries


def _folder(names: Sequence[str]) -> str:
    """The folder in the archive that everything lies in."""
    tops = [name.removesuffix('/data.pkl') for name in names if name.endswith('/data.pkl')]
    tops = [top for top in tops if '/' not in top]
    if len(tops) != 1:
        raise Malformed(f'it is a zip with {len(tops)} data.pkl where torch.save writes one')
    if f'{tops[0]}/constants.pkl' in names:
        raise Malformed('it is a program of TorchScript, not a file of torch.save')
    return tops[0]


def _reference(reference: Any, length: int) -> tuple[np.dtype, str, int, Any]:
    """(dtype, key, number of elements, view or None) of a persistent id."""
    match reference:
        case (str(kind), np.dtype() as dtype, str(key), str(), int(count), *view):
            if kind == 'storage' and len(reference) == length and count >= 0:
                return dtype, key, count, view[0] if view else None
    raise Malformed('it refers to something else than a storage')


def _elements(data: bytes, dtype: np.dtype, order: str = 'little') -> np.ndarray:
    if dtype.kind == 'b':  # any other byte would be neither true nor false
        return np.frombuffer(data, np.uint8) != 0
    if order == sys.byteorder:
        return np.frombuffer(data, dtype)
    # As integers, since not every dtype knows a byte order.
    return np.frombuffer(data, f'u{dtype.itemsize}').byteswap().view(dtype)


def _array_bytes(value: Any) -> int:
    """Of all arrays in a value; each container once."""
    total, seen, queue = 0, set(), [value]
    while queue:
        value = queue.pop()
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            queue.extend(value.values() if isinstance(value, dict) else value)
    return total


def _what(head: bytes) -> str:
    if not head:
        return 'empty'
    for signature, what in _SIGNATURES.items():
        if head.lstrip().startswith(signature):
            return what
    if head[257:262] == b'ustar':
        return 'a tar file, the format of PyTorch before 0.1.10 or something else'
    return 'of an unknown kind'


def _tensor(arguments: tuple) -> np.ndarray:
    match arguments:
        case (Storage() as storage, offset, tuple() | list() as size, tuple() | list() as stride):
            return storage.view(offset, size, stride)
    raise Malformed('it has a tensor that is not made of storage, offset, shape and strides')


def _tensor_v2(arguments: tuple) -> np.ndarray:
    """With a gradient flag, and places for hooks and metadata that are empty in plain tensors."""
    flag, *rest = arguments[4:7] if len(arguments) in (6, 7) else (None,)
    if type(flag) is not bool or any(type(x) not in (dict, type(None)) or x for x in rest):
        raise Malformed('it has a tensor with hooks or metadata')
    return _tensor(arguments[:4])


def _parameter(arguments: tuple) -> np.ndarray:
    match arguments:
        case (np.ndarray() as array, bool(), dict() as hooks) if not hooks:
            return array
    raise Malformed('it has a parameter that is not made of a tensor alone')


def _ordered(arguments: tuple) -> dict:
    match arguments:
        case ():
            return {}
        case (list() as items,) if all(_is_item(item) for item in items):
            return dict(items)  # as Python 2 wrote them
    raise Malformed('it has an ordered dictionary that is not made of names and values')


def _is_item(item: Any) -> bool:
    return type(item) in (list, tuple) and len(item) == 2 and type(item[0]) is str


def _size(arguments: tuple) -> tuple:
    match arguments:
        case (tuple() | list() as sizes,) if all(type(n) is int for n in sizes):
            return tuple(sizes)
    raise Malformed('it has a torch.Size that is not made of integers')


def _device(arguments: tuple) -> str:
    match arguments:
        case (str(kind),):
            return kind
        case (str(kind), int(index)):
            return f'{kind}:{index}'
    raise Malformed('it has a torch.device that is not made of text and a number')


_STORAGES = dict(
    Float=np.float32, Double=np.float64, Half=np.float16, BFloat16=ml_dtypes.bfloat16,
    Long=np.int64, Int=np.int32, Short=np.int16, Char=np.int8, Byte=np.uint8, Bool=np.bool_,
)  # fmt: skip
_DTYPES = ('float64', 'float32', 'float16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool')

ALLOWED: Mapping[str, Any] = {
    'collections.OrderedDict': Constructor(_ordered),
    'torch.Size': Constructor(_size),
    'torch.device': Constructor(_device),
    'torch._utils._rebuild_tensor': Constructor(_tensor),
    'torch._utils._rebuild_tensor_v2': Constructor(_tensor_v2),
    'torch._utils._rebuild_parameter': Constructor(_parameter),
    **{f'torch.{name}Storage': np.dtype(dtype) for name, dtype in _STORAGES.items()},
    **{f'torch.{name}': np.dtype(name) for name in _DTYPES},
    'torch.bfloat16': np.dtype(ml_dtypes.bfloat16),
}
