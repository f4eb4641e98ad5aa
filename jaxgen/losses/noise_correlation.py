"""What keeps noise maps noise while an image is projected (StyleGAN2, 1912.04958, appendix D)."""

import jax
import jax.numpy as jnp


def noise_correlation(noise: jax.Array, smallest: int = 8) -> jax.Array:
    """Sum of squared correlations of a map `[H, H]` with its neighbours, over a pyramid.

    On every level, each of which averages 2×2 of the one before down to a side of `smallest` or
    less: (mean of n(x, y)·n(x-1, y))² + (mean of n(x, y)·n(x, y-1))², around the borders.
    """
    total = jnp.zeros((), noise.dtype)
    while True:
        for axis in (0, 1):
            total += jnp.square(jnp.mean(noise * jnp.roll(noise, 1, axis)))
        if noise.shape[0] <= smallest:
            return total
        height, width = noise.shape
        noise = noise.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def normalize_noise(noise: jax.Array) -> jax.Array:
    """A map with mean 0 and mean square 1."""
    noise = noise - jnp.mean(noise)
    return noise * jax.lax.rsqrt(jnp.mean(jnp.square(noise)))
