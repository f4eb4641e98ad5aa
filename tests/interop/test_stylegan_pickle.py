"""Snapshots of the official code: read as structure, refused with one line where they are not.

`snapshot` writes one by hand, opcode by opcode, so that any part of it can be spoiled.
"""

import pathlib
import pickle

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import stylegan_pickle, unpickle
from jaxgen.interop.unpickle import Malformed, Unpickler
from tests.interop.test_hostile_files import CALLS, COMMAND, doubled
from tests.interop.torch_files import (
    EMPTY,
    call,
    dictionary,
    dumps,
    named,
    pickled,
    storage,
    stream,
    tensor,
    text,
    tuple_of,
)

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'stylegan' / 'pkl'
ARRAY = np.arange(4, dtype=np.float32)
KWARGS = {'z_dim': 4, 'mapping_kwargs': {'num_layers': 2}}
# Names that a snapshot may have; what they make is looked at where it is used.
ALLOWED = {'torch.storage._load_from_bytes', 'numpy.core.multiarray._reconstruct'}


def entries(**items):
    """A dictionary of opcodes."""
    return dictionary([text(name) + body for name, body in items.items()])


def raw(data):
    """Bytes as data of the pickle."""
    return b'B' + len(data).to_bytes(4, 'little') + data


def load(data):
    return call('torch.storage', '_load_from_bytes', raw(data))


PLACE = storage(view=b'N')  # the storage alone, in a stream of its own
STORED = stream(pickled(PLACE), [ARRAY])


def parameter(data=STORED):
    return call('torch._utils', '_rebuild_parameter', tensor(load(data)), b'\x88', EMPTY)


def module(class_name='Layer', *, source=b'', **state):
    state = {'_parameters': EMPTY, '_buffers': EMPTY, '_modules': EMPTY} | state
    return persistent(
        type=text('class'), version=b'K\6', module_src=text(source.decode()),
        class_name=text(class_name), state=entries(**state),
    )  # fmt: skip


def persistent(**meta):
    return call('torch_utils.persistence', '_reconstruct_persistent_obj', entries(**meta))


def generator(class_name='Generator', **state):
    layer = module(_parameters=entries(weight=parameter(), bias=b'N'))
    return module(class_name, **dict(
        _init_args=b')', _init_kwargs=dumps(KWARGS, None), _modules=entries(layer=layer),
    ) | state)  # fmt: skip


def snapshot(**networks):
    return pickled(entries(**({'G_ema': generator()} | networks)))


