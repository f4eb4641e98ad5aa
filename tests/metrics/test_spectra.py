"""Spectra: known pictures land where they must, power is conserved, and a slow numpy oracle."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import spectra

SIZES = [(16, 16), (15, 15), (12, 20), (9, 16), (1, 7)]


def noise(seed, n, height, width, channels=1):
    return np.random.default_rng(seed).normal(size=(n, height, width, channels)).astype(np.float32)


def waves(height, width, rows, columns, phase=0.3):
    """One cosine with so many cycles down and across, `[1, H, W, 1]`, amplitude 1."""
    y, x = np.mgrid[:height, :width]
    picture = np.cos(2 * np.pi * (rows * y / height + columns * x / width) + phase)
    return picture[None, ..., None].astype(np.float32)


def slow_power(image):
    """|F|², centred, by the definition of the transform."""
    height, width, channels = image.shape
    grey = image @ [0.299, 0.587, 0.114] if channels == 3 else image[..., 0]
    y, x = np.mgrid[:height, :width]
    power = np.zeros((height, width))
    for v, u in np.ndindex(height, width):
        frequency = (v - height // 2) * y / height + (u - width // 2) * x / width
        power[v, u] = np.abs(np.sum(grey * np.exp(-2j * np.pi * frequency))) ** 2
    return power


def slow_profile(power, floor=False):
    height, width = power.shape
    side, found = min(height, width), {}
    for v, u in np.ndindex(height, width):
        radius = side * np.hypot((v - height // 2) / height, (u - width // 2) / width)
        # Equal up to rounding: an exact half goes up, a whole radius stays.
        ring = int(np.floor(radius + (1e-9 if floor else 0.5 + 1e-9)))
        found.setdefault(ring, []).append(power[v, u])
    assert sorted(found) == list(range(len(found)))
    return np.array([np.mean(found[ring]) for ring in sorted(found)])


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', SIZES)
def test_equals_the_slow_oracle(size, channels):
    images = noise(0, 2, *size, channels)
    slow = np.stack([slow_power(image.astype(np.float64)) for image in images])
    power = spectra.power_spectrum(images)
    np.testing.assert_allclose(power, slow, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        spectra.log_magnitude(images), np.log(np.sqrt(slow) + 1e-8), atol=1e-3
    )
    for rounding in spectra.ROUNDINGS:
        ring = spectra.rings(*size, rounding=rounding)
        expected = [slow_profile(p, floor=rounding == 'floor') for p in slow]
        np.testing.assert_allclose(spectra.azimuthal_average(power, ring), expected, rtol=1e-4)
    profile = spectra.profile_of(np.mean(power, axis=0))
    np.testing.assert_allclose(profile.average, slow_profile(slow.mean(axis=0)), rtol=1e-4)


@pytest.mark.parametrize('size', SIZES)
def test_parseval_holds_for_the_spectrum_and_for_the_rings(size):
    images = noise(1, 3, *size) + 0.5
    power = spectra.power_spectrum(images)
    energy = size[0] * size[1] * np.sum(images.astype(np.float64) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(np.sum(power, axis=(1, 2)), energy, rtol=1e-5)
    for image_power, image_energy in zip(power, energy, strict=True):
        profile = spectra.profile_of(image_power)
        np.testing.assert_allclose(profile.integral.sum(), image_energy, rtol=1e-5)
        counts = spectra.ring_counts(spectra.rings(*size))
        np.testing.assert_allclose(profile.average * counts, profile.integral, rtol=1e-6)


def test_white_noise_is_flat_within_the_statistical_error():
    count, side, deviation = 400, 24, 0.7
    images = deviation * noise(2, count, side, side)
    sums = spectra.add_images(None, images, spectra.measure_spectra)
    profile = spectra.profile_of(sums.mean('power'))
    level = side * side * deviation**2
    # |F|² is exponential: its deviation is its mean, but √2 of it where F is real. Frequencies come
    # in pairs ±k of the same value, so a ring has half as many independent ones.
    counts = spectra.ring_counts(spectra.rings(side, side))
    error = level * np.sqrt(2 / (counts * count))
    assert np.all(np.abs(profile.average - level) < 4 * error)
    # And within that it does scatter: an estimate that is too smooth would be wrong as well.
    assert np.max(np.abs(profile.average - level) / error) > 0.5
    mean = sums.mean('power')
    np.testing.assert_allclose(mean, level, rtol=4.5 * np.sqrt(2 / count))
    # ln |F| of an exponential |F|² has the mean (ln level − γ)/2.
    expected = (np.log(level) - np.euler_gamma) / 2
    np.testing.assert_allclose(sums.mean('log_magnitude').mean(), expected, atol=0.01)
    # Half of the power of a flat spectrum lies within the ring of half of the area.
    np.testing.assert_allclose(spectra.median_frequency(profile), np.sqrt(0.5 / np.pi), atol=0.03)


@pytest.mark.parametrize(
    ('size', 'rows', 'columns'),
    [((16, 16), 3, 4), ((16, 16), 0, 5), ((15, 15), 6, 0), ((12, 24), 3, 0), ((12, 24), 0, 6)],
)
def test_a_sinusoid_lands_in_its_bin(size, rows, columns):
    height, width = size
    whole = np.asarray(spectra.power_spectrum(waves(height, width, rows, columns)))[0]
    power = whole.copy()
    peaks = {(height // 2 + s * rows, width // 2 + s * columns) for s in (-1, 1)}
    for peak in peaks:
        np.testing.assert_allclose(power[peak], (height * width / 2) ** 2, rtol=1e-5)
        power[peak] = 0
    assert power.max() < 1e-3
    profile = spectra.profile_of(whole)
    cycles = np.hypot(rows / height, columns / width)
    strongest = profile.integral.argmax()
    np.testing.assert_allclose(profile.frequency[strongest], cycles, atol=0.5 / min(size))
    np.testing.assert_allclose(profile.integral[strongest], (height * width) ** 2 / 2, rtol=1e-5)
    np.testing.assert_allclose(spectra.median_frequency(profile), profile.frequency[strongest])


def test_a_wave_has_one_ring_in_every_direction_on_images_that_are_not_square():
    down, across = (
        spectra.profile_of(np.asarray(spectra.power_spectrum(waves(12, 24, *cycles)))[0])
        for cycles in ((3, 0), (0, 6))
    )
    assert down.integral.argmax() == across.integral.argmax() == 3
    assert spectra.rings(12, 24, radius='index')[6, 12 + 6] == 6


def test_grey_is_the_weighted_sum_and_a_constant_is_all_at_frequency_zero():
    colour = np.array([0.2, -0.4, 0.9], np.float32)
    power = np.array(spectra.power_spectrum(np.broadcast_to(colour, (1, 6, 8, 3))))[0]
    grey = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(power[3, 4], (48 * grey) ** 2, rtol=1e-5)
    power[3, 4] = 0
    np.testing.assert_allclose(power, 0, atol=1e-6)


@pytest.mark.parametrize('radius', spectra.RADII)
@pytest.mark.parametrize('rounding', spectra.ROUNDINGS)
@pytest.mark.parametrize('size', [*SIZES, (3, 40), (64, 5)])
def test_rings_have_no_gap_and_the_centre_alone_is_ring_zero_of_nearest(size, rounding, radius):
    ring = spectra.rings(*size, rounding=rounding, radius=radius)
    counts = spectra.ring_counts(ring)
    assert counts.sum() == size[0] * size[1]
    assert counts.min() > 0
    assert ring[size[0] // 2, size[1] // 2] == 0


def images_and_measures():
    images = noise(3, 5, 10, 14, 3)
    windowed = functools.partial(spectra.measure_windowed, mean=0.1, std=0.9, padding=2)
    return images, (spectra.measure_spectra, spectra.measure_moments, windowed)


def test_sums_do_not_depend_on_how_images_are_batched():
    images, measures = images_and_measures()
    for measure in measures:
        whole = spectra.add_images(None, images, measure)
        for cuts in ([1], [2, 3], [1, 2, 3, 4]):
            sums = None
            for part in np.split(images, cuts):
                sums = spectra.add_images(sums, part, measure)
            assert sums.count == whole.count == 5
            for name, total in whole.totals.items():
                np.testing.assert_array_equal(sums.totals[name], total)


def test_adding_images_leaves_the_sums_before_as_they_were():
    images, (measure, *_) = images_and_measures()
    before = spectra.add_images(None, images[:2], measure)
    kept = before.mean('power').copy()
    spectra.add_images(before, images[2:], measure)
    np.testing.assert_array_equal(before.mean('power'), kept)


def test_means_are_those_of_the_images():
    images, (measure, moments, windowed) = images_and_measures()
    sums = spectra.add_images(None, images, measure)
    power = np.asarray(spectra.power_spectrum(images), np.float64)
    np.testing.assert_allclose(sums.mean('power'), power.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        sums.mean('log_magnitude'), np.mean(spectra.log_magnitude(images), axis=0), atol=1e-4
    )
    profiles = np.stack([spectra.profile_of(p).average for p in power])
    decibels = 10 * np.log10(profiles)
    np.testing.assert_allclose(sums.mean('decibels'), decibels.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(sums.deviation('decibels'), decibels.std(axis=0), atol=1e-3)
    pixels = spectra.add_images(None, images, moments)
    np.testing.assert_allclose(pixels.mean('value'), images.mean(), atol=1e-6)
    np.testing.assert_allclose(pixels.deviation('value'), images.std(), rtol=1e-5)
    mean = spectra.add_images(None, images, windowed).mean('spectrum')
    expected = np.mean(spectra.windowed_power(images, 0.1, 0.9, padding=2), axis=0)
    np.testing.assert_allclose(mean, expected, rtol=1e-4)


def test_a_black_image_has_finite_spectra():
    sums = spectra.add_images(None, np.zeros((1, 8, 8, 3), np.float32), spectra.measure_spectra)
    for name in sums.totals:
        assert np.isfinite(sums.mean(name)).all()


def test_windowed_white_noise_has_the_level_one_in_all_directions():
    images = 0.3 + 2.0 * noise(4, 300, 12, 16, 3)
    power = np.mean(spectra.windowed_power(images, 0.3, 2.0), axis=0)
    assert power.shape == (48, 64)
    np.testing.assert_allclose(power.mean(), 1, atol=0.02)
    np.testing.assert_allclose(power, 1, atol=5 * np.sqrt(2 / 900))
    np.testing.assert_allclose(spectra.heatmap(power).mean(), 0, atol=0.1)


def test_the_window_keeps_a_wave_narrow_where_it_does_not_fit_the_frame():
    wave = waves(32, 32, 0, 7.5)
    plain = np.asarray(spectra.power_spectrum(wave))[0, 16, 16:]
    windowed = spectra.slices(spectra.windowed_power(wave, 0.0, 1.0, padding=1)[0])[0]
    assert 10 * np.log10(plain[15] / plain.max()) > -25
    assert windowed[15] - windowed.max() < -50


def test_the_heatmap_is_centred_closed_and_symmetric():
    power = spectra.windowed_power(noise(5, 1, 8, 6, 1), 0.0, 1.0)[0]
    decibels = spectra.heatmap(power)
    assert decibels.shape == (33, 25)
    np.testing.assert_allclose(decibels, decibels[::-1, ::-1], atol=1e-2)
    np.testing.assert_allclose(decibels[16, 12], 10 * np.log10(power[0, 0]), rtol=1e-5)
    right, diagonal = spectra.slices(power)
    np.testing.assert_array_equal(right, decibels[16, 12:25])
    np.testing.assert_array_equal(diagonal, decibels[np.arange(16, 29), np.arange(12, 25)])


def test_the_distance_is_zero_to_itself_and_the_decibels_of_a_gain():
    power = np.random.default_rng(6).uniform(1, 2, (16, 16))
    a, louder = spectra.profile_of(power), spectra.profile_of(10 * power)
    assert spectra.profile_distance(a, a) == 0
    np.testing.assert_allclose(spectra.profile_distance(a, louder), 10)
    brighter = power.copy()
    brighter[8, 8] *= 100
    assert spectra.profile_distance(a, spectra.profile_of(brighter)) == 0


def test_principal_components_are_the_directions_of_a_known_cloud():
    rng = np.random.default_rng(7)
    directions, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    scales = np.array([5.0, 3.0, 2.0, 0.5, 0.1, 0.0])
    scores = rng.normal(size=(4000, 6))
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0] * np.sqrt(4000) * scales
    found = spectra.principal_components(scores @ directions.T + 7.0, 3)
    np.testing.assert_allclose(found.explained, scales[:3] ** 2 / np.sum(scales**2), rtol=1e-6)
    np.testing.assert_allclose(
        np.abs(np.sum(found.directions * directions[:, :3], 0)), 1, rtol=1e-6
    )
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.abs(found.scores), np.abs(scores[:, :3]), atol=1e-6)
    largest = np.abs(found.directions).argmax(axis=0)
    assert (found.directions[largest, np.arange(3)] > 0).all()


def test_components_of_features_that_do_not_vary_are_finite():
    found = spectra.principal_components(np.ones((10, 4)), 2)
    assert np.isfinite(found.explained).all()
    np.testing.assert_allclose(found.scores, 0, atol=1e-12)


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        (np.zeros((8, 8, 3), np.float32), r'\[N, H, W, C\]'),
        (np.zeros((0, 8, 8, 3), np.float32), 'not empty'),
        (np.zeros((1, 8, 8, 3), np.uint8), 'floats'),
        (np.zeros((1, 8, 8, 4), np.float32), 'channels, got 4'),
    ],
)
def test_bad_images_are_named(images, words):
    with pytest.raises(ValueError, match=words):
        spectra.power_spectrum(jnp.asarray(images))


def test_bad_knobs_are_named():
    with pytest.raises(ValueError, match="'up'"):
        spectra.rings(4, 4, rounding='up')
    with pytest.raises(ValueError, match="'pixels'"):
        spectra.rings(4, 4, radius='pixels')
    with pytest.raises(ValueError, match='from 1 to 4, got 5'):
        spectra.principal_components(np.zeros((9, 4)), 5)
