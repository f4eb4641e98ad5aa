"""Layers of the PixelCNN family: masks hold in training, conditions become one vector or map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.autoregressive import CausalConv, Head, condition_vector, gate
from jaxgen.nn.deconvolution import Deconvolution
from jaxgen.ops.causal_conv import colour_groups, conv
from tests import autoregressive as tiny


def test_rows_below_the_centre_are_left_out_only_where_the_mask_is_zero():
    layer = CausalConv(2, 4, (5, 5), kind='B', colours=2)
    x = np.random.default_rng(0).normal(size=(1, 6, 7, 2)).astype(np.float32)
    variables = layer.init(jax.random.key(0), x)
    whole = conv(x, variables['params']['kernel'] * layer.mask, padding=((2, 2), (2, 2)))
    np.testing.assert_allclose(layer.apply(variables, x), whole, atol=1e-5)


def test_masked_weights_get_no_gradient_and_do_not_count():
    layer = CausalConv(3, 5, (3, 3), kind='A', colours=3)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    params = layer.init(jax.random.key(0), x)['params']
    gradient = jax.grad(lambda p: jnp.sin(layer.apply({'params': p}, x)).sum())(params)['kernel']
    shut = layer.mask == 0
    assert not np.asarray(gradient)[shut].any()
    assert np.asarray(gradient)[~shut].all()
    other = params | {'kernel': params['kernel'] + 100 * shut}
    np.testing.assert_array_equal(
        layer.apply({'params': params}, x), layer.apply({'params': other}, x)
    )


def test_a_masked_layer_starts_with_the_variance_of_its_input():
    layer = CausalConv(30, 300, (5, 5), kind='B', colours=3)
    x = np.random.default_rng(0).normal(size=(4, 20, 20, 30)).astype(np.float32)
    y = layer.apply(layer.init(jax.random.key(0), x), x)[:, 4:, 4:-4]
    assert 0.9 < float(y.var()) < 1.1


def test_the_head_keeps_colours_apart():
    layer = Head(7, 5, 12, colours=3)
    x = np.random.default_rng(0).normal(size=(1, 1, 1, 7))
    with jax.enable_x64(True):
        variables = tiny.random_variables(layer, x)
        # Nowhere shut by a ReLU: biases lift both layers.
        lifted = jax.tree.map(lambda w: w + 50 if w.ndim == 1 else w, variables)
        slopes = jax.jacobian(lambda x: layer.apply(lifted, x)[0, 0, 0])(np.abs(x))[:, 0, 0, 0]
    expected = np.greater_equal.outer(np.repeat(np.arange(3), 4), colour_groups(7, 3))
    np.testing.assert_array_equal(np.asarray(slopes) != 0, expected)


def test_a_gate_multiplies_the_two_halves():
    x = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    expected = np.tanh(x[:, :3]) / (1 + np.exp(-x[:, 3:]))
    np.testing.assert_allclose(gate(x), expected, rtol=1e-5)


def test_class_and_embedding_become_one_vector():
    vector = condition_vector(jnp.array([1, 0]), jnp.array([[5.0], [6.0]]), 3, 1)
    np.testing.assert_array_equal(vector, [[0, 1, 0, 5], [1, 0, 0, 6]])
    assert condition_vector(None, None, 0, 0) is None
    with pytest.raises(ValueError, match='takes no embedding'):
        condition_vector(None, jnp.zeros((1, 2)), 0, 0)


@pytest.mark.parametrize('size', [(8, 8), (5, 7), (1, 3)])
def test_a_deconvolution_fills_any_size(size):
    layer, vector = Deconvolution(2, (4, 3)), jnp.ones((3, 5))
    shape = jax.eval_shape(
        lambda key: layer.init_with_output(key, vector, size)[0], jax.random.key(0)
    ).shape
    assert shape == (3, *size, 2)
