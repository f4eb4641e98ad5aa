"""The fading blur against loops, and at its ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.blur import blur, blur_taps

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 9, 6, 3)).astype(np.float32)


def blurred_by_loops(images, sigma):
    radius = int(3 * sigma)
    k = np.arange(-radius, radius + 1)
    taps = 2.0 ** -((k / sigma) ** 2)
    taps /= taps.sum()
    out = np.zeros_like(images)
    height, width = images.shape[1:3]
    for y in range(height):
        for x in range(width):
            for dy, a in zip(k, taps, strict=True):
                for dx, b in zip(k, taps, strict=True):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        out[:, y, x] += a * b * images[:, y + dy, x + dx]
    return out


@pytest.mark.parametrize('sigma', [0.4, 1.5, 4.0])
def test_it_equals_loops(sigma):
    np.testing.assert_allclose(
        jax.jit(blur)(IMAGES, sigma), blurred_by_loops(IMAGES, sigma), atol=1e-5
    )


@pytest.mark.parametrize('sigma', [0.0, 0.3])
def test_below_a_third_of_a_pixel_nothing_is_blurred(sigma):
    np.testing.assert_array_equal(jax.jit(blur)(IMAGES, sigma), IMAGES)
    gradient = jax.jit(jax.grad(lambda x, s: jnp.sum(blur(x, s) ** 2)))(IMAGES, sigma)
    np.testing.assert_array_equal(gradient, 2 * IMAGES)


def test_taps_add_up_to_1_and_end_at_three_sigma():
    taps = np.asarray(blur_taps(2.5, 30))
    assert taps.sum() == pytest.approx(1, rel=1e-6)
    assert (taps > 0).sum() == 2 * 7 + 1
    np.testing.assert_allclose(taps[30 + 5] / taps[30], 2.0**-4, rtol=1e-5)
