"""A file that is damaged, or made to do harm, is refused with one line, and nothing happens.

What would be executed makes a folder 'marker'; Python's own unpickler shows that it works.
"""

import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import torch_reader, unpickle
from tests.interop import torch_files as files
from tests.interop.torch_files import (
    EMPTY,
    archive,
    call,
    dictionary,
    integer,
    named,
    pickled,
    storage,
    stream,
    tensor,
    text,
    tuple_of,
)

COMMAND = text("__import__('os').mkdir('marker')")
SHELL = text('mkdir marker')
METADATA = text('_metadata')

# What a pickle calls, and the name that the refusal must give.
CALLS = {
    'posix.mkdir': call('posix', 'mkdir', text('marker')),
    'os.system': call('os', 'system', SHELL),
    'posix.system': call('posix', 'system', SHELL),
    'nt.system': call('nt', 'system', SHELL),
    'builtins.eval': call('builtins', 'eval', COMMAND),
    'builtins.exec': call('builtins', 'exec', COMMAND),
    '__builtin__.eval': call('__builtin__', 'eval', COMMAND),
    'subprocess.check_output': call('subprocess', 'check_output', tuple_of(SHELL)),
    'builtins.__import__': call('builtins', '__import__', text('antigravity')),
    # Chains, where the innermost name is met first.
    'builtins.getattr': call('builtins', 'getattr', named('builtins', 'dict'), text('get')),
    'operator.attrgetter': call('operator', 'attrgetter', text('__globals__')),
    'functools.partial': call('functools', 'partial', named('posix', 'mkdir')),
    'runpy._run_code': call('runpy', '_run_code', COMMAND, b'}'),
    'marshal.loads': call('marshal', 'loads', text('x')),
    'io.open': call('io', 'open', text('marker'), text('w')),
    'pickle.loads': call('pickle', 'loads', text('x')),
    'torch.load': call('torch', 'load', text('other.pt')),
    'torch.storage._load_from_bytes': call('torch.storage', '_load_from_bytes', text('x')),
    'torch._utils._rebuild_sparse_tensor': call('torch._utils', '_rebuild_sparse_tensor'),
    'torch._utils._rebuild_qtensor': call('torch._utils', '_rebuild_qtensor'),
    'torch._tensor._rebuild_from_type_v2': call('torch._tensor', '_rebuild_from_type_v2'),
    'torch.ComplexFloatStorage': tensor(storage('ComplexFloatStorage')),
    'torch.storage.UntypedStorage': tensor(storage('UntypedStorage', module='torch.storage')),
    'numpy.core.multiarray._reconstruct': call('numpy.core.multiarray', '_reconstruct'),
    'collections.OrderedDict.fromkeys': call('collections', 'OrderedDict.fromkeys', SHELL),
    'argparse.Namespace': named('argparse', 'Namespace') + b')\x81',
    'codecs.encode': text('codecs') + text('encode') + b'\x93',
}
CALLS['posix.mkdir '] = call('collections', 'OrderedDict', CALLS['posix.mkdir'])
CALLS['posix.mkdir  '] = call('torch', 'Size', tuple_of(tuple_of(CALLS['posix.mkdir'])))


def doubled(times):
    """A tuple of twice the one before, that many times over: 2^times values in a few bytes."""
    steps = (b'h%c\x86q%c' % (i, i + 1) for i in range(times))
    return b')q\0' + b''.join(steps)