SPOILED = {
    'another class': (dict(G_ema=generator('Tweaked')), "the class 'Tweaked', known are"),
    'no arguments': (dict(G_ema=generator(_init_kwargs=b'N')), 'without the arguments'),
    'arguments that are text': (dict(G_ema=generator(_init_args=text('x'))), 'without the arg'),
    'many arguments': (dict(G_ema=generator(_init_args=tuple_of(*[b'N'] * 6))), 'without the arg'),
    'an argument twice': (dict(G_ema=generator(_init_args=b'K\1\x85')), "['z_dim'] twice"),
    'text as a parameter': (
        dict(G_ema=generator(_parameters=entries(weight=text('x')))),
        "'weight' is no tensor",
    ),
    'a storage as a parameter': (
        dict(G_ema=generator(_parameters=entries(weight=load(STORED)))),
        'bare Storage',
    ),
    'a name twice': (
        dict(G_ema=generator(_parameters=entries(**{'layer.weight': parameter()}))),
        "'layer.weight' is no tensor, or there twice",
    ),
    'a table that is a list': (dict(G_ema=generator(_buffers=b']')), 'without _buffers'),
    'a table with numbers': (dict(G_ema=generator(_buffers=b'}K\1Ns')), 'without _buffers'),
    'no table': (dict(G_ema=generator(_modules=b'N')), 'without _modules'),
    'a module that is text': (
        dict(G_ema=generator(_modules=entries(layer=text('x')))),
        "'layer' in it is no module of the official code",
    ),
    'a function': (
        dict(G_ema=persistent(type=text('function'), class_name=text('f'))),
        'a network in it is no module',
    ),
    'a class without a state': (
        dict(G_ema=persistent(type=text('class'), class_name=text('Generator'))),
        'a network in it is no module',
    ),
    'two arguments of the function': (
        dict(G_ema=call('torch_utils.persistence', '_reconstruct_persistent_obj', b'}', b'}')),
        'a network in it is no module',
    ),
    'a mention of the function': (
        dict(G_ema=named('torch_utils.persistence', '_reconstruct_persistent_obj')),
        'a network in it is no module',
    ),
    'a class of numpy as a network': (
        dict(G_ema=call('numpy', 'dtype', text('f4'))),
        'a network in it is no module',
    ),
    'no averaged generator': (dict(G_ema=b'N'), 'neither a snapshot with a G_ema nor'),
    'a state dict': (dict(G_ema=b'}'), 'neither a snapshot with a G_ema nor'),
    'the network of TensorFlow': (
        dict(G=named('dnnlib.tflib.network', 'Network') + b')\x81'),
        "'dnnlib.tflib.network.Network', which is not allowed",
    ),
    'a plain module of PyTorch': (
        dict(G=named('torch.nn.modules.linear', 'Linear') + b')\x81'),
        "'torch.nn.modules.linear.Linear', which is not allowed",
    ),
    'an EasyDict with arguments': (
        dict(rest=call('dnnlib.util', 'EasyDict', b']')),
        'EasyDict with arguments',
    ),
    'a set of text': (dict(rest=call('builtins', 'set', text('x'))), 'set that is not made'),
    'a set with a list in itself': (dict(rest=b'\x8fq\x07(h\x07\x90'), 'inside itself'),
    'doubling without an end': (dict(rest=doubled(90)), 'unfolds'),
    # Storages.
    'a storage of text': (
        dict(rest=tensor(call('torch.storage', '_load_from_bytes', text('x')))),
        'a storage that is none',
    ),
    'a storage of two': (
        dict(rest=tensor(load(stream(pickled(tuple_of(PLACE, PLACE)), [ARRAY])))),
        'a storage that is none',
    ),
    'a stream with a tensor': (
        dict(rest=tensor(load(stream(pickled(tensor(PLACE)), [ARRAY])))),
        'not made of storage',
    ),
    'a stream that is cut': (dict(rest=tensor(load(STORED[:-1]))), 'ends in the middle'),
    'a stream in a stream': (
        dict(rest=tensor(load(stream(pickled(load(STORED)), [])))),
        "'torch.storage._load_from_bytes', which is not allowed",
    ),
    'a network in a stream': (
        dict(rest=tensor(load(stream(pickled(generator()), [])))),
        "'torch_utils.persistence._reconstruct_persistent_obj', which is not allowed",
    ),
    'a tensor larger than its storage': (
        dict(rest=tensor(load(STORED), size=(5,))),
        'does not fit into its storage',
    ),
    'a storage that is larger than the file': (
        dict(rest=tensor(load(stream(pickled(storage(count=2**40, view=b'N')), [ARRAY])))),
        'larger than the file',
    ),
    'one stream read again and again': (
        dict(rest=raw(STORED) + b'q\x01(' + 50 * (
            tensor(named('torch.storage', '_load_from_bytes') + b'h\1\x85R')) + b't'),
        'storages are larger than the file',
    ),
    'a zip in place of a stream': (dict(rest=tensor(load(b'PK\3\4'))), 'instruction PERSID'),
}  # fmt: skip


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads bytes as a file, and checks that nothing else happens."""
    monkeypatch.chdir(tmp_path)

    def check(data):
        (tmp_path / 'net.pkl').write_bytes(data)
        try:
            return stylegan_pickle.read('net.pkl')
        finally:
            assert [path.name for path in tmp_path.iterdir()] == ['net.pkl']

    return check


@pytest.fixture
def refuses(read):
    def check(data, *words):
        with pytest.raises(UserError) as caught:
            read(data)
        line = str(caught.value)
        assert line.startswith("'net.pkl' is refused: ")
        assert line.isprintable()
        assert len(line) < 400
        for word in words:
            assert word in line

    return check


def test_parameters_buffers_and_arguments_are_collected(read):
    easy = named('dnnlib.util', 'EasyDict') + b')\x81'
    inner = module(_parameters=entries(weight=parameter()), _modules=entries(gone=b'N'))
    networks, rest = read(
        snapshot(
            G_ema=generator(
                _init_args=b')',
                _init_kwargs=easy + b'(' + text('z_dim') + b'K\4u',
                _modules=entries(layer=inner),
                _buffers=entries(w_avg=tensor(load(STORED)), none=b'N'),
                _non_persistent_buffers_set=b'\x8f(' + text('x') + b'\x90',
                older_set=call('builtins', 'set', b']'),
                size=call('numpy.core.multiarray', 'scalar', call('numpy', 'dtype', text('f8'))
                          + tuple_of(b'K\3') + b'b', raw(bytes(8))),
            ),
            augment_pipe=b'N',
            training_set_kwargs=easy,
        )
    )  # fmt: skip
    assert rest == ['augment_pipe', 'training_set_kwargs']
    (network,) = networks.values()
    assert network.class_name == 'Generator'
    assert network.init_kwargs == {'z_dim': 4, 'conv_clamp': None}
    assert list(network.state_dict) == ['w_avg', 'layer.weight']
    for array in network.state_dict.values():
        np.testing.assert_array_equal(array, ARRAY)


def test_arguments_by_position_get_their_names(read):
    given = generator(_init_args=tuple_of(b'K\4', b'K\0'), _init_kwargs=dumps({'w_dim': 8}, None))
    networks, _ = read(snapshot(G_ema=given))
    assert networks['G_ema'].init_kwargs == {
        'z_dim': 4, 'c_dim': 0, 'w_dim': 8, 'conv_clamp': None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ('kwargs', 'expected'),
    [
        ({}, {'conv_clamp': 256}),
        ({'conv_clamp': None}, {'conv_clamp': None}),
        ({'synthesis_kwargs': {}}, {'synthesis_kwargs': {}}),
    ],
)
def test_a_clamp_that_was_the_default_is_taken_from_the_layers(read, kwargs, expected):
    layers = entries(a=module(conv_clamp=b'N'), b=module(conv_clamp=b'M\0\1'))
    network = generator(_modules=layers, _init_kwargs=dumps(kwargs, None))
    networks, _ = read(snapshot(G_ema=network))
    assert networks['G_ema'].init_kwargs == expected


def test_a_network_alone_counts_as_the_averaged_one(read):
    networks, rest = read(pickled(generator()))
    assert list(networks) == ['G_ema']
    assert rest == []


def test_the_source_of_a_module_is_never_run(read):
    source = b"import os\nos.mkdir('marker')\n"
    layer = module(source=source, _parameters=entries(weight=parameter()))
    network = module('Generator', source=source, _modules=entries(layer=layer),
                     _init_args=b')', _init_kwargs=b'}')  # fmt: skip
    networks, _ = read(snapshot(G_ema=network))
    assert list(networks['G_ema'].state_dict) == ['layer.weight']


@pytest.mark.parametrize('name', sorted(CALLS.keys() - ALLOWED))
def test_a_call_is_refused_by_name(refuses, name):
    refuses(snapshot(rest=CALLS[name]), repr(name.strip()), 'not allowed')
    hidden = generator(_modules=entries(layer=module(attribute=CALLS[name])))
    refuses(snapshot(G_ema=hidden), repr(name.strip()), 'not allowed')


@pytest.mark.parametrize('name', ['posix.mkdir', 'builtins.eval', 'os.system'])
def test_a_call_inside_a_storage_is_refused_by_name(refuses, name):
    data = stream(pickled(CALLS[name]))
    refuses(snapshot(rest=tensor(load(data))), repr(name), 'not allowed')


@pytest.mark.parametrize('name', SPOILED)
def test_a_spoiled_snapshot_is_refused(refuses, name):
    networks, *words = SPOILED[name]
    refuses(snapshot(**networks), *words)


def test_a_snapshot_cut_anywhere_is_refused(refuses):
    whole = snapshot()
    for end in range(len(whole)):
        refuses(whole[:end])
    refuses(whole + b'x', '1 bytes after its end')


@pytest.mark.parametrize('stem', ['sg2_cond', 'sg3r'])
def test_an_official_snapshot_with_bytes_changed_is_read_or_refused(read, stem):
    whole = (GOLDEN / f'{stem}.pkl').read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(30):
        data = bytearray(whole[: rng.integers(len(whole))] if rng.integers(4) == 0 else whole)
        for place in rng.integers(0, max(1, min(len(data), 3000)), 2):
            data[place : place + 1] = bytes([rng.integers(256)])
        try:
            read(bytes(data))
            outcomes.add('read')
        except UserError:  # anything else is a failure
            outcomes.add('refused')
    assert outcomes == {'read', 'refused'}


def test_what_one_file_says_of_a_record_is_forgotten(read):
    mention = named('torch_utils.persistence', '_reconstruct_persistent_obj')
    state = entries(type=text('class'))
    with pytest.raises(UserError):
        read(snapshot(G_ema=mention + state + b'b'))
    networks, _ = read(snapshot(rest=mention + state + b'b'))
    assert 'G_ema' in networks


def test_many_modules_are_refused(refuses, monkeypatch):
    monkeypatch.setattr(stylegan_pickle, 'MAX_MODULES', 3)
    layers = entries(**{f'l{i}': module() for i in range(5)})
    refuses(snapshot(G_ema=generator(_modules=layers)), 'more than 3 modules or arrays')


def test_shared_arrays_that_unfold_beyond_the_file_are_refused(refuses):
    layers = [text(f'l{i}') + b'h\x09' for i in range(60)]
    big = np.zeros(2000, np.float32)
    data = stream(pickled(storage(count=2000, view=b'N')), [big])
    layer = module(_buffers=entries(b=tensor(load(data), size=(2000,))))
    table = b'}' + text('first') + layer + b'q\x09s(' + b''.join(layers) + b'u'
    refuses(snapshot(G_ema=generator(_modules=table)), 'has arrays of')


def test_sets_are_for_those_who_ask():
    with pytest.raises(Malformed, match='EMPTY_SET'):
        Unpickler(pickled(b'\x8f'), {}).load()
    assert Unpickler(pickled(b'\x8f(K\1K\2\x90'), {}, sets=True).load() == [1, 2]


@pytest.mark.parametrize(
    ('data', 'expected'),
    [
        (snapshot(), True),
        (pickle.dumps({'a': 1}), True),
        (STORED, False),
        (b'PK\3\4', False),
        (b'', False),
        (b'\x80', False),
    ],
)
def test_a_snapshot_is_told_from_a_file_of_torch_by_its_beginning(tmp_path, data, expected):
    path = tmp_path / 'net'
    path.write_bytes(data)
    assert stylegan_pickle.is_snapshot(path) == expected
    assert not stylegan_pickle.is_snapshot(tmp_path / 'no')
    assert not stylegan_pickle.is_snapshot(tmp_path)


def test_endless_instructions_and_large_files_are_stopped(refuses, monkeypatch):
    monkeypatch.setattr(unpickle, 'MAX_OPCODES', 1000)
    refuses(snapshot(rest=b'(' + b'N' * 1000 + b't'), 'more than 1,000 instructions')
    monkeypatch.setattr(stylegan_pickle, 'MAX_STREAM', 5)
    refuses(snapshot(), 'at most 5 are read')


def test_text_that_would_be_run_is_text(read):
    networks, _ = read(snapshot(rest=COMMAND))
    assert 'G_ema' in networks
