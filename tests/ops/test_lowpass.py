"""Low-pass filters against scipy, and against what a low-pass is for."""

import numpy as np
import pytest
from scipy import signal, special

from jaxgen.ops.lowpass import attenuation, bessel_j1, jinc, lowpass

DESIGNS = [(12, 2.0, 12.0, 32.0), (24, 5.2, 9.1, 64.0), (6, 2.0, 4.0, 16.0), (13, 3.0, 5.0, 32.0)]


def response(f, frequencies, rate):
    """Magnitude at frequencies along the x axis, of `[K]` or `[K, K]`."""
    taps = f.astype(np.float64)
    taps = taps.sum(0) if taps.ndim == 2 else taps
    waves = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(len(taps))) / rate)
    return np.abs(waves @ taps)


@pytest.mark.parametrize('design', DESIGNS)
def test_the_separable_filter_is_scipys(design):
    taps, cutoff, width, rate = design
    expected = signal.firwin(taps, cutoff, width=width, fs=rate)
    np.testing.assert_allclose(lowpass(*design), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('design', DESIGNS)
def test_the_radial_filter_is_the_formula_with_scipys_bessel_function(design):
    taps, cutoff, width, rate = design
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.maximum(np.hypot(x[:, None], x[None, :]), 1e-12)
    beta = signal.kaiser_beta(signal.kaiser_atten(taps, width / (rate / 2)))
    window = signal.windows.kaiser(taps, beta)
    expected = special.j1(2 * np.pi * cutoff * r) / (np.pi * r) * np.outer(window, window)
    expected = expected / expected.sum()
    np.testing.assert_allclose(lowpass(*design, radial=True), expected, rtol=1e-6, atol=1e-9)


def test_the_bessel_function_is_exact_where_filters_use_it():
    x = np.linspace(0, 60, 400)
    np.testing.assert_allclose(bessel_j1(x), special.j1(x), atol=1e-14)
    assert jinc(np.zeros(1), 3.0)[0] == pytest.approx(jinc(np.full(1, 1e-7), 3.0)[0])


def test_the_stop_band_is_as_deep_as_designed_and_the_pass_band_flat():
    """12 taps at twice the rate, transition up to half the canvas' rate, as in StyleGAN3."""
    taps, cutoff, half_width, rate = 12, 4.0, 4.0, 32.0
    f = lowpass(taps, cutoff, 2 * half_width, rate)
    depth = attenuation(taps, 2 * half_width, rate)
    assert depth > 40
    stop = response(f, np.linspace(cutoff + half_width, rate / 2, 200), rate)
    assert -20 * np.log10(stop.max()) > depth - 3
    assert response(f, np.zeros(1), rate)[0] == pytest.approx(1)


def test_a_radial_filter_is_the_same_in_every_direction():
    """Its response at a diagonal frequency is that along x; a separable one's is not."""
    rate, frequency = 32.0, 5.0
    phase = 2 * np.pi * (np.arange(12) - 5.5) / rate
    for radial, spread in ((True, 0.01), (False, 0.05)):
        f = lowpass(12, 4.0, 8.0, rate, radial=radial).astype(np.float64)
        f = f if radial else np.outer(f, f)
        straight = np.sum(f * np.cos(frequency * phase)[None, :])
        side = frequency / np.sqrt(2)
        diagonal = np.sum(f * np.cos(side * (phase[None, :] + phase[:, None])))
        assert (abs(straight - diagonal) < spread) == radial, (straight, diagonal)


def test_one_tap_is_no_filter_and_a_cutoff_above_half_the_rate_an_error():
    assert lowpass(1, 1.0, 1.0, 8.0) is None
    with pytest.raises(ValueError, match=r'cutoff must be in \(0, rate/2\], got 5.0 at the rate 8'):
        lowpass(6, 5.0, 1.0, 8.0)
