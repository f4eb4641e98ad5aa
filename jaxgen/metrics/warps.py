"""Images moved and rotated as continuous signals: the references of equivariance metrics.

After 'Alias-Free GANs' (2106.12423), appendix E. Images are `[B, H, W, C]`, zero outside. Places
are (x, y), x to the right, y down; shifts count sides of the image, angles are anticlockwise on the
screen. Every function also gives a mask `[H, W]`, 1 where the result is not touched by the border,
and takes traced shifts and angles.

Interpolation is by Lanczos' window of half width `LOBES`: for rotation both the samples' grid and
the rotated one limit the band, so the filter is a convolution of two, each a sinc over a square.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

LOBES = 3
# Samples per pixel between which a rotated image is read bilinearly.
OVERSAMPLING = 4
# Half the period, in pixels, of the circular convolution that makes the filter.
FILTER_FIELD = 64

HIGHEST = jax.lax.Precision.HIGHEST


def rotation_matrix(angle: jax.Array | float) -> jax.Array:
    """`[3, 3]` on (x, y, 1): where a turn by `angle` takes a place."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def translate_integer(images: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images moved by the nearest whole number of pixels (halves to even), and the mask."""
    weights, inside = [], []
    for length, part in zip(images.shape[1:3], (shift[1], shift[0]), strict=True):
        offset = _offsets(length) - jnp.round(part * length)
        weights.append((offset == 0).astype(images.dtype))
        inside.append(jnp.any(offset == 0, axis=1))
    return _separable(images, *weights), _outer(inside, images.dtype)


