"""Writes files of `torch.save` by hand, opcode by opcode, so that any of them can be spoiled.

`dumps` is a pickler for plain data and arrays; `zip_file` and `stream` put what lies around it.
"""

import io
import struct
import warnings
import zipfile

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
SYSTEM = {
    'protocol_version': PROTOCOL,
    'little_endian': True,
    'type_sizes': {'short': 2, 'int': 4, 'long': 4},
}
STORAGES = {
    np.dtype(np.float32): 'FloatStorage',
    np.dtype(np.float64): 'DoubleStorage',
    np.dtype(np.float16): 'HalfStorage',
    np.dtype(ml_dtypes.bfloat16): 'BFloat16Storage',
    np.dtype(np.int64): 'LongStorage',
    np.dtype(np.int32): 'IntStorage',
    np.dtype(np.int16): 'ShortStorage',
    np.dtype(np.int8): 'CharStorage',
    np.dtype(np.uint8): 'ByteStorage',
    np.dtype(np.bool_): 'BoolStorage',
}


def text(value):
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def integer(value):
    if 0 <= value < 256:
        return b'K' + bytes([value])
    if -(2**31) <= value < 2**31:
        return b'J' + struct.pack('<i', value)
    data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data


def named(module, name):
    return f'c{module}\n{name}\n'.encode()


def tuple_of(*items):
    return b'(' + b''.join(items) + b't'


def call(module, name, *arguments):
    return named(module, name) + tuple_of(*arguments) + b'R'


def dictionary(items, start=b'}'):
    return start + b'(' + b''.join(items) + b'u'


EMPTY = call('collections', 'OrderedDict')


def storage(kind='FloatStorage', key='0', count=4, *, module='torch', view=None):
    """A persistent id; `view` is its sixth entry, which only streams have."""
    entries = [text('storage'), named(module, kind), text(key), text('cpu'), integer(count)]
    return tuple_of(*entries, *([view] if view else [])) + b'Q'


def tensor(place=None, offset=0, size=(4,), stride=(1,), *, hooks=EMPTY, flag=b'\x89'):
    place = place or storage()
    shape, steps = (tuple_of(*map(integer, counts)) for counts in (size, stride))
    return call('torch._utils', '_rebuild_tensor_v2', place, integer(offset), shape, steps, flag,
                hooks)  # fmt: skip


def pickled(*body):
    return b'\x80\x02' + b''.join(body) + b'.'


class Storages:
    """Numbers arrays as they come: a view of another array shares its storage."""

    def __init__(self, legacy):
        self.arrays = []
        self._legacy = legacy

    def __call__(self, array):
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        assert root.flags.c_contiguous
        numbers = [i for i, other in enumerate(self.arrays) if other is root]
        if not numbers:
            numbers = [len(self.arrays)]
            self.arrays.append(root)
        where = array.__array_interface__['data'][0] - root.__array_interface__['data'][0]
        kind = STORAGES[array.dtype]
        view = b'N' if self._legacy else None
        place = storage(kind, str(numbers[0]), root.size, view=view)
        strides = [stride // array.itemsize for stride in array.strides]
        return tensor(place, where // array.itemsize, array.shape, strides)


def dumps(value, storages):
    """The opcodes of a value, without PROTO and STOP."""
    if isinstance(value, np.ndarray):
        return storages(value)
    if isinstance(value, dict):
        pairs = (dumps(key, storages) + dumps(item, storages) for key, item in value.items())
        return dictionary(pairs, EMPTY)
    if isinstance(value, list):
        return b'](' + b''.join(dumps(item, storages) for item in value) + b'e'
    if isinstance(value, tuple):
        return tuple_of(*(dumps(item, storages) for item in value))
    if isinstance(value, bool) or value is None:
        return {None: b'N', True: b'\x88', False: b'\x89'}[value]
    if isinstance(value, float):
        return b'G' + struct.pack('>d', value)
    return text(value) if isinstance(value, str) else integer(value)


def zip_file(entries, *, compression=zipfile.ZIP_STORED):
    """A zip of (name, bytes) pairs; names may repeat."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        for name, data in entries:
            with warnings.catch_warnings():  # of names that are there already
                warnings.simplefilter('ignore')
                archive.writestr(name, data)
    return file.getvalue()


def archive(pickle, storages=((4 * b'\0\0\x80?'),), *, order=None, extra=()):
    """A zip as `torch.save` writes it, around a pickle and the bytes of its storages."""
    entries = [('archive/data.pkl', pickle)]
    if order:
        entries.append(('archive/byteorder', order))
    entries += [(f'archive/data/{i}', data) for i, data in enumerate(storages)]
    return zip_file([*entries, ('archive/version', b'3\n'), *extra])


def stream(pickle, storages=(), *, magic=MAGIC, keys=None, system=SYSTEM):
    """A file as `torch.save` wrote it before PyTorch 1.6; `storages` are arrays."""
    keys = [str(i) for i in range(len(storages))] if keys is None else keys
    head = [pickled(dumps(value, None)) for value in (magic, PROTOCOL, system)]
    tail = [struct.pack('<q', array.size) + array.tobytes() for array in storages]
    return b''.join([*head, pickle, pickled(dumps(keys, None)), *tail])


def save_zip(value, *, big_endian=False):
    """The bytes of a zip with this value."""
    storages = Storages(legacy=False)
    pickle = pickled(dumps(value, storages))
    arrays = storages.arrays
    if big_endian:
        arrays = [array.view(f'u{array.itemsize}').byteswap() for array in arrays]
    order = b'big' if big_endian else b'little'
    return archive(pickle, [array.tobytes() for array in arrays], order=order)


def save_stream(value):
    """The bytes of an older file with this value."""
    storages = Storages(legacy=True)
    pickle = pickled(dumps(value, storages))
    return stream(pickle, storages.arrays)
