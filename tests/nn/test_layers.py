"""Equalised layers, positional encodings and styled layers against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxgen.nn.equalized import EqualizedConv, EqualizedDense
from jaxgen.nn.fourier import CoordinateEmbedding, FourierFeatures
from jaxgen.nn.styled import StyledDense, ToRGB
from jaxgen.ops.coords import points

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def moved(variables, seed=1):
    """The variables with random numbers added, so that no bias is zero; in numpy."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + rng.normal(size=x.shape).astype(np.float32), jax.device_get(variables)
    )


def test_a_dense_layer_is_scaled_by_its_fan_in_and_multiplier():
    layer = EqualizedDense(4, bias_init=1.0, lr_multiplier=0.5, activation='lrelu')
    x = RNG.normal(size=(6, 9)).astype(np.float32)
    variables = moved(layer.init(KEY, x))
    kernel, bias = variables['params']['kernel'], variables['params']['bias']
    y = x @ (np.asarray(kernel) * 0.5 / 3) + 0.5 * np.asarray(bias)
    np.testing.assert_allclose(
        layer.apply(variables, x), np.sqrt(2) * np.where(y > 0, y, 0.2 * y), rtol=1e-5, atol=1e-6
    )


def test_a_dense_layer_keeps_unit_variance_at_the_start():
    y, _ = EqualizedDense(64).init_with_output(KEY, RNG.normal(size=(64, 300)).astype(np.float32))
    assert np.std(y) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_a_convolution_is_the_correlation_with_its_scaled_kernel(kernel_size):
    layer = EqualizedConv(2, kernel_size)
    x = RNG.normal(size=(1, 7, 9, 3)).astype(np.float32)
    variables = moved(layer.init(KEY, x))
    kernel = np.asarray(variables['params']['kernel']) / np.sqrt(3 * kernel_size**2)
    expected = [
        sum(signal.correlate2d(x[0, ..., i], kernel[..., i, o], 'same') for i in range(3))
        for o in range(2)
    ]
    expected = np.stack(expected, -1) + variables['params']['bias']
    np.testing.assert_allclose(layer.apply(variables, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_resampling_convolution_halves_and_doubles_and_is_clamped():
    x = RNG.normal(size=(1, 8, 4, 3)).astype(np.float32)
    for fields, shape in ((dict(down=2), (1, 4, 2, 2)), (dict(up=2), (1, 16, 8, 2))):
        y, _ = EqualizedConv(2, clamp=0.3, **fields).init_with_output(KEY, x)
        assert y.shape == shape
        assert np.abs(y).max() == pytest.approx(0.3)


def test_fourier_features_are_sines_within_the_published_range_of_frequencies():
    layer = FourierFeatures(2_000)
    places = RNG.uniform(-1, 1, (5, 2)).astype(np.float32)
    y, variables = jax.device_get(layer.init_with_output(KEY, places))
    kernel, bias = variables['params']['kernel'], variables['params']['bias']
    np.testing.assert_allclose(y, np.sin(places @ kernel + bias), atol=1e-5)
    assert np.abs(kernel).max() == pytest.approx(np.sqrt(4.5), rel=0.01)
    assert np.abs(bias).max() == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_the_embedding_without_coordinates_is_its_exact_lookup_on_the_training_grid():
    places = points(3, 5)[None]
    exact = CoordinateEmbedding(3, 5, 4)
    variables = exact.init(KEY, None)
    table = exact.apply(variables, None)
    assert table.shape == (1, 15, 4)
    np.testing.assert_allclose(exact.apply(variables, places), table, atol=1e-6)
    blurred = CoordinateEmbedding(3, 5, 4, 'reference').apply(variables, places)
    assert np.abs(np.asarray(blurred) - table).max() > 0.1


def test_noise_is_added_before_bias_and_activation_by_its_learned_strength():
    layer = StyledDense(4, use_noise=True)
    x = RNG.normal(size=(2, 6, 3)).astype(np.float32)
    w, noise = (RNG.normal(size=s).astype(np.float32) for s in ((2, 5), (2, 6, 1)))
    variables = layer.init(KEY, x, w, noise)
    assert float(variables['params']['noise_scale']) == 0
    np.testing.assert_array_equal(layer.apply(variables, x, w, noise), layer.apply(variables, x, w))
    variables = moved(variables)
    linear = StyledDense(4, use_noise=True, activation='linear')
    added = np.asarray(linear.apply(variables, x, w, noise)) - linear.apply(variables, x, w)
    strength = float(variables['params']['noise_scale'])
    np.testing.assert_allclose(added, np.broadcast_to(strength * noise, added.shape), atol=1e-5)


def test_to_rgb_is_not_demodulated():
    layer = ToRGB()
    x = RNG.normal(size=(1, 6, 3)).astype(np.float32)
    w = np.zeros((1, 5), np.float32)
    variables = layer.init(KEY, x, w)
    kernel = np.asarray(variables['params']['kernel']) / np.sqrt(3)
    # A zero w gives the style 1, the initial bias of the affine layer.
    np.testing.assert_allclose(layer.apply(variables, x, w)[0], x[0] @ kernel, atol=1e-6)


def test_bfloat16_is_used_for_the_result_and_never_for_what_is_stored():
    x, w = jnp.ones((1, 6, 3)), jnp.ones((1, 5))
    for layer, arguments in (
        (EqualizedDense(4, dtype=jnp.bfloat16), (x,)),
        (EqualizedConv(4, dtype=jnp.bfloat16), (x[None],)),
        (StyledDense(4, dtype=jnp.bfloat16), (x, w)),
    ):
        y, variables = layer.init_with_output(KEY, *arguments)
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
