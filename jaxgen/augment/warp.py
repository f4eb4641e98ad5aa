"""Affine maps of images without aliasing, as ADA does them (2006.06676, appendix B).

Places are (x, y) in pixels from the middle of an image, x to the right, y down. A map is given as
its inverse, `[3, 3]` on (x, y, 1): where in the input a place of the output comes from.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.augment.wavelets import SYM6
from jaxgen.ops.upfirdn2d import downsample2d, setup_filter, upsample2d

LOWPASS = setup_filter(SYM6)
# How many pixels beyond the image the filters of both resamplings together look.
REACH = len(SYM6) // 2

Margin = tuple[tuple[int, int], tuple[int, int]]


def translation(x: jax.Array | float, y: jax.Array | float) -> jax.Array:
    """(x, y) is added."""
    return jnp.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: jax.Array | float, y: jax.Array | float) -> jax.Array:
    """x and y are multiplied by these."""
    return jnp.array([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def rotation(angle: jax.Array | float) -> jax.Array:
    """From x towards y, on the screen clockwise."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def resample(images: jax.Array, inverse: jax.Array, margin: Margin | None = None) -> jax.Array:
    """Images moved by the maps: reflected at the borders, 2× up, read bilinearly, 2× down.

    Up and down go through the orthogonal sym6 wavelet, so that the identity and translations by
    whole pixels are exact. It is not symmetric, so flips and quarter turns are not quite.

    Args:
      images: `[B, H, W, C]`. inverse: `[B, 3, 3]`.
      margin: pixels to reflect, ((top, bottom), (left, right)), each below the size; beyond is
        zero. None: as many as there are, which nothing random decides. The published code takes
        what the most demanding image of its batch needs: the same but for tails of the filters,
        2e-5 of the largest value, where that suffices.

    Returns:
      `[B, H, W, C]`. Linear in the images.
    """
    height, width = images.shape[1:3]
    (top, bottom), (left, right) = margin or ((height - 1,) * 2, (width - 1,) * 2)
    x = jnp.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)), mode='reflect')
    x = upsample2d(x, LOWPASS)
    # The output at twice its size, and what the filter on the way down needs around it. A filter
    # with an even number of taps puts samples of the doubled image at ±1/4 pixel from the old ones.
    rows, columns = ((np.arange(1, 2 * (n + REACH) + 1) - n - REACH) / 2 for n in (height, width))
    rows, columns = rows[None, :, None], columns[None, None, :]
    m = inverse[:, :, :, None, None]
    source_x = m[:, 0, 0] * columns + m[:, 0, 1] * rows + m[:, 0, 2]
    source_y = m[:, 1, 0] * columns + m[:, 1, 1] * rows + m[:, 1, 2]
    x = bilinear(x, 2 * (source_y + top) + height - 1, 2 * (source_x + left) + width - 1)
    return downsample2d(x, LOWPASS, padding=-REACH, flip=True)


def bilinear(images: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """`[B, H, W, C]` read at fractional `row`, `column` `[B, H', W']`; zero outside the image."""
    height, width = images.shape[1:3]
    images = jnp.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0)))
    row, column = jnp.clip(row, -1, height) + 1, jnp.clip(column, -1, width) + 1
    top, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)

    def read(i: jax.Array, j: jax.Array) -> jax.Array:
        one = lambda image, i, j: image.at[i, j].get(mode='promise_in_bounds')  # noqa: E731
        return jax.vmap(one)(images, i, j)

    upper = (1 - right) * read(top, left) + right * read(top, left + 1)
    lower = (1 - right) * read(top + 1, left) + right * read(top + 1, left + 1)
    return (1 - down) * upper + down * lower
