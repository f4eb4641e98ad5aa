"""The noise regulariser against loops, and what it tells apart."""

import jax.numpy as jnp
import numpy as np

from jaxgen.losses.noise_correlation import noise_correlation, normalize_noise

RNG = np.random.default_rng(0)


def correlations(noise):
    """One level, by loops."""
    side, x, y = len(noise), 0.0, 0.0
    for i in range(side):
        for j in range(side):
            x += noise[i, j] * noise[i, j - 1]
            y += noise[i, j] * noise[i - 1, j]
    return (x / side**2) ** 2 + (y / side**2) ** 2


def test_it_is_a_sum_over_the_pyramid_down_to_8():
    noise = RNG.normal(size=(32, 32)).astype(np.float32)
    expected, level = 0.0, noise
    for side in (32, 16, 8):
        assert level.shape == (side, side)
        expected += correlations(level)
        level = level.reshape(side // 2, 2, side // 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(noise_correlation(jnp.asarray(noise)), expected, rtol=1e-4)


def test_smooth_noise_costs_more_than_white_noise():
    white = normalize_noise(jnp.asarray(RNG.normal(size=(16, 16))))
    smooth = normalize_noise(sum(jnp.roll(white, i, axis=0) for i in range(4)))
    assert noise_correlation(smooth) > 10 * noise_correlation(white)


def test_normal_noise_has_mean_0_and_mean_square_1():
    noise = normalize_noise(jnp.asarray(3 + 5 * RNG.normal(size=(4, 4))))
    np.testing.assert_allclose([noise.mean(), (noise**2).mean()], [0, 1], atol=1e-6)
