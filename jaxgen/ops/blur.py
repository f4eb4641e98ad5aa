"""The blur that StyleGAN3-R puts before its discriminator at first (2106.12423, appendix F).

Taps 2^-(k/σ)² for |k| up to 3σ, rounded down, with sum 1; zero outside the image.
"""

import jax
import jax.numpy as jnp
import numpy as np


def blur_taps(sigma: jax.Array | float, reach: int) -> jax.Array:
    """`[2·reach + 1]`; those beyond 3σ are 0. σ may be traced, 3σ must be below reach + 1."""
    k = np.arange(-reach, reach + 1)
    radius = jnp.floor(3 * sigma)
    weights = jnp.exp2(-jnp.square(k / jnp.where(radius > 0, sigma, 1.0)))
    weights = jnp.where(np.abs(k) <= radius, weights, 0.0)
    return weights / jnp.sum(weights)


def blur(images: jax.Array, sigma: jax.Array | float, reach: int = 30) -> jax.Array:
    """Images `[B, H, W, C]`, the same where 3σ < 1.

    As a matrix product along each axis: its cost does not depend on a traced σ, and it is small
    beside the discriminator's.
    """
    taps = blur_taps(sigma, reach).astype(images.dtype)
    for subscripts, length in (
        ('ij,bjwc->biwc', images.shape[1]),
        ('ij,bhjc->bhic', images.shape[2]),
    ):
        offset = np.arange(length)[:, None] - np.arange(length)[None, :]
        matrix = taps[np.clip(offset + reach, 0, 2 * reach)]
        matrix = jnp.where(np.abs(offset) <= reach, matrix, 0)
        images = jnp.einsum(subscripts, matrix, images, precision=jax.lax.Precision.HIGHEST)
    return images