# The opcodes of a value, and words of the refusal.
PICKLES = {
    # Instructions that are not there.
    'INST': (b'(' + text('marker') + b'iposix\nmkdir\n', 'INST'),
    'OBJ': (b'(' + named('posix', 'mkdir') + text('marker') + b'o', 'posix.mkdir'),
    'OBJ of an allowed class': (b'(' + named('collections', 'OrderedDict') + b'o', 'OBJ'),
    'EXT1': (b'\x82\1', 'EXT1'),
    'EXT2': (b'\x83\1\0', 'EXT2'),
    'EXT4': (b'\x84\1\0\0\0', 'EXT4'),
    'PERSID': (b'P0\n', 'PERSID'),
    'NEWOBJ_EX': (named('torch', 'Size') + b')}\x92', 'NEWOBJ_EX'),
    'BYTEARRAY8': (b'\x96' + struct.pack('<Q', 2**62), 'BYTEARRAY8'),
    'NEXT_BUFFER': (b'\x97', 'NEXT_BUFFER'),
    'EMPTY_SET': (b'\x8f', 'EMPTY_SET'),
    'FROZENSET': (b'(\x91', 'FROZENSET'),
    'DUP': (b'N2', 'DUP'),
    'INT': (b'I' + b'9' * 5000 + b'\n', 'INT'),
    'STRING': (b"S'a'\n", 'STRING'),
    'no instruction': (b'\xff', 'byte 255'),
    'a later protocol': (b'\x80\x09N', 'protocol is 9'),
    # Names.
    'a name that is a number': (b'K\1K\2\x93', 'something else than text'),
    'a name that is a list': (text('os') + b']\x93', 'something else than text'),
    'a name without an end': (b'cos' + b'x' * 5000, 'without an end'),
    'a name that is not UTF-8': (b'c\xff\n\xfe\n', 'UTF-8'),
    'a name with escapes': (b'c\x1b[2J\nhidden\n', '\\x1b[2J.hidden'),
    'a class as data': (named('collections', 'OrderedDict'), 'bare Constructor'),
    # Calls and attributes.
    'a call of text': (text('a') + b')R', 'calls a str'),
    'a call of a dtype': (named('torch', 'float32') + b')R', 'calls a'),
    'a call of a dictionary': (EMPTY + b')R', 'calls a dict'),
    'arguments in a list': (named('torch', 'Size') + b']R', 'list as arguments'),
    'NEWOBJ of text': (text('a') + b')\x81', 'calls a str'),
    'BUILD with __class__': (
        EMPTY + dictionary([text('__class__') + named('torch', 'Size')]) + b'b',
        'attributes of a dictionary',
    ),
    'BUILD with __dict__': (EMPTY + dictionary([text('__dict__') + b'}']) + b'b', 'attributes'),
    'BUILD with slots': (EMPTY + tuple_of(b'N', b'}') + b'b', 'attributes of a dictionary'),
    'BUILD of a list': (b']' + dictionary([METADATA + b'}']) + b'b', 'attributes of a list'),
    'BUILD of a tensor': (tensor() + dictionary([METADATA + b'}']) + b'b', 'of a ndarray'),
    'an OrderedDict of numbers': (
        call('collections', 'OrderedDict', b'](K\x01e'),
        'names and values',
    ),
    'a Size of text': (call('torch', 'Size', tuple_of(text('a'))), 'torch.Size'),
    'a device of lists': (call('torch', 'device', b']'), 'torch.device'),
    # Stack and memo.
    'nothing': (b'', 'left over'),
    'two values': (b'NN', 'left over'),
    'a mark at the end': (b'N(', 'left over'),
    'an empty stack': (b'a', 'empty stack'),
    'a stack that is empty above the mark': (b']N(a', 'empty stack'),
    'no mark': (b'Nt', 'mark'),
    'an object that is not there': (b'h\7', 'object 7'),
    'a huge number for an object': (b'Nr\xff\xff\xff\xff', 'number 4294967295'),
    # Structure.
    'an append to a dictionary': (b'}Na', 'appends to a dict'),
    'items of a list': (b']K\1K\2s', 'items of a list'),
    'a key without a value': (b'}(K\1u', 'items of a dict'),
    'a tuple as key': (b'}K\1\x85K\2s', 'tuple as the key'),
    'a list as key': (b'}]K\2s', 'list as the key'),
    'a tensor as key': (b'}' + tensor() + b'K\2s', 'ndarray as the key'),
    'a deep nest as key': (b'})' + b'\x85' * 50_000 + b'Ns', 'tuple as the key'),
    'a deep nest': (b']' * 300 + b'a' * 299, 'deeper than 100'),
    'a deep nest of tuples': (b')' + b'\x85' * 50_000, 'deeper than 100'),
    'a deep nest out of pieces': (
        b'](' + b')q\0' + b'\x85' * 60 + b'q\1' + b'h\1' + b'\x85' * 60 + b'e',
        'deeper than 100',
    ),
    'a list in itself': (b']q\0h\0a', 'inside itself'),
    'a dictionary in itself': (b'}q\0(' + text('a') + b'h\0u', 'inside itself'),
    'two lists in each other': (b']q\0]q\1h\0aa', 'inside itself'),
    'doubling without an end': (doubled(90), 'unfolds'),
    # Lengths.
    'a long text': (b'X\xff\xff\xff\xff', 'ends in the middle'),
    'a longer text': (b'\x8d' + struct.pack('<Q', 2**63), 'ends in the middle'),
    'long bytes': (b'\x8e' + struct.pack('<Q', 2**64 - 1), 'ends in the middle'),
    'a text of negative length': (b'T\xff\xff\xff\xff', 'ends in the middle'),
    'an integer of two gigabytes': (b'\x8b\xff\xff\xff\x7f', 'integer of 2147483647'),
    'an integer of negative length': (b'\x8b\xff\xff\xff\xff', 'ends in the middle'),
    'text that is not UTF-8': (b'X\1\0\0\0\xff', 'UTF-8'),
    'a lone surrogate': (b'X\3\0\0\0\xed\xa0\x80', 'UTF-8'),
    # Tensors.
    'a tensor larger than its storage': (tensor(size=(5,)), 'shape'),
    'a tensor of 2^124 elements': (tensor(size=(2**62, 2**62), stride=(1, 1)), 'shape'),
    'a tensor that repeats its storage': (tensor(size=(1000,), stride=(0,)), 'shape'),
    'an offset behind the end': (tensor(offset=1), 'shape'),
    'a huge offset': (tensor(offset=2**63), 'shape'),
    'a negative offset': (tensor(offset=-1), 'not counts'),
    'a stride beyond the end': (tensor(size=(2, 2), stride=(3, 1)), 'shape'),
    'a huge stride': (tensor(size=(2,), stride=(2**62,)), 'shape'),
    'a negative stride': (tensor(stride=(-1,)), 'not counts'),
    'a negative size': (tensor(size=(-4,)), 'not counts'),
    'a shape without strides': (tensor(size=(2, 2)), 'not counts'),
    'a shape of text': (
        call('torch._utils', '_rebuild_tensor', storage(), integer(0), text('4'), text('1')),
        'not made of storage',
    ),
    'an offset of text': (
        call('torch._utils', '_rebuild_tensor', storage(), text('0'), b')', b')'),
        'not counts',
    ),
    'many dimensions': (tensor(size=(1,) * 33, stride=(1,) * 33), '33 dimensions'),
    'an empty tensor of huge shape': (
        tensor(size=(0, 2**40, 2**40), stride=(1, 1, 1)),
        'shape',
    ),
    'a tensor of a number': (tensor(integer(3)), 'not made of storage'),
    'a tensor with hooks': (tensor(hooks=dictionary([text('a') + b'N'])), 'hooks'),
    'a tensor that requires text': (tensor(flag=text('a')), 'hooks'),
    'a conjugated tensor': (
        tensor()[:-2] + dictionary([text('conj') + b'\x88']) + b'tR',
        'metadata',
    ),
    'a parameter of a parameter': (
        call('torch._utils', '_rebuild_parameter', text('a'), b'\x88', EMPTY),
        'parameter',
    ),
    # Storages.
    'a storage as data': (storage(), 'bare Storage'),
    'a storage that is missing': (tensor(storage(key='1')), 'missing'),
    'a storage above the folder': (tensor(storage(key='../../passwd')), 'missing'),
    'a storage that is smaller': (tensor(storage(count=5)), '16 bytes'),
    'a storage that is larger': (tensor(storage(count=3), size=(3,)), '16 bytes'),
    'a storage of 2^60 elements': (tensor(storage(count=2**60)), '16 bytes'),
    'a storage of negative size': (tensor(storage(count=-4)), 'else than a storage'),
    'a storage of another width': (tensor(storage('DoubleStorage')), '16 bytes'),
    'a storage of two dtypes': (
        b'](' + tensor() + tensor(storage('IntStorage')) + b'e',
        'in two ways',
    ),
    'a reference that is text': (text('0') + b'Q', 'else than a storage'),
    'a reference that is a list': (b']Q', 'else than a storage'),
    'a reference to a module': (
        tuple_of(text('module'), named('torch', 'Size'), text('a'), text('b')) + b'Q',
        'else than a storage',
    ),
    'a reference that begins with a tensor': (
        tuple_of(tensor(), *[text('a')] * 4) + b'Q',
        'else than a storage',
    ),
    'a reference with a kind that is text': (
        tuple_of(*map(text, ('storage', 'FloatStorage', '0', 'cpu')), integer(4)) + b'Q',
        'else than a storage',
    ),
    'a reference of four': (tuple_of(text('storage'), b'N', b'N', b'N') + b'Q', 'else than'),
}

