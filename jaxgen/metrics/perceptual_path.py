"""Perceptual path length (Karras et al. 2019, 'A Style-Based Generator', section 4.1).

The squared perceptual distance of two images a step ε apart on a path between two latents, over ε²:

    ppl2_wend   50,000 pairs, ε = 1e-4, straight lines in W, at their beginning (t = 0), images
                whole, brought down to 256 pixels by the mean over squares (`shrink`), LPIPS of
                VGG16; the mean of what lies between the 1st and the 99th percentile
    z, full     arcs between normalised z (`slerp`), or t drawn from [0, 1)

The noise of the generator must be the same for both images of a pair. Distances come from LPIPS
(`metrics.lpips`), or, by `distances_of`, from the features of which it is the squared distance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-4


class PathLength(NamedTuple):
    """The mean, the percentiles between which distances were kept (both included), how many."""

    mean: float
    lower: float
    upper: float
    kept: int


def slerp(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """The point at `t` `[...]` of the arc from a to b, both `[..., Z]` of any length; length 1."""
    a, b = _unit(a), _unit(b)
    cosine = jnp.sum(a * b, axis=-1, keepdims=True)
    angle = t[..., None] * jnp.arccos(jnp.clip(cosine, -1, 1))
    return _unit(a * jnp.cos(angle) + _unit(b - cosine * a) * jnp.sin(angle))


def lerp(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """The point at `t` `[...]` of the line from a to b, both `[..., W]`."""
    return a + (b - a) * t[..., None]


def face_crop(images: jax.Array) -> jax.Array:
    """The part of images `[N, H, W, C]` of aligned faces that the first StyleGAN measured.

    Rows 3/8 to 7/8, columns 1/4 to 3/4, counted in whole eighths of the height.
    """
    eighth = images.shape[1] // 8
    return images[:, 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth]


def shrink(images: jax.Array, side: int = 256) -> jax.Array:
    """Images `[N, H, W, C]` down to `side` by the mean over whole squares; smaller ones stay.

    The factor is H // side, as in the published code, and must divide H and W.

    Raises:
      ValueError: it does not.
    """
    n, height, width, channels = images.shape
    factor = max(1, height // side)
    if height % factor or width % factor:
        raise ValueError(f'{factor} must divide the size to shrink to {side}, got {images.shape}')
    squares = images.reshape(n, height // factor, factor, width // factor, factor, channels)
    return squares.mean(axis=(2, 4))


def distances_of(f0: jax.Array, f1: jax.Array, *, epsilon: float = EPSILON) -> jax.Array:
    """|f0 - f1|² / ε² `[N]` of features `[N, F]` of the images at t and at t + ε."""
    # Divided before it is squared: in float32 the square of so small a difference may underflow.
    return jnp.sum(jnp.square((f0 - f1) / epsilon), axis=-1)


def path_length(distances: np.ndarray, *, lower: float = 1.0, upper: float = 99.0) -> PathLength:
    """The mean over what lies between two percentiles of distances `[N]` over ε².

    The lower percentile is the next distance below it, the upper one the next above.

    Raises:
      ValueError: no distances, or one that is not finite.
    """
    distances = np.asarray(distances, np.float64)
    if distances.ndim != 1 or not len(distances) or not np.isfinite(distances).all():
        raise ValueError(f'distances must be finite numbers [N], got {distances.shape}')
    low = np.percentile(distances, lower, method='lower')
    high = np.percentile(distances, upper, method='higher')
    kept = distances[(distances >= low) & (distances <= high)]
    return PathLength(float(kept.mean()), float(low), float(high), len(kept))


def _unit(x: jax.Array) -> jax.Array:
    length = jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True))
    # Of parallel ends nothing is left to turn to: any direction times sin 0 will do.
    return x / jnp.where(length > 0, length, 1)