def translate(images: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images moved by any shift through Lanczos' interpolation, and the mask."""
    weights, inside = [], []
    for length, part in zip(images.shape[1:3], (shift[1], shift[0]), strict=True):
        whole = jnp.floor(part * length)
        fraction = part * length - whole
        # Six taps, of which one lies on the sample where the fraction is 0.
        places = np.arange(2 * LOBES) - (LOBES - 1) - fraction
        taps = jnp.sinc(places) * jnp.sinc(places / LOBES)
        taps = taps / jnp.sum(taps)
        index = _offsets(length) - whole + LOBES - 1
        taken = taps[jnp.clip(index, 0, len(taps) - 1).astype(jnp.int32)]
        weights.append(jnp.where((index >= 0) & (index < len(taps)), taken, 0.0))
        i = np.arange(length)
        inside.append((i >= whole + LOBES) & (i < whole - (LOBES - 1) + length))
    return _separable(images, *weights), _outer(inside, images.dtype)


def rotate(images: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Square images turned around the middle, band-limited, and the mask.

    Raises:
      ValueError: images are not square.
    """
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(f'only square images are rotated, got {height}×{width}')
    f = bandlimit_filter(rotation_matrix(angle), up=OVERSAMPLING)
    reach = f.shape[0] // 2
    fine = _upsample(images, f)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    middle = (width - 1) / 2
    x = (np.arange(width) - middle)[None, :]
    y = (np.arange(height) - middle)[:, None]
    column = OVERSAMPLING * (cos * x - sin * y + middle) + reach
    row = OVERSAMPLING * (sin * x + cos * y + middle) + reach
    # A sample lies `reach` beyond the first of `fine` it touches. The published mask leaves out
    # what the filter makes of the border, and is read at the nearest of the fine samples.
    low, high = 2 * reach - 1, OVERSAMPLING * width - 4
    inside = [(jnp.round(v) >= low) & (jnp.round(v) <= high) for v in (row, column)]
    return _bilinear(fine, row, column), (inside[0] & inside[1]).astype(images.dtype)


def pseudo_rotate(images: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images limited to the band that `rotate` leaves of images turned the other way; the mask.

    What a generator draws turned by `angle` has the full band of its grid. It is compared with
    `rotate(…, angle)` after this. As published, the filter has one tap per pixel, so that the
    corners of the turned band fold back into the grid's instead of being cut off.
    """
    f = bandlimit_filter(rotation_matrix(-angle), up=1)
    reach = f.shape[0] // 2
    out = _upsample(images, f)[:, reach:-reach, reach:-reach]
    inside = [
        (np.arange(length) >= reach) & (np.arange(length) < length - reach)
        for length in images.shape[1:3]
    ]
    return out, _outer(inside, images.dtype)


def bandlimit_filter(matrix: jax.Array, *, up: int) -> jax.Array:
    """`[K, K]` with K = 4·LOBES·up - 1: what limits the band of two grids, one mapped to the other.

    Sinc of the input's grid convolved with that of the output's, times the same of Lanczos'
    windows. Each of the `up²` phases adds up to 1/up².

    Args:
      matrix: `[3, 3]` or `[2, 2]`, from places of the input to those of the output.
      up: taps per pixel.
    """
    period = 2 * FILTER_FIELD * up - 1
    taps = np.fft.ifftshift(np.arange(period) - period // 2) / up
    x, y = (jnp.asarray(v, matrix.dtype) for v in np.meshgrid(taps, taps))
    outer_x = matrix[0, 0] * x + matrix[0, 1] * y
    outer_y = matrix[1, 0] * x + matrix[1, 1] * y

    def convolved(kernel: Callable[[jax.Array], jax.Array]) -> jax.Array:
        grids = (kernel(a) * kernel(b) for a, b in ((x, y), (outer_x, outer_y)))
        first, second = map(jnp.fft.fft2, grids)
        return jnp.fft.ifft2(first * second).real

    f = jnp.fft.fftshift(convolved(jnp.sinc) * convolved(_window))
    cut = (FILTER_FIELD - 2 * LOBES) * up
    f = jnp.pad(f[cut:-cut, cut:-cut], ((0, 1), (0, 1)))
    f = f.reshape(4 * LOBES, up, 4 * LOBES, up)
    f = f / jnp.sum(f, axis=(0, 2), keepdims=True) / up**2
    return f.reshape(4 * LOBES * up, -1)[:-1, :-1]


def _window(x: jax.Array) -> jax.Array:
    x = jnp.abs(x) / LOBES
    return jnp.where(x < 1, jnp.sinc(x), 0.0)


def _offsets(length: int) -> np.ndarray:
    """Output index minus input index, `[length, length]`."""
    return np.arange(length)[:, None] - np.arange(length)[None, :]


def _separable(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    images = jnp.einsum('ih,bhwc->biwc', rows, images, precision=HIGHEST)
    return jnp.einsum('jw,biwc->bijc', columns, images, precision=HIGHEST)


def _outer(inside: list[jax.Array], dtype: jnp.dtype) -> jax.Array:
    return (inside[0][:, None] & inside[1][None, :]).astype(dtype)


def _upsample(images: jax.Array, f: jax.Array) -> jax.Array:
    """Σ_j x[j] f[n - up·j] of both axes, gain up², `[B, up·(H - 1) + K, …, C]`.

    All phases are the channels of one dense convolution of the channels as images: a depthwise one
    is slow on CPUs.
    """
    batch, height, width, channels = images.shape
    up = (f.shape[0] + 1) // (4 * LOBES)
    taps = 4 * LOBES
    phases = jnp.pad(f * up**2, ((0, 1), (0, 1))).reshape(taps, up, taps, up)
    kernel = phases[::-1, :, ::-1].transpose(0, 2, 1, 3).reshape(taps, taps, 1, up * up)
    x = images.transpose(0, 3, 1, 2).reshape(batch * channels, height, width, 1)
    y = jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (1, 1),
        ((taps - 1,) * 2,) * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision=HIGHEST,
    )
    y = y.reshape(batch, channels, *y.shape[1:3], up, up).transpose(0, 2, 4, 3, 5, 1)
    y = y.reshape(batch, up * (height + taps - 1), up * (width + taps - 1), channels)
    return y[:, :-1, :-1]


def _bilinear(images: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """All images read at the same places `[H', W']`; zero outside."""
    height, width = images.shape[1:3]
    images = jnp.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0)))
    row, column = jnp.clip(row, -1, height) + 1, jnp.clip(column, -1, width) + 1
    top, left = jnp.floor(row), jnp.floor(column)
    down, right = ((v - v0)[None, :, :, None] for v, v0 in ((row, top), (column, left)))
    i, j = top.astype(jnp.int32), left.astype(jnp.int32)
    upper = (1 - right) * images[:, i, j] + right * images[:, i, j + 1]
    lower = (1 - right) * images[:, i + 1, j] + right * images[:, i + 1, j + 1]
    return (1 - down) * upper + down * lower
