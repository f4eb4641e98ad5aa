"""The published FID Inception network: names, folded batch normalisation, what is refused."""

import math

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import inception
from tests.interop import torch_files
from tests.parity.metrics_images import published_inception


@pytest.fixture(scope='module')
def published():
    return published_inception(20151205)


def test_the_names_hold_as_many_values_as_the_published_network():
    shapes = inception.shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == 23_885_392
    assert shapes['Mixed_6b.branch7x7dbl_3.conv.weight'] == (128, 128, 1, 7)
    assert shapes['Mixed_7c.branch_pool.bn.running_var'] == (192,)
    assert shapes['fc.weight'] == (1008, 2048)


def test_a_folded_layer_is_the_convolution_with_its_normalisation(published):
    params = inception.from_torch(published)[1]['params']
    name = 'Mixed_5b.branch1x1'
    x = np.random.default_rng(0).normal(size=192)
    scale, shift, mean, variance = (
        published[f'{name}.bn.{part}'].astype(np.float64)
        for part in ('weight', 'bias', 'running_mean', 'running_var')
    )
    convolved = published[f'{name}.conv.weight'][:, :, 0, 0] @ x
    expected = (convolved - mean) / np.sqrt(variance + 1e-3) * scale + shift
    layer = params['Mixed_5b']['branch1x1']
    np.testing.assert_allclose(x @ layer['kernel'][0, 0] + layer['bias'], expected, atol=1e-5)


def test_counters_may_be_there(published):
    counters = {
        name.replace('.conv.weight', '.bn.num_batches_tracked'): np.array(0)
        for name in published
        if name.endswith('.conv.weight')
    }
    inception.from_torch({**published, **counters})


def test_what_does_not_fit_is_listed(published):
    less = {name: x for name, x in published.items() if not name.startswith('fc.')}
    with pytest.raises(UserError, match=r'missing: fc\.bias, fc\.weight; unused: head'):
        inception.from_torch({**less, 'head': np.zeros(3, np.float32)})
    small = {**published, 'fc.bias': np.zeros(1000, np.float32)}
    with pytest.raises(UserError, match=r'of another shape: fc\.bias \(1000,\) instead of'):
        inception.from_torch(small)
    bad = {**published, 'fc.bias': np.full(1008, np.nan, np.float32)}
    with pytest.raises(UserError, match='not finite'):
        inception.from_torch(bad)
    name = 'Mixed_7a.branch3x3_1.bn.running_var'
    with pytest.raises(UserError, match=f'{name} has a negative variance'):
        inception.from_torch({**published, name: -published[name]})
    with pytest.raises(UserError, match='must be a state dict, got a list'):
        inception.from_torch([1, 2])


def test_a_file_of_something_else_is_refused_by_its_name(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(torch_files.save_zip({'conv1.weight': np.zeros(3, np.float32)}))
    with pytest.raises(UserError, match=r'weights\.pth.*does not fit: missing'):
        inception.read(path)
    path.write_bytes(torch_files.zip_file([('a/data.pkl', b''), ('a/constants.pkl', b'')]))
    with pytest.raises(UserError, match='TorchScript'):
        inception.read(path)


def test_a_file_of_torch_save_is_read(tmp_path, published):
    path = tmp_path / 'weights.pth'
    path.write_bytes(torch_files.save_zip(published))
    kernel = inception.read(path)[1]['params']['fc_kernel']
    np.testing.assert_array_equal(kernel, published['fc.weight'].T)
