"""Low-pass filters by the window method (StyleGAN3, section 3 and appendix C). NumPy only.

Cutoffs, widths and rates are frequencies in the same unit; a filter with n taps at the rate s has
its taps 1/s apart. Designed in float64, returned in float32 as the published buffers are.
"""

import numpy as np


def lowpass(
    taps: int, cutoff: float, width: float, rate: float, *, radial: bool = False
) -> np.ndarray | None:
    """A Kaiser-windowed low-pass with gain 1 at frequency 0.

    Args:
      taps: per axis; 1 gives None, no filter.
      cutoff: middle of the transition band, between 0 and rate/2.
      width: of the transition band; with the taps it decides the attenuation of the stop band.
      rate: of the samples that the filter is applied to.
      radial: `[taps, taps]`, the same in every direction, instead of the separable `[taps]`.

    Raises:
      ValueError: the cutoff is not between 0 and rate/2.
    """
    if not 0 < cutoff <= rate / 2:
        raise ValueError(f'cutoff must be in (0, rate/2], got {cutoff} at the rate {rate}')
    if taps == 1:
        return None
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    window = np.kaiser(taps, kaiser_beta(attenuation(taps, width, rate)))
    if radial:
        f = jinc(np.hypot(x[:, None], x[None, :]), cutoff) * np.outer(window, window)
    else:
        f = np.sinc(2 * cutoff * x) * window
    return (f / f.sum()).astype(np.float32)


def attenuation(taps: int, width: float, rate: float) -> float:
    """Kaiser's estimate of the stop band's attenuation in dB."""
    return 2.285 * (taps - 1) * np.pi * width / (rate / 2) + 7.95


def kaiser_beta(attenuation: float) -> float:
    """Kaiser's β of the window for an attenuation in dB."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def jinc(r: np.ndarray, cutoff: float) -> np.ndarray:
    """J1(2π·cutoff·r)/(π·r), the ideal low-pass that is the same in every direction."""
    safe = np.where(r == 0, 1.0, r)
    # The limit at 0 is the cutoff: J1(z) = z/2 for small z.
    return np.where(r == 0, cutoff, bessel_j1(2 * np.pi * cutoff * safe) / (np.pi * safe))


def bessel_j1(x: np.ndarray, points: int = 256) -> np.ndarray:
    """J1 by its integral, the mean of cos(τ - x·sin τ) over a period.

    The trapezoidal rule is exact to rounding for such a function as long as |x| is well below the
    number of points; filters stay below 40.
    """
    t = 2 * np.pi * np.arange(points) / points
    return np.cos(t - np.asarray(x)[..., None] * np.sin(t)).mean(axis=-1)
