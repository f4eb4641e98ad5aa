"""Spectra of images and of positional encodings: how power spreads over spatial frequencies.

Images are `[N, H, W, C]` floats with C = 1 or 3, any H and W. Elsewhere in the library they lie in
[-1, 1]; here the unit is free, and power goes with its square.

1. Grey is 0.299 R + 0.587 G + 0.114 B. F is its discrete Fourier transform without any factor, so
   that Parseval's equation reads Σ |F|² = H·W · Σ grey². No mean is removed and no window applied,
   as in the protocol of CIPS ('Spectral analysis') and of Durall et al. (2020), 'Watch your
   Up-Convolution'.
2. Spectra `[..., H, W]` are centred: frequency 0 is at row H//2, column W//2. Power is |F|², the
   magnitude spectrum is ln(|F| + 1e-8), and means over images are taken of these.
3. The azimuthal average collects frequencies in rings around the centre. Frequency (v, u), counted
   in rows and columns from there, has the radius √(v² + u²), and on images that are not square by
   default min(H, W) · √((v/H)² + (u/W)²), so that a ring is one spatial frequency in all
   directions: ring r is that of r / min(H, W) cycles per pixel. Rings run to the corner; beyond
   min(H, W) / 2 they are no longer whole. The average times the number of frequencies in a ring is
   the azimuthal integral.
4. `windowed_power` is the other protocol, of 'Alias-Free GANs' (Karras et al. 2021): whitened,
   under a Kaiser window, without the cross that the borders of an image make in 2.

Means over many images are exact sums: `add_images` measures one image at a time and adds in
float64, in order, so the result does not depend on how the images were cut into batches.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROUNDINGS = ('nearest', 'floor')
RADII = ('cycles', 'index')

_GREY = (0.299, 0.587, 0.114)
_TINY_MAGNITUDE = 1e-8
_TINY_POWER = _TINY_MAGNITUDE**2

Measure = Callable[[jax.Array], Mapping[str, jax.Array]]


def power_spectrum(images: jax.Array) -> jax.Array:
    """|F|² `[N, H, W]` of the grey images, centred."""
    return _square(_transform(images))


def log_magnitude(images: jax.Array) -> jax.Array:
    """ln(|F| + 1e-8) `[N, H, W]` of the grey images, centred."""
    return jnp.log(jnp.sqrt(power_spectrum(images)) + _TINY_MAGNITUDE)


def rings(
    height: int, width: int, *, rounding: str = 'nearest', radius: str = 'cycles'
) -> np.ndarray:
    """The ring of each frequency of a centred spectrum, int `[H, W]`, without gaps from 0.

    Args:
      rounding: of the radius to a ring: 'nearest', or 'floor' as much published code has it.
      radius: 'cycles' as in this module's head; 'index' is √(v² + u²) on any image. They are the
        same where H = W.
    """
    if rounding not in ROUNDINGS or radius not in RADII:
        raise ValueError(
            f'rounding must be one of {ROUNDINGS} and radius one of {RADII}, got {rounding!r} and '
            f'{radius!r}'
        )
    v, u = (np.arange(n) - n // 2 for n in (height, width))
    if radius == 'cycles':
        side = min(height, width)
        v, u = v * side / height, u * side / width
    # Not np.hypot: this root of a whole square is whole.
    distance = np.sqrt(v[:, None] ** 2 + u[None, :] ** 2)
    return np.floor(distance + (0.5 if rounding == 'nearest' else 0.0)).astype(np.int64)


def ring_counts(ring: np.ndarray) -> np.ndarray:
    """Number of frequencies in each ring, int `[K]`."""
    return np.bincount(ring.ravel())


def azimuthal_average(spectrum: jax.Array, ring: np.ndarray) -> jax.Array:
    """Mean over each ring, `[..., H, W]` to `[..., K]`. Times `ring_counts` it is the integral."""
    counts = ring_counts(ring)
    values = spectrum.reshape(*spectrum.shape[:-2], -1)
    totals = jax.ops.segment_sum(jnp.moveaxis(values, -1, 0), ring.ravel(), len(counts))
    return jnp.moveaxis(totals / counts.reshape(-1, *(1,) * (totals.ndim - 1)), 0, -1)


def kaiser_window(length: int, beta: float = 8.0) -> np.ndarray:
    """Symmetric Kaiser window `[length]` of energy 1, float64."""
    window = np.kaiser(length, beta)
    return window / np.sqrt(np.sum(window**2))


def windowed_power(
    images: jax.Array,
    mean: float | jax.Array,
    std: float | jax.Array,
    *,
    beta: float = 8.0,
    padding: int = 4,
) -> jax.Array:
    """Windowed power spectra `[N, padding·H, padding·W]`, frequency 0 at [0, 0], mean of channels.

    White noise of this mean and deviation has 1 everywhere.

    Args:
      images: `[N, H, W, C]`, any C, in the unit of `mean` and `std`.
      mean, std: of all pixels of the real images: of one set for all that are compared.
      beta: shape of the Kaiser window.
      padding: the images are filled with zeros to this many times their size: a finer spectrum.
    """
    _check(images, channels=None)
    height, width = images.shape[1:3]
    window = np.outer(kaiser_window(height, beta), kaiser_window(width, beta))
    white = (images - mean) / std * jnp.asarray(window[None, :, :, None], images.dtype)
    sizes = (padding * height, padding * width)
    return jnp.mean(_square(jnp.fft.fft2(white, sizes, axes=(1, 2))), axis=3)


def heatmap(spectrum: np.ndarray) -> np.ndarray:
    """`windowed_power` `[H, W]` as decibels `[H+1, W+1]`, centred, from -Nyquist to +Nyquist.

    The first row and column return at the end, which makes the picture symmetric for even sizes.
    """
    decibels = 10 * np.log10(np.maximum(spectrum, np.finfo(np.float32).tiny))
    return np.pad(np.fft.fftshift(decibels), ((0, 1), (0, 1)), mode='wrap')


def slices(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `heatmap`'s decibels from frequency 0 to the right, and to the lower right corner.

    Each `[n//2 + 1]` with n the shorter side of `spectrum`; the ends are the Nyquist frequency of
    one axis, and of both.
    """
    decibels = heatmap(spectrum)
    row, column = (n // 2 for n in decibels.shape)
    steps = np.arange(min(row, column) + 1)
    return decibels[row, column + steps], decibels[row + steps, column + steps]


class Sums(NamedTuple):
    """Sums over `count` images of what a measure gives for each, float64."""

    count: int
    totals: Mapping[str, np.ndarray]

    def mean(self, name: str) -> np.ndarray:
        """Mean over the images."""
        return self.totals[name] / self.count

    def deviation(self, name: str) -> np.ndarray:
        """Standard deviation over the images of what has a sum of squares, `name`_squared."""
        variance = self.mean(f'{name}_squared') - self.mean(name) ** 2
        return np.sqrt(np.maximum(variance, 0))


def add_images(sums: Sums | None, images: np.ndarray, measure: Measure) -> Sums:
    """`sums`, or nothing yet (None), with more images `[N, H, W, C]`.

    Args:
      measure: jitted, from one image `[H, W, C]` to named arrays: `measure_spectra`,
        `measure_moments`, or a `partial` of `measure_windowed`.
    """
    count, totals = sums or (0, {})
    totals = {name: total.copy() for name, total in totals.items()}
    for image in images:
        for name, value in jax.device_get(measure(image)).items():
            totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
        count += 1
    return Sums(count, totals)


@jax.jit
def measure_spectra(image: jax.Array) -> dict[str, jax.Array]:
    """`power` and `log_magnitude` `[H, W]`; `decibels` `[K]` of the profile, and `_squared`."""
    power = power_spectrum(image[None])[0]
    profile = azimuthal_average(power, rings(*power.shape))
    decibels = 10 * jnp.log10(profile + _TINY_POWER)
    return {
        'power': power,
        'log_magnitude': jnp.log(jnp.sqrt(power) + _TINY_MAGNITUDE),
        'decibels': decibels,
        'decibels_squared': decibels**2,
    }


@jax.jit
def measure_moments(image: jax.Array) -> dict[str, jax.Array]:
    """`value` and `value_squared` of the pixels, for `windowed_power`."""
    return {'value': jnp.mean(image), 'value_squared': jnp.mean(image**2)}


@partial(jax.jit, static_argnames=('beta', 'padding'))
def measure_windowed(
    image: jax.Array, mean: jax.Array, std: jax.Array, beta: float = 8.0, padding: int = 4
) -> dict[str, jax.Array]:
    """`spectrum`: `windowed_power` of one image."""
    return {'spectrum': windowed_power(image[None], mean, std, beta=beta, padding=padding)[0]}


class Profile(NamedTuple):
    """An azimuthal average, ring by ring `[K]`, of `rings(H, W)`.

    Attributes:
      frequency: cycles per pixel.
      average, integral: power per frequency, and of the whole ring.
      whole: whether the ring lies below the Nyquist frequency of both axes.
    """

    frequency: np.ndarray
    average: np.ndarray
    integral: np.ndarray
    whole: np.ndarray


def profile_of(power: np.ndarray) -> Profile:
    """The profile of a centred power spectrum `[H, W]`, of one image or the mean of many."""
    ring, side = rings(*power.shape), min(power.shape)
    counts = ring_counts(ring)
    integral = np.bincount(ring.ravel(), np.asarray(power, np.float64).ravel())
    index = np.arange(len(counts))
    return Profile(index / side, integral / counts, integral, index <= side // 2)


def profile_distance(a: Profile, b: Profile) -> float:
    """Mean of |10 log10(a / b)| in decibels over the whole rings but 0, the brightness."""
    rows = a.whole & (a.frequency > 0)
    return float(np.mean(np.abs(10 * np.log10(a.average[rows] / b.average[rows]))))


def median_frequency(profile: Profile) -> float:
    """Cycles per pixel up to which half of the power lies, without that of frequency 0."""
    power = np.cumsum(profile.integral[1:])
    return float(profile.frequency[1:][np.searchsorted(power, power[-1] / 2)])


class Components(NamedTuple):
    """Principal components.

    Attributes:
      scores: `[N, K]`, each row's coordinates along the directions.
      directions: `[C, K]`, orthonormal; the entry of largest size of each is positive.
      explained: `[K]`, share of the whole variance, falling.
    """

    scores: np.ndarray
    directions: np.ndarray
    explained: np.ndarray


def principal_components(features: np.ndarray, count: int = 3) -> Components:
    """The first `count` principal components of `features [N, C]`, e.g. an encoding's pixels."""
    if not 1 <= count <= features.shape[1]:
        raise ValueError(f'count must be from 1 to {features.shape[1]}, got {count}')
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    directions = directions[:, ::-1][:, :count]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(count)])
    explained = variances[::-1][:count] / max(variances.sum(), np.finfo(np.float64).tiny)
    return Components(centred @ directions, directions, explained)


def _transform(images: jax.Array) -> jax.Array:
    _check(images, channels=(1, 3))
    if images.shape[-1] == 3:
        # Written out, not as a matmul: a TPU would round it to bfloat16.
        grey = sum(weight * images[..., i] for i, weight in enumerate(_GREY))
    else:
        grey = images[..., 0]
    return jnp.fft.fftshift(jnp.fft.fft2(grey), axes=(-2, -1))


def _square(transform: jax.Array) -> jax.Array:
    return transform.real**2 + transform.imag**2


def _check(images: jax.Array, channels: tuple[int, ...] | None) -> None:
    if images.ndim != 4 or 0 in images.shape or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f'images must be floats [N, H, W, C], not empty, got {images.dtype} {images.shape}'
        )
    if channels and images.shape[-1] not in channels:
        raise ValueError(f'images must have one of {channels} channels, got {images.shape[-1]}')