ARRAY = np.arange(4, dtype=np.float32)
PLAIN = files.save_zip({'a': ARRAY})
OLD = files.save_stream({'a': ARRAY})
ONE = pickled(tensor(storage(view=b'N')))
BROAD = tensor(storage(count=1024), size=(1024,))


def flipped(data, place):
    data = bytearray(data)
    data[place] ^= 1
    return bytes(data)


def patched(data, old, new):
    assert old in data
    assert len(old) == len(new)
    return data.replace(old, new)


def bomb():
    zeros = [('archive/data.pkl', pickled(tensor())), ('archive/data/0', bytes(2**24))]
    return files.zip_file(zeros, compression=zipfile.ZIP_DEFLATED)


def encrypted():
    """With the flag of encryption in both headers of every entry."""
    data = patched(PLAIN, b'PK\3\4\x14\0\0\0', b'PK\3\4\x14\0\1\0')
    return patched(data, b'PK\1\2\x14\3\x14\0\0\0', b'PK\1\2\x14\3\x14\0\1\0')


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('storages'))
    return file.getvalue()


def saved(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


SIZES = struct.pack('<II', 16, 16)  # of the storage, in its headers
FILES = {
    # Zips.
    'an empty zip': (files.zip_file([]), '0 data.pkl'),
    'a zip without a pickle': (files.zip_file([('a/data/0', b'')]), '0 data.pkl'),
    'a zip with two pickles': (
        files.zip_file([('a/data.pkl', b'N.'), ('b/data.pkl', b'N.')]),
        '2 data.pkl',
    ),
    'an entry twice': (archive(pickled(tensor()), extra=[('archive/data/0', b'')]), 'twice'),
    'the pickle twice': (archive(b'N.', extra=[('archive/data.pkl', b'N.')]), '2 data.pkl'),
    'a zip bomb': (bomb(), 'compressed'),
    'an entry whose size lies': (
        patched(PLAIN, SIZES, struct.pack('<II', 16, 2**32 - 2)),
        'compressed',
    ),
    'an entry larger than the file': (
        patched(PLAIN, SIZES, struct.pack('<II', 2**31, 2**31)),
        'larger than the file',
    ),
    'an encrypted entry': (encrypted(), 'encrypted'),
    'a storage with a wrong checksum': (
        flipped(PLAIN, PLAIN.index(ARRAY.tobytes()) + 5),
        'damaged zip',
    ),
    'a pickle with a wrong checksum': (
        flipped(PLAIN, PLAIN.index(b'collections')),
        'damaged zip',
    ),
    'a header with another name': (
        flipped(PLAIN, PLAIN.index(b'archive/data/0') + 3),
        'damaged zip',
    ),
    'a zip without its end': (PLAIN[:-5], 'damaged zip'),
    'half a zip': (PLAIN[: len(PLAIN) // 2], 'damaged zip'),
    'the beginning of a zip': (b'PK\3\4', 'damaged zip'),
    'an unknown byte order': (archive(b'N.', order=b'middle'), 'byte order'),
    'a byte order that is long': (archive(b'N.', order=bytes(100)), 'larger than 16'),
    'a program of TorchScript': (
        archive(b'N.', extra=[('archive/constants.pkl', b'N.'), ('archive/code/a.py', b'')]),
        'TorchScript',
    ),
    'an .npz': (saved(lambda file: np.savez(file, a=ARRAY)), '0 data.pkl'),
    'a pickle without an end': (archive(b'\x80\2N'), 'ends in the middle'),
    'an empty pickle': (archive(b''), 'ends in the middle'),
    'many tensors of one storage': (
        archive(pickled(b'](', BROAD * 1000, b'e'), [bytes(4096)]),
        'tensors of 4096000 bytes in a file of',
    ),
    # Streams.
    'another magic number': (stream(ONE, [ARRAY], magic=files.MAGIC + 1), 'not one of torch'),
    'a magic text': (stream(ONE, [ARRAY], magic='magic'), 'not one of torch'),
    'a pickle of a dictionary': (pickle.dumps({'a': 1}), 'not one of torch'),
    'a pickle of an object': (pickle.dumps(pickle.PicklingError()), 'PicklingError'),
    'a tensor in place of the magic number': (
        pickled(tensor(storage(view=b'N'))),
        'not one of torch',
    ),
    'half a stream': (OLD[: len(OLD) // 2], 'without an end'),
    'a stream without its last byte': (OLD[:-1], 'ends in the middle'),
    'a stream that goes on': (OLD + b'x', '1 bytes after its end'),
    'a stream without its storage': (stream(ONE, [], keys=['0']), 'ends in the middle'),
    'a stream that lists no storage': (stream(ONE, []), 'not those'),
    'a stream that lists a storage twice': (stream(ONE, [ARRAY], keys=['0', '0']), 'not those'),
    'a stream that lists numbers': (stream(ONE, [ARRAY], keys=[0]), 'not those'),
    'a stream that lists text': (stream(ONE, [ARRAY], keys='0'), 'not those'),
    'a storage of another size': (stream(ONE, [ARRAY[:3]]), 'not the size'),
    'a storage larger than the file': (
        stream(pickled(tensor(storage(count=2**50, view=b'N'))), [ARRAY]),
        'larger than the file',
    ),
    'a storage of two sizes': (
        stream(pickled(b'](', *(tensor(storage(count=n, view=b'N')) for n in (4, 5)), b'e')),
        'in two ways',
    ),
    'a storage of two dtypes': (
        stream(
            pickled(b'](', *(tensor(storage(t + 'Storage', view=b'N')) for t in ('Int', 'Float')),
                    b'e')
        ),
        'in two ways',
    ),
    'a view outside its storage': (
        stream(pickled(tensor(storage(view=tuple_of(text('1'), b'K\2', b'K\3')))), [ARRAY]),
        'not inside',
    ),
    'a view that is text': (
        stream(pickled(tensor(storage(view=text('1')))), [ARRAY]),
        'not inside',
    ),
    'a reference of a zip in a stream': (stream(pickled(tensor()), [ARRAY]), 'else than a storage'),
    # Other files.
    'an empty file': (b'', 'it is empty'),
    'text': (b'weights: none\n', 'unknown kind'),
    'zeros': (bytes(4096), 'unknown kind'),
    'a web page': (b'\n<!DOCTYPE html><html>quota exceeded</html>', 'web page'),
    'a pointer of Git LFS': (b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS'),
    'a PNG': (b'\x89PNG\r\n\x1a\n' + bytes(100), 'PNG'),
    'an .npy': (saved(lambda file: np.save(file, ARRAY)), 'NumPy'),
    'a tar': (tar(), 'tar'),
    'a gzip': (b'\x1f\x8b\x08' + bytes(20), 'gzip'),
}  # fmt: skip


@pytest.fixture
def refuses(tmp_path, monkeypatch):
    """Checks the one line for a file of these bytes, and that nothing was executed."""
    monkeypatch.chdir(tmp_path)

    def check(data, *words):
        (tmp_path / 'hostile.pt').write_bytes(data)
        with pytest.raises(UserError) as caught:
            torch_reader.read('hostile.pt')
        line = str(caught.value)
        assert line.startswith("'hostile.pt' is refused: ")
        assert line.isprintable()
        assert len(line) < 400
        for word in words:
            assert word in line
        assert [path.name for path in tmp_path.iterdir()] == ['hostile.pt']

    return check


@pytest.mark.parametrize('wrap', [archive, stream], ids=['zip', 'stream'])
@pytest.mark.parametrize('name', CALLS)
def test_a_call_is_refused_by_name(refuses, wrap, name):
    refuses(wrap(pickled(CALLS[name])), repr(name.strip()), 'not allowed')


@pytest.mark.parametrize('name', ['posix.mkdir', 'os.system', 'builtins.eval', 'posix.mkdir  '])
def test_the_calls_are_dangerous_to_pythons_own_unpickler(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    body = CALLS[name].replace(b'ctorch\nSize\n', b'cbuiltins\ntuple\n')
    pickle.loads(pickled(body))
    assert (tmp_path / 'marker').is_dir()


@pytest.mark.parametrize('name', PICKLES)
def test_a_hostile_pickle_is_refused(refuses, name):
    body, *words = PICKLES[name]
    refuses(archive(pickled(body)), *words)


@pytest.mark.parametrize('name', FILES)
def test_a_hostile_or_foreign_file_is_refused(refuses, name):
    refuses(*FILES[name])


@pytest.mark.parametrize('data', [PLAIN, OLD], ids=['zip', 'stream'])
def test_a_file_cut_anywhere_is_refused(refuses, data):
    for end in range(len(data)):
        refuses(data[:end])


def test_endless_instructions_are_stopped(refuses, monkeypatch):
    monkeypatch.setattr(unpickle, 'MAX_OPCODES', 1000)
    refuses(archive(pickled(b'(' + b'N' * 1000 + b't')), 'more than 1,000 instructions')


def test_many_entries_are_refused(refuses, monkeypatch):
    monkeypatch.setattr(torch_reader, 'MAX_ENTRIES', 3)
    refuses(archive(b'N.', extra=[('archive/a', b''), ('archive/b', b'')]), 'more than 3 entries')


def test_a_large_pickle_or_stream_is_refused_before_it_is_read(refuses, monkeypatch):
    monkeypatch.setattr(torch_reader, 'MAX_PICKLE', 5)
    refuses(archive(pickled(EMPTY)), 'larger than 5 bytes')
    monkeypatch.setattr(torch_reader, 'MAX_STREAM', 5)
    refuses(OLD, 'at most 5')


def test_a_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match='Is a directory'):
        torch_reader.read(tmp_path)
