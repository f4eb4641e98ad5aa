"""The wavelet filters that ADA resamples and equalises with (2006.06676, appendix B). NumPy only.

Coefficients of Daubechies' least asymmetric wavelets with 2 and 6 vanishing moments, low-pass side,
normalised to Σh² = 1 (Daubechies 1992, 'Ten Lectures on Wavelets').
"""

import numpy as np

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
BANDS = 4


def filter_bank(wavelet: tuple[float, ...] = SYM2, bands: int = BANDS) -> np.ndarray:
    """Symmetric filters `[bands, taps]` for octaves of frequency, lowest first; they add up to 1.

    With L = h*h̃/2 and H = 1 - L, the bands of four are L(z)L(z²)L(z⁴), L(z)L(z²)H(z⁴), L(z)H(z²),
    H(z). float32.
    """
    h = np.array(wavelet)
    low = np.convolve(h, h[::-1]) / 2
    high = -low
    high[len(low) // 2] += 1
    bank = [np.ones(1)]
    for _ in range(bands - 1):
        bank = [np.convolve(_stretched(f), low) for f in bank] + [high]
    taps = max(map(len, bank))
    return np.stack([np.pad(f, (taps - len(f)) // 2) for f in bank]).astype(np.float32)


def _stretched(f: np.ndarray) -> np.ndarray:
    """f(z²): a zero between every two taps."""
    out = np.zeros(2 * len(f) - 1)
    out[::2] = f
    return out
