"""Resampling filters against zeros, pads and loops in plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxgen.ops import upfirdn2d as module
from jaxgen.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 7, 3))
FILTERS = {
    'separable': RNG.normal(size=5),
    'not separable': RNG.normal(size=(4, 3)),
    'an outer product': np.outer([1, 3, 3, 1], [1, 2, 1]) / 32,
    'none': None,
}
ARGUMENTS = {
    'padding': dict(padding=((2, 1), (0, 3))),
    'crop': dict(padding=((-1, 4), (3, -2))),
    'up': dict(up=2, padding=3, gain=4.0),
    'down': dict(down=2, padding=2),
    'up and down, common factor': dict(up=4, down=2, padding=((3, 5), (4, 2))),
    'up and down, prime': dict(up=(3, 1), down=(2, 3), padding=2, flip=True),
    'up more than taps': dict(up=6, padding=6),
    'up and crop': dict(up=2, padding=((-3, 2), (5, -4)), flip=True),
}


def by_numpy(x, f, up=1, down=1, padding=0, gain=1.0, flip=False):
    """Inserts the zeros, pads, filters at the full rate, and keeps what is asked for."""
    up, down, padding = module.pair(up), module.pair(down), module.padding_of(padding)
    f = np.ones((1, 1)) if f is None else np.outer(f, f) if f.ndim == 1 else f
    f = f[::-1, ::-1] if flip else f
    planes = []
    for plane in np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3]):
        z = np.zeros((plane.shape[0] * up[0], plane.shape[1] * up[1]))
        z[:: up[0], :: up[1]] = plane
        z = np.pad(z, [(max(a, 0), max(b, 0)) for a, b in padding])
        kept = zip(padding, z.shape, strict=True)
        z = z[tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in kept)]
        planes.append(gain * signal.convolve2d(z, f, 'valid')[:: down[0], :: down[1]])
    y = np.array(planes).reshape(x.shape[0], x.shape[3], *planes[0].shape)
    return np.moveaxis(y, 1, -1)


@pytest.mark.parametrize('arguments', ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize('f', FILTERS.values(), ids=FILTERS)
def test_is_zeros_pads_convolution_and_every_nth(f, arguments):
    with jax.enable_x64(True):
        y = jax.jit(lambda x: upfirdn2d(x, f, **arguments))(X)
    np.testing.assert_allclose(y, by_numpy(X, f, **arguments), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('arguments', ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize('f', [FILTERS['separable'], FILTERS['not separable']])
def test_the_gradient_is_the_transposed_map_and_its_gradient_the_map(f, arguments):
    @jax.jit
    def there_and_back(x, cotangent):
        y, pull = jax.vjp(lambda x: upfirdn2d(x, f, **arguments), x)
        back, pull_back = jax.vjp(lambda c: pull(c)[0], cotangent)
        return y, back, pull_back(x)[0]

    with jax.enable_x64(True):
        shape = jax.eval_shape(lambda x: upfirdn2d(x, f, **arguments), X).shape
        cotangent = RNG.normal(size=shape)
        y, back, forth = jax.device_get(there_and_back(X, cotangent))
    np.testing.assert_allclose(np.sum(y * cotangent), np.sum(X * back), rtol=1e-11)
    np.testing.assert_allclose(forth, y, rtol=1e-11, atol=1e-11)


def test_second_derivatives_are_those_of_the_plain_formula():
    f, arguments = FILTERS['separable'], ARGUMENTS['up and down, common factor']

    def plain(x):  # differentiated by JAX, step by step
        z = jax.lax.pad(x, 0.0, ((0, 0, 0), (3, 5 + 3, 3), (4, 2 + 3, 3), (0, 0, 0)))
        taps = np.outer(f, f)[::-1, ::-1]
        size = (z.shape[1] - 4, z.shape[2] - 4)
        y = sum(
            taps[i, j] * z[:, i : i + size[0], j : j + size[1]] for i in range(5) for j in range(5)
        )
        return y[:, ::2, ::2]

    def penalty(apply):
        def gradient(x):
            return jax.grad(lambda x: jnp.sum(jnp.sin(apply(x)) ** 3))(x)

        return jax.jit(jax.grad(lambda x: jnp.sum(gradient(x) ** 2)))(X)

    with jax.enable_x64(True):
        ours = penalty(lambda x: upfirdn2d(x, f, **arguments))
        np.testing.assert_allclose(ours, penalty(plain), rtol=1e-10, atol=1e-10)


def test_a_traced_filter_is_a_static_one_with_a_gradient_of_its_own():
    f = FILTERS['separable']

    def loss(x, f):
        return jnp.sum(jnp.sin(upfirdn2d(x, f, up=2)))

    with jax.enable_x64(True):
        traced = jax.grad(jax.jit(loss), (0, 1))(jnp.asarray(X), jnp.asarray(f))
        static = jax.grad(lambda x: loss(x, f))(jnp.asarray(X))
        step = 1e-6 * np.eye(5)[2]
        slope = (loss(X, f + step) - loss(X, f - step)) / 2e-6
    np.testing.assert_allclose(traced[0], static, rtol=1e-12, atol=1e-12)
    assert float(traced[1][2]) == pytest.approx(float(slope), rel=1e-6)


def test_it_can_be_mapped_over_a_further_axis():
    f = FILTERS['not separable']
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=(3, *X.shape)))
        mapped = jax.vmap(jax.grad(lambda x: jnp.sum(upfirdn2d(x, f, down=2) ** 2)))(x)
        each = jnp.stack([jax.grad(lambda x: jnp.sum(upfirdn2d(x, f, down=2) ** 2))(x) for x in x])
    np.testing.assert_allclose(mapped, each, rtol=1e-12, atol=1e-12)


def test_bfloat16_is_kept_and_summed_in_float32():
    taps = np.full(24, 1 / 24)
    y = upfirdn2d(jnp.full((1, 32, 32, 1), 3.0, jnp.bfloat16), taps)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.astype(np.float32), 3.0)


def test_no_zero_is_multiplied():
    """Upsampling by 2 with four taps takes two for every output, along each axis."""
    text = jax.jit(lambda x: upfirdn2d(x, setup_filter((1, 3, 3, 1)), up=2, padding=2)).lower(
        np.zeros((1, 8, 8, 1), np.float32)
    )
    assert text.as_text().count('stablehlo.multiply') == 8


@pytest.mark.parametrize('taps', [(1, 3, 3, 1), (1, 2, 1), (1, 2, 3, 4, 4, 3, 2, 1)])
def test_resizing_keeps_a_constant_image_away_from_the_border(taps):
    x, f = jnp.full((1, 24, 24, 1), 5.0), setup_filter(taps)
    assert filter2d(x, f).shape == x.shape
    assert upsample2d(x, f).shape == (1, 48, 48, 1)
    assert downsample2d(x, f).shape == (1, 12, 12, 1)
    for y in (filter2d(x, f), upsample2d(x, f), downsample2d(x, f)):
        np.testing.assert_allclose(y[:, 5:-5, 5:-5], 5.0, rtol=1e-5)


def test_resizing_leaves_a_ramp_where_it_is():
    """Pixel centres: the first of a doubled image lies a quarter of a pixel inside."""
    x = jnp.broadcast_to(jnp.arange(16.0)[None, None, :, None], (1, 16, 16, 1))
    f = setup_filter((1, 3, 3, 1))
    up, down = upsample2d(x, f)[0, 8, :, 0], downsample2d(x, f)[0, 4, :, 0]
    np.testing.assert_allclose(up[4:-4], np.arange(4, 28) / 2 - 0.25, rtol=1e-6)
    np.testing.assert_allclose(down[2:-2], 2 * np.arange(2, 6) + 0.5, rtol=1e-6)


def test_a_filter_has_sum_one_and_stays_separable_from_eight_taps_on():
    np.testing.assert_array_equal(
        setup_filter((1, 3, 3, 1)), np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    )
    assert setup_filter(range(1, 9)).shape == (8,)
    assert setup_filter(range(1, 9)).sum() == pytest.approx(1)
    assert setup_filter(range(1, 9), separable=False).shape == (8, 8)
    np.testing.assert_array_equal(setup_filter(None), [[1]])
    np.testing.assert_array_equal(
        setup_filter((1, 2), flip=True, normalize=False), [[4, 2], [2, 1]]
    )


def test_the_gain_is_that_of_both_axes_together():
    one_axis, both = (setup_filter(range(1, 9), gain=4, separable=s) for s in (True, False))
    np.testing.assert_allclose(np.outer(one_axis, one_axis), both, rtol=1e-6)
    assert both.sum() == pytest.approx(4)


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match=r'a filter of \(9, 1\) taps does not fit the image'):
        upfirdn2d(jnp.zeros((1, 3, 3, 1)), np.ones(9))
    with pytest.raises(ValueError, match='one or two axes'):
        setup_filter(np.ones((1, 2, 3)))
