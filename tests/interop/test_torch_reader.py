"""What `torch.save` writes is read back value by value, in both of its formats."""

import pathlib
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import torch_reader, unpickle
from tests.interop import torch_files as files

PUBLISHED = pathlib.Path(__file__).parents[1] / 'golden' / 'cips' / 'pt'
SAVE = {'zip': files.save_zip, 'stream': files.save_stream}


@pytest.fixture(params=SAVE)
def save(request):
    return SAVE[request.param]


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file."""

    def from_bytes(data):
        path = tmp_path / 'weights.pt'
        path.write_bytes(data)
        return torch_reader.read(path)

    return from_bytes


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_plain_data_comes_back(save, read):
    value = {
        'text': 'ψ',
        'numbers': [0, 255, 256, -1, 2**31, -(2**40), 0.1, float('inf')],
        'tuple': (True, False, None, ()),
        7: {'nested': [{}, []]},
    }
    assert_same(read(save(value)), value)


@pytest.mark.parametrize('dtype', files.STORAGES, ids=str)
def test_every_dtype_comes_back(save, read, dtype):
    array = (np.arange(12).reshape(3, 4) - 3).astype(dtype)
    assert_same(read(save([array])), [array])


@pytest.mark.parametrize('dtype', files.STORAGES, ids=str)
def test_a_big_endian_file_reads_equal(read, dtype):
    array = (np.arange(6) - 3).astype(dtype)
    data = files.save_zip([array], big_endian=True)
    assert_same(read(data), [array])


def test_bfloat16_keeps_what_float32_would_say(read):
    array = np.array([1.0, -2.5, 3.140625], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(read(files.save_zip(array)).astype(np.float32),
                                  [1.0, -2.5, 3.140625])  # fmt: skip


def test_views_share_their_storage_and_keep_offset_and_strides(save, read):
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    views = [whole, whole[1], whole[:, ::2, 1:3], whole.transpose(2, 0, 1), whole[0, 0, :1]]
    found = read(save(views))
    assert_same(found, views)
    assert all(np.shares_memory(found[0], view) for view in found[1:])


def test_scalars_and_empty_tensors_have_their_shapes(save, read):
    value = [np.array(2.5, np.float32), np.zeros((0,), np.float32), np.zeros((3, 0, 2), np.int64)]
    assert_same(read(save(value)), value)


def test_a_dimension_of_one_may_have_any_stride(read):
    found = read(files.archive(files.pickled(files.tensor(size=(1, 4), stride=(2**62, 1)))))
    np.testing.assert_array_equal(found, np.ones((1, 4)))


def test_a_boolean_is_true_whatever_its_byte(read):
    pickle = files.pickled(files.tensor(files.storage('BoolStorage')))
    found = read(files.archive(pickle, [bytes([0, 1, 2, 255])]))
    np.testing.assert_array_equal(found.view(np.uint8), [0, 1, 1, 1])


def test_parameters_devices_sizes_and_dtypes_are_plain_data(read):
    parameter = files.call(
        'torch._utils', '_rebuild_parameter', files.tensor(), b'\x88', files.EMPTY
    )
    device = files.call('torch', 'device', files.text('cuda'), files.integer(1))
    size = files.call('torch', 'Size', files.tuple_of(files.integer(2), files.integer(3)))
    old = files.call(
        'torch._utils', '_rebuild_tensor', files.storage(), files.integer(1),
        files.tuple_of(files.integer(2)), files.tuple_of(files.integer(2)),
    )  # fmt: skip
    body = [parameter, device, size, files.named('torch', 'float16'), old]
    found = read(files.archive(files.pickled(b'](', *body, b'e')))
    np.testing.assert_array_equal(found[0], [1, 1, 1, 1])
    assert found[1:4] == ['cuda:1', (2, 3), np.dtype('float16')]
    np.testing.assert_array_equal(found[4], [1, 1])


def test_the_versions_that_a_state_dict_carries_are_left_out(read):
    metadata = files.dictionary([files.text('_metadata'), files.EMPTY])
    entry = files.text('a') + files.integer(1)
    state = files.dictionary([entry], files.EMPTY) + metadata + b'b'
    assert read(files.archive(files.pickled(state))) == {'a': 1}


def test_a_view_of_a_storage_in_an_older_file_is_that_part_of_it(read):
    view = files.tuple_of(files.text('9'), files.integer(2), files.integer(3))
    place = files.storage(count=6, view=view)
    pickle = files.pickled(files.tensor(place, 1, (2,), (1,)))
    found = read(files.stream(pickle, [np.arange(6, dtype=np.float32)]))
    np.testing.assert_array_equal(found, [3, 4])


def test_an_entry_that_is_there_twice_in_the_data_is_one_array(read):
    # As picklers write it: the second time is a reference to the first.
    body = b'](' + files.tensor() + b'r' + struct.pack('<I', 300) + b'h\0e'
    body = body.replace(b'r' + struct.pack('<I', 300), b'q\0')
    found = read(files.archive(files.pickled(body)))
    assert found[0] is found[1]


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_every_protocol_of_a_real_pickler_is_read(protocol):
    shared = [1, 'a']
    value = {'x': [shared, shared, (1, 2, 3, 4)], 'b': b'\0\xff', 'long': 10**40, 'text': 'é' * 300}
    value |= {'many': list(range(300)), 'one': (1,), 'none': None, 'float': 0.5, -1: 70000}
    data = pickle.dumps(value, protocol) if protocol > 2 else pickle.dumps(
        {key: item for key, item in value.items() if key != 'b'}, protocol
    )  # fmt: skip
    found = unpickle.Unpickler(data, torch_reader.ALLOWED).load()
    assert_same(found, pickle.loads(data))


def test_two_pickles_in_a_row_are_read_one_by_one():
    machine = unpickle.Unpickler(pickle.dumps([1]) + pickle.dumps('b'), {})
    assert (machine.load(), machine.load()) == ([1], 'b')


class Unknown:
    def __init__(self):
        self.width = 3


def test_unknown_classes_are_kept_as_records_where_the_caller_asks_for_it():
    data = pickle.dumps([Unknown(), Unknown], 4)
    instance, mentioned = unpickle.Unpickler(data, {}, records=True).load()
    assert instance.name == mentioned.name == f'{__name__}.Unknown'
    assert (instance.arguments, instance.state) == ((), {'width': 3})
    assert mentioned.arguments is None
    with pytest.raises(unpickle.Malformed, match='Unknown'):
        unpickle.Unpickler(data, {}).load()


def test_an_unknown_object_cannot_be_called():
    body = files.call('a', 'Factory') + b')R'
    with pytest.raises(unpickle.Malformed, match='calls a Record'):
        unpickle.Unpickler(files.pickled(body), {}, records=True).load()


def test_items_of_an_unknown_mapping_are_in_its_record():
    body = files.named('a', 'EasyDict') + b')\x81' + files.dictionary([b'K\1K\2'], b'')
    record = unpickle.Unpickler(files.pickled(body), {}, records=True).load()
    assert (record.name, record.items) == ('a.EasyDict', {1: 2})


@pytest.mark.parametrize('name', ['g_ema_res8', 'g_ema_skip16', 'train_skip8'])
def test_published_files_read_equal_when_saved_again_in_either_format(save, read, name):
    published = torch_reader.read(PUBLISHED / f'{name}.pt')
    arrays = sum(
        isinstance(x, np.ndarray)
        for x in [*published.values(), *published.get('g_ema', {}).values()]
    )
    assert arrays > 30
    # A copy, whose arrays own their memory.
    assert_same(read(save(copied(published))), published)


def copied(value):
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r'no\.pt.*No such file'):
        torch_reader.read(tmp_path / 'no.pt')
