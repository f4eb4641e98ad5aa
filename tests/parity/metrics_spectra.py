"""Golden cases of spectra: azimuthal averages, and the windowed protocol of StyleGAN3."""

import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import spectra


def spectrum(case):
    images = floats(case['in_images']) / 127.5 - 1
    power = spectra.power_spectrum(images)
    for rounding, stored in (('nearest', 'round'), ('floor', 'floor')):
        ring = spectra.rings(*images.shape[1:3], rounding=rounding, radius='index')
        profiles = spectra.azimuthal_average(power, ring)
        counts = spectra.ring_counts(ring)
        check_entries(case, f'out_profile_{stored}', profiles)
        case.check(f'out_counts_{stored}', counts)
        case.check(f'out_mean_profile_{stored}', profiles.mean(axis=0))
        if rounding == 'nearest':
            case.check('out_azimuthal_integral_round', profiles.mean(axis=0) * counts)
    sums = spectra.add_images(None, images, spectra.measure_spectra)
    check_entries(case, 'out_power_mean', sums.mean('power'))
    case.check('out_log_magnitude_mean', sums.mean('log_magnitude'))


def spectrum_windowed(case):
    images, config = floats(case['in_images']), case.config
    knobs = dict(beta=config['beta'], padding=config['interp'])
    power = spectra.windowed_power(images, config['mean'], config['std'], **knobs).mean(axis=0)
    check_entries(case, 'out_spectrum', power)
    case.check('out_heatmap_db', spectra.heatmap(power))
    case.check('out_window', spectra.kaiser_window(images.shape[1], config['beta']))
    for name, line in zip(('slice_0', 'slice_45'), spectra.slices(power), strict=True):
        case.check(f'out_{name}', line)


def check_entries(case, key, actual):
    """Compares each entry by itself, too: power falls by orders of magnitude over a spectrum."""
    case.check(key, actual)
    np.testing.assert_allclose(actual, case[key], rtol=100 * case.tolerance)


def floats(images):
    """`[N, H, W, C]` in the precision of the run; grey images may lack C."""
    images = jnp.asarray(np.asarray(images), float)
    return images[..., None] if images.ndim == 3 else images


CHECKS = {'spectrum': spectrum, 'spectrum_windowed': spectrum_windowed}
