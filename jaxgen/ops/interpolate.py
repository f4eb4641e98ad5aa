"""Reading a table of vectors at coordinates between its entries. Coordinates as in `ops.coords`."""

import jax
import jax.numpy as jnp


def bilinear(
    table: jax.Array, coords: jax.Array, *, align_corners: bool = True, ring: bool = False
) -> jax.Array:
    """Bilinear interpolation, clamped at the border.

    Args:
      table: `[H, W, C]`, entry [j, i] at row j, column i.
      coords: `[..., 2]` in (x, y). With `align_corners` -1 and 1 are the centres of the outermost
        entries (then the training grid reads the entries themselves); without, their outer edges
        (what the published CIPS code does outside the training look-up).
      ring: the columns lie around a ring, as in `ops.coords`: x has period 2, and the last column
        is followed by the first.

    Returns:
      `[..., C]`. The gradient to a coordinate is zero where it is clamped.
    """
    height, width, _ = table.shape
    if ring:
        x0, x1, fx = _neighbours_on_ring(coords[..., 0], width)
    else:
        x0, x1, fx = _neighbours(coords[..., 0], width, align_corners)
    y0, y1, fy = _neighbours(coords[..., 1], height, align_corners)
    top = table[y0, x0] * (1 - fx) + table[y0, x1] * fx
    bottom = table[y1, x0] * (1 - fx) + table[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def _neighbours(
    position: jax.Array, length: int, align_corners: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    if align_corners:
        index = (position + 1) / 2 * (length - 1)
    else:
        index = ((position + 1) * length - 1) / 2
    # `where`, not `clip`: at the very border clip would pass half of the gradient.
    index = jnp.where(index <= 0, 0.0, jnp.where(index >= length - 1, length - 1.0, index))
    low = jnp.floor(index)
    fraction = (index - low)[..., None]
    low = low.astype(jnp.int32)
    return low, jnp.minimum(low + 1, length - 1), fraction


def _neighbours_on_ring(position: jax.Array, length: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    index = (position + 1) / 2 * length
    low = jnp.floor(index)
    fraction = (index - low)[..., None]
    low = low.astype(jnp.int32) % length
    return low, (low + 1) % length, fraction
