"""Convolutions over sub-pixels in raster order: row, column, colour (arXiv 1601.06759, 3.4).

Images are `[B, H, W, C]`, kernels `[height, width, in, out]`. The channels of a layer are split
into one group a colour. At the kernel's centre, the pixel itself, group g may read the groups
below it (kind 'A', the first layer) or up to itself (kind 'B', every other layer); taps before the
centre are free and taps after it are shut. Masks are numpy arrays: constants of the architecture.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.convolution import pointwise

KINDS = ('A', 'B')


def group_sizes(channels: int, colours: int) -> list[int]:
    """Channels of each colour: near-equal, the first colours get what is left over."""
    return [len(part) for part in np.array_split(np.arange(channels), colours)]


def colour_groups(channels: int, colours: int, *, parts: int = 1) -> np.ndarray:
    """The colour `[channels]` of every channel: contiguous groups within each of `parts` parts.

    A gated layer's maps are two parts, an LSTM's four: each is split among the colours, because a
    gate must not look further than what it gates.
    """
    sizes = group_sizes(channels // parts, colours)
    return np.tile(np.repeat(np.arange(colours), sizes), parts)


def causal_mask(
    kernel_size: tuple[int, int],
    kind: str,
    groups_in: np.ndarray,
    groups_out: np.ndarray,
    *,
    centre: tuple[int, int] | None = None,
) -> np.ndarray:
    """The 0/1 mask `[height, width, in, out]` of a kernel.

    Args:
      kind: 'A' or 'B'.
      groups_in, groups_out: the colour of every input and output channel.
      centre: row and column of the tap on the pixel itself; default: the middle.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f'kind must be one of {KINDS}, got {kind!r}')
    row, column = centre or (kernel_size[0] // 2, kernel_size[1] // 2)
    before = np.zeros(kernel_size, bool)
    before[:row] = True
    before[row, :column] = True
    mask = np.broadcast_to(
        before[:, :, None, None], (*kernel_size, len(groups_in), len(groups_out))
    ).copy()
    allowed = np.less if kind == 'A' else np.less_equal
    mask[row, column] = allowed.outer(groups_in, groups_out)
    return mask.astype(np.float32)


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
) -> jax.Array:
    """Plain convolution `[B, H, W, in]` to `[B, H', W', out]`; `padding` is ((top, bottom), …)."""
    if kernel.shape[:2] == (1, 1) and stride == 1:
        return pointwise(x, kernel[0, 0])
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def causal_conv(x: jax.Array, kernel: jax.Array, centre: tuple[int, int]) -> jax.Array:
    """`[B, H, W, in]` to `[B, H, W, out]`: the tap `centre` lies on the pixel, zeros around.

    `kernel` is masked already. Its rows below the centre are zeros by then, so they are left out.
    """
    row, column = centre
    padding = ((row, 0), (column, kernel.shape[1] - 1 - column))
    return conv(x, kernel[: row + 1], padding=padding)


def shift_down(x: jax.Array) -> jax.Array:
    """Moves `[B, H, W, C]` down by one row, zeros on top."""
    return jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]


def shift_right(x: jax.Array) -> jax.Array:
    """Moves `[B, H, W, C]` to the right by one column, zeros on the left."""
    return jnp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]


def centred(levels: jax.Array, count: int) -> jax.Array:
    """Integer levels 0 … count - 1 as numbers 2k/(count - 1) - 1 in [-1, 1], float32 at least.

    From integers, not from stored floats: a half-precision image has lost the levels.

    Raises:
      ValueError: `levels` are not integers.
    """
    if not jnp.issubdtype(levels.dtype, jnp.integer):
        raise ValueError(f'levels must be integers, got {levels.dtype}')
    return levels.astype(jnp.result_type(float)) * (2 / (count - 1)) - 1


def nearest_level(x: jax.Array, count: int) -> jax.Array:
    """The level, int32, whose `centred` value is nearest to x; outside [-1, 1] the outermost."""
    level = jnp.round((x + 1) * ((count - 1) / 2))
    return jnp.clip(level, 0, count - 1).astype(jnp.int32)


def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[2i + a, 2j + c] += x[i, j]·kernel[a, c]: doubles the sides, kernel `[kh, kw, in, out]`.

    `[B, H, W, in]` to `[B, 2H + kh - 2, 2W + kw - 2, out]`.
    """
    kh, kw = kernel.shape[:2]
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        ((kh - 1, kh - 1), (kw - 1, kw - 1)),
        lhs_dilation=(2, 2),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
