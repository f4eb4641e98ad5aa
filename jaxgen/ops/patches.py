"""Patch training (CIPS, section 3.3): parts of an image at several scales, with their coordinates.

A patch of side P is taken from an image of side R by two steps, the same for rows and columns:

    stride   rows phase, phase + n, phase + 2n, ... with n = 2^k, k = 0 ... log2(R/P)
    crop     P of these, from `top` on

so row i of the patch is row phase + n·(top + i) of the image. Coordinates keep the values that they
have in the whole image. The distribution is that of the released loader: one k for a whole batch,
uniform; phases uniform in 0 ... R - nP + n - 1 (so they may exceed n), crops uniform over what is
left; for k = 0 the phase is 0. Pixels near the border are drawn less often than those inside.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops import coords


class Patches(NamedTuple):
    """Where patches lie: int32, `stride` a scalar or `[B]`, the others `[B]`."""

    stride: jax.Array
    row_phase: jax.Array
    column_phase: jax.Array
    top: jax.Array
    left: jax.Array


def num_scales(size: int, side: int) -> int:
    """log2(size / side) + 1.

    Raises:
      ValueError: size is not a power of two times side.
    """
    ratio = size // side if side > 0 else 0
    if ratio < 1 or size % side or ratio & (ratio - 1):
        raise ValueError(f'the image side must be a power of two times {side}, got {size}')
    return ratio.bit_length()


def random_patches(key: jax.Array, slot: jax.Array, size: int, side: int) -> Patches:
    """Draws a patch of `side` for every example of a batch of `size`² images.

    Args:
      key: of the step: the scale is a function of it alone, and the same for the whole batch.
      slot: `[B]` global indices; the place of a patch is a function of `key` and its slot.
      size: side of the images, a power of two times `side`.
      side: side of the patches.
    """
    scale_key, place_key = jax.random.split(key)
    stride = 2 ** jax.random.randint(scale_key, (), 0, num_scales(size, side))

    def one_axis(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        phase_key, crop_key = jax.random.split(key)
        phases = jnp.where(stride == 1, 1, size - stride * side + stride)
        phase = jax.random.randint(phase_key, (), 0, phases)
        rows = -(-(size - phase) // stride)
        return phase, jax.random.randint(crop_key, (), 0, rows - side + 1)

    def one(slot: jax.Array) -> tuple[jax.Array, ...]:
        row_key, column_key = jax.random.split(jax.random.fold_in(place_key, slot))
        (row_phase, top), (column_phase, left) = one_axis(row_key), one_axis(column_key)
        return row_phase, column_phase, top, left

    return Patches(stride, *jax.vmap(one)(slot))


def patch_indices(patches: Patches, side: int) -> tuple[jax.Array, jax.Array]:
    """Rows and columns of the image that the patches show, `[B, side]` each."""
    steps = jnp.arange(side)[None, :]
    stride = jnp.broadcast_to(patches.stride, patches.top.shape)[:, None]

    def along(phase: jax.Array, start: jax.Array) -> jax.Array:
        return phase[:, None] + stride * (start[:, None] + steps)

    return along(patches.row_phase, patches.top), along(patches.column_phase, patches.left)


def patch_coords(patches: Patches, size: int, side: int) -> jax.Array:
    """Coordinates `[B, side, side, 2]` of the patches' pixels in the frame of the whole image."""
    rows, columns = patch_indices(patches, side)
    axis = coords.axis(size)
    shape = (*rows.shape, side)
    x = jnp.broadcast_to(axis[columns][:, None, :], shape)
    y = jnp.broadcast_to(axis[rows][:, :, None], shape)
    return jnp.stack([x, y], axis=-1)


def take_patches(image: jax.Array, patches: Patches, side: int) -> jax.Array:
    """`[B, R, R, C]` to `[B, side, side, C]`."""
    rows, columns = patch_indices(patches, side)
    return jax.vmap(lambda x, i, j: x[i[:, None], j[None, :]])(image, rows, columns)
