"""Coordinates of pixels: `[…, 2]`, order (x, y), [-1, 1] over the training frame.

A grid has both ends included: column i of W lies at x = 2i/(W-1) - 1, row j of H at
y = 2j/(H-1) - 1 (CIPS, section 3.1). Values are rounded once, from float64
to `dtype` (default: jax's default float).

On a ring (CIPS, section 4.5: panoramas) x is the angle θ/π and has period 2: column i of the W
around the ring lies at x = 2i/W - 1, so the one after the last is the first again.
"""

import jax
import jax.numpy as jnp
import numpy as np


def axis(length: int, dtype: jnp.dtype | None = None) -> jax.Array:
    """`[length]` positions from -1 to 1, both ends included; a single position is 0."""
    if length < 1:
        raise ValueError(f'a grid needs at least one pixel a side, got {length}')
    return jnp.asarray(np.linspace(-1, 1, length) if length > 1 else np.zeros(1), dtype)


def grid(height: int, width: int, dtype: jnp.dtype | None = None) -> jax.Array:
    """`[height, width, 2]`: the full grid in raster order."""
    x = jnp.broadcast_to(axis(width, dtype)[None, :], (height, width))
    y = jnp.broadcast_to(axis(height, dtype)[:, None], (height, width))
    return jnp.stack([x, y], axis=-1)


def points(height: int, width: int, dtype: jnp.dtype | None = None) -> jax.Array:
    """`[height·width, 2]`: the full grid as a list of pixels in raster order."""
    return grid(height, width, dtype).reshape(height * width, 2)


def ring_axis(length: int, dtype: jnp.dtype | None = None) -> jax.Array:
    """`[length]` positions around a ring, from -1 up to one step before 1."""
    if length < 1:
        raise ValueError(f'a ring needs at least one pixel, got {length}')
    return jnp.asarray(2 * np.arange(length) / length - 1, dtype)


def ring_points(height: int, width: int, dtype: jnp.dtype | None = None) -> jax.Array:
    """`[height·width, 2]`: the whole ring as a list of pixels in raster order."""
    x = jnp.broadcast_to(ring_axis(width, dtype)[None, :], (height, width))
    y = jnp.broadcast_to(axis(height, dtype)[:, None], (height, width))
    return jnp.stack([x, y], axis=-1).reshape(height * width, 2)


def on_cylinder(coords: jax.Array) -> jax.Array:
    """(x, y) to (cos πx, sin πx, y): `[..., 2]` to `[..., 3]`, of period 2 in x.

    x is first brought into [-1, 1], exactly: then a coordinate and the same one a turn further
    give the same cylinder point up to the rounding of the coordinate itself.
    """
    x, y = coords[..., 0], coords[..., 1]
    angle = np.pi * (x - 2 * jnp.round(x / 2))
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), y], axis=-1)


def tile(start: jax.Array, length: int, height: int, width: int) -> jax.Array:
    """`[length, 2]`: the pixels start … start+length-1 (raster order) of the full grid.

    Bitwise the rows of `points(height, width)`, without making the whole list; indices past the
    end repeat the last pixel.
    """
    index = jnp.minimum(start + jnp.arange(length), height * width - 1)
    return jnp.stack([axis(width)[index % width], axis(height)[index // width]], axis=-1)
