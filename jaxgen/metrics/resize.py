"""Resizing as matrices: Pillow's filters, and the three ways that FID code comes to 299×299.

Images are `[N, H, W, C]`, sizes (height, width). A resize is separable: a matrix for the width,
then one for the height. Pixels are squares with centres at half integers, but for 'tf1'.

Pillow's filters (`resize`, `resize_8bit`) are antialiased: where an image shrinks, the filter is
stretched by the factor. Lanczos has a = 3, bicubic a = -0.5; at borders the weights that remain are
scaled to sum 1. The width comes first, as in Pillow up to 12. Pillow 13 begins with the height of
some images that lose more of it, and its 8-bit results are then others: an intermediate image is
rounded and cut to [0, 255].

    convention   code                           to 299×299                      to the network
    tf1          original FID, NVIDIA           bilinear, source coordinate     (x - 128) / 128
                 (fid50k_full), torch-fidelity  i·in/out, no antialiasing
    halfpixel    pytorch-fid                    bilinear, (i + ½)·in/out - ½,   x / 127.5 - 1
                                                no antialiasing
    clean        clean-fid                      Pillow's bicubic, cut to        (x - 128) / 128
                                                [0, 255], not rounded

The same images have different features in each, and FIDs of different conventions must not be
compared.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

CONVENTIONS = ('tf1', 'halfpixel', 'clean')
SIDE = 299

_FRACTION_BITS = 22  # of Pillow's weights for 8-bit images


def _box(x: np.ndarray) -> np.ndarray:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0)


# Name to (half width, filter).
FILTERS: Mapping[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    'box': (0.5, _box),
    'bilinear': (1.0, _triangle),
    'bicubic': (2.0, _cubic),
    'lanczos': (3.0, _lanczos),
}


def filter_matrix(source: int, target: int, kind: str) -> np.ndarray:
    """Pillow's weights `[target, source]` of a filter along one axis, float64; each row sums to 1.

    Raises:
      ValueError: a filter that is none of `FILTERS`, or a length below 1.
    """
    if kind not in FILTERS or min(source, target) < 1:
        raise ValueError(
            f'kind must be one of {tuple(FILTERS)} and lengths positive, got {kind!r}, {source} to '
            f'{target}'
        )
    half_width, function = FILTERS[kind]
    factor = source / target
    stretch = max(factor, 1.0)
    centre = (np.arange(target)[:, None] + 0.5) * factor
    pixel = np.arange(source)[None]
    # The ends are whole pixels, as in Pillow: a tap on the border may be left out by rounding.
    first = np.maximum(np.trunc(centre - half_width * stretch + 0.5), 0)
    last = np.minimum(np.trunc(centre + half_width * stretch + 0.5), source)
    weights = function((pixel + 0.5 - centre) / stretch) * ((pixel >= first) & (pixel < last))
    return weights / weights.sum(axis=1, keepdims=True)


def bilinear_matrix(source: int, target: int, *, half_pixel: bool) -> np.ndarray:
    """Weights `[target, source]` of bilinear interpolation without antialiasing, clamped, float64.

    Args:
      half_pixel: source coordinate (i + ½)·source/target - ½; else i·source/target.
    """
    index = np.arange(target)
    # In float32, as TensorFlow and PyTorch reckon: at 8-bit values the difference is 5e-4.
    factor, half = np.float32(source / target), np.float32(0.5)
    place = index.astype(np.float32)
    place = (place + half) * factor - half if half_pixel else place * factor
    place = np.clip(place.astype(np.float64), 0, source - 1)
    low = np.floor(place).astype(np.int64)
    weights = np.zeros((target, source))
    weights[index, low] = 1 - (place - low)
    weights[index, np.minimum(low + 1, source - 1)] += place - low
    return weights


def apply_matrices(images: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Float images `[N, H, W, C]` to `[N, h, w, C]` by matrices `[h, H]` and `[w, W]`."""
    rows, columns = (jnp.asarray(matrix, images.dtype) for matrix in (rows, columns))
    highest = jax.lax.Precision.HIGHEST
    images = jnp.einsum('nhwc,vw->nhvc', images, columns, precision=highest)
    return jnp.einsum('nhvc,uh->nuvc', images, rows, precision=highest)


def resize(images: jax.Array, size: tuple[int, int], kind: str = 'lanczos') -> jax.Array:
    """Float images `[N, H, W, C]` to `[N, *size, C]`, as Pillow resizes float planes, not cut."""
    matrices = (filter_matrix(n, m, kind) for n, m in zip(images.shape[1:3], size, strict=True))
    return apply_matrices(images, *matrices)


def resize_8bit(images: np.ndarray, size: tuple[int, int], kind: str = 'lanczos') -> np.ndarray:
    """uint8 images to `[N, *size, C]`, bit for bit as Pillow: rounded after each pass.

    Raises:
      ValueError: they are not uint8.
    """
    if images.dtype != np.uint8:
        raise ValueError(f'images must be uint8, got {images.dtype}')
    for axis in (2, 1):
        weights = filter_matrix(images.shape[axis], size[axis - 1], kind) * 2**_FRACTION_BITS
        weights = np.trunc(weights + np.copysign(0.5, weights))
        # Integers below 2**53, so a float64 product is exact.
        sums = np.tensordot(images.astype(np.float64), weights, axes=([axis], [1]))
        levels = np.floor((sums + 2 ** (_FRACTION_BITS - 1)) / 2**_FRACTION_BITS)
        images = np.moveaxis(np.clip(levels, 0, 255).astype(np.uint8), -1, axis)
    return images


def to_299(images: jax.Array, convention: str) -> jax.Array:
    """8-bit values `[N, H, W, C]`, of any dtype, to `[N, 299, 299, C]` floats in [0, 255].

    Raises:
      ValueError: a convention that is none of `CONVENTIONS`.
    """
    _check(convention)
    images = jnp.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        images = images.astype(float)
    if convention == 'clean':
        return jnp.clip(resize(images, (SIDE, SIDE), 'bicubic'), 0, 255)
    half = convention == 'halfpixel'
    return apply_matrices(
        images, *(bilinear_matrix(n, SIDE, half_pixel=half) for n in images.shape[1:3])
    )


def inception_input(images: jax.Array, convention: str) -> jax.Array:
    """8-bit values `[N, H, W, 3]` to what the network takes, `[N, 299, 299, 3]` about [-1, 1].

    Raises:
      ValueError: a convention that is none of `CONVENTIONS`.
    """
    resized = to_299(images, convention)
    return resized / 127.5 - 1 if convention == 'halfpixel' else (resized - 128) / 128


def _check(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f'convention must be one of {CONVENTIONS}, got {convention!r}')
