"""Separable filters against scipy's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxgen.ops.filters import filter2d, normalized

TAPS = [(1, 3, 3, 1), (1, 2, 5), (0.5, -1)]


def by_scipy(x, taps, padding, stride):
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    kernel = np.outer(taps, taps)
    planes = [
        [signal.convolve2d(x[b, ..., c], kernel, mode='valid') for c in range(x.shape[3])]
        for b in range(x.shape[0])
    ]
    return np.moveaxis(np.array(planes), 1, -1)[:, ::stride, ::stride]


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('padding', [(0, 0), (2, 1), (1, 3)])
@pytest.mark.parametrize('taps', TAPS)
def test_is_a_convolution_with_zeros_around_and_the_stride_taken_after(taps, padding, stride):
    x = np.random.default_rng(0).normal(size=(2, 6, 9, 2))
    with jax.enable_x64(True):
        y = filter2d(jnp.asarray(x), taps, padding, stride)
    np.testing.assert_allclose(y, by_scipy(x, taps, padding, stride), rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_transposed_filter():
    x, seed = np.random.default_rng(0).normal(size=(2, 1, 6, 6, 1))
    with jax.enable_x64(True):
        value, pull = jax.vjp(lambda x: filter2d(x, (1, 2, 5), (1, 1), 2), jnp.asarray(x))
        (back,) = pull(jnp.asarray(seed[:, :3, :3]))
    value, back = np.asarray(value), np.asarray(back)
    np.testing.assert_allclose(np.sum(value * seed[:, :3, :3]), np.sum(x * back), rtol=1e-12)


def test_normalised_taps_keep_the_mean():
    assert normalized((1, 3, 3, 1)) == (0.125, 0.375, 0.375, 0.125)
    y = filter2d(jnp.full((1, 8, 8, 1), 5.0), normalized((1, 3, 3, 1)), (0, 0))
    np.testing.assert_allclose(y, 5.0, rtol=1e-6)


def test_an_image_smaller_than_the_filter_is_an_error():
    with pytest.raises(ValueError, match='4 taps do not fit the 3 pixels'):
        filter2d(jnp.zeros((1, 3, 3, 1)), (1, 3, 3, 1), (0, 0))
