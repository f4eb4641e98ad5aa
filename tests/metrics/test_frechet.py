"""Fréchet distance: closed forms, a slow oracle, singular covariances, invariances."""

import numpy as np
import pytest

from jaxgen.metrics import frechet, stats


def features(seed, count, width=12):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, width)) @ draw.normal(size=(width, width)) + draw.normal(
        size=width
    )


def rotation(seed, width):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def slow(x, y, ddof):
    """By the formula: the roots of the eigenvalues of Σ1 Σ2, which may be complex by rounding."""
    a, b = (np.cov(features.T, ddof=ddof) for features in (x, y))
    roots = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    shift = x.mean(axis=0) - y.mean(axis=0)
    return shift @ shift + np.trace(a) + np.trace(b) - 2 * roots


def both(x, y, ddof=1):
    """By way of the moments and by way of the features."""
    moments = stats.moments_of(x), stats.moments_of(y)
    return [
        frechet.frechet_distance(*moments, ddof=ddof),
        frechet.feature_distance(x, y, ddof=ddof),
    ]


@pytest.mark.parametrize('ddof', [0, 1])
@pytest.mark.parametrize('counts', [(200, 90), (8, 9), (5, 200)])
def test_equals_the_slow_oracle_for_any_rank(counts, ddof):
    x, y = features(0, counts[0]), features(1, counts[1])
    np.testing.assert_allclose(both(x, y, ddof), slow(x, y, ddof), rtol=1e-6)


@pytest.mark.parametrize('count', [4, 300])
def test_a_set_with_itself_is_at_distance_0(count):
    x = 30 * features(2, count)
    np.testing.assert_allclose(both(x, x), 0, atol=1e-7)


def test_streamed_float32_statistics_of_one_set_in_two_orders_are_at_distance_0():
    x = np.maximum(features(3, 400, 48), 0).astype(np.float32)
    moments = []
    for rows in (x, x[::-1]):
        sums = stats.start(48)
        for begin in range(0, 400, 64):
            sums = stats.add(sums, rows[begin : begin + 64])
        moments.append(stats.finish(sums))
    np.testing.assert_allclose(frechet.frechet_distance(*moments), 0, atol=1e-3)


def test_a_shift_costs_its_squared_length_and_more_costs_more():
    x, step = features(4, 50), np.arange(12.0)
    found = [frechet.feature_distance(x, x + scale * step) for scale in (1, 2, 3)]
    np.testing.assert_allclose(found, np.array([1, 4, 9]) * (step @ step), rtol=1e-9)


def test_more_noise_is_further():
    x = features(5, 400)
    noise = np.random.default_rng(6).normal(size=x.shape)
    found = [frechet.feature_distance(x, x + scale * noise) for scale in (0.1, 0.3, 1, 3)]
    assert found == sorted(found)


def test_neither_order_nor_rotation_nor_sides_matter():
    x, y = features(7, 60), features(8, 40)
    turn = rotation(9, 12)
    expected = frechet.feature_distance(x, y)
    for a, b in ((y, x), (x[::-1], y), (x @ turn, y @ turn), (x + 100, y + 100)):
        np.testing.assert_allclose(both(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(both(3 * x, 3 * y), 9 * expected, rtol=1e-9)


def test_zero_covariances_leave_the_means():
    mean, none = np.arange(3.0), np.zeros((3, 3))
    assert frechet.gaussian_distance(mean, none, mean + 1, none) == 3
    np.testing.assert_allclose(frechet.gaussian_distance(mean, none, mean, np.eye(3)), 3)


def test_what_is_no_gaussian_is_refused():
    mean, cov = np.zeros(3), np.eye(3)
    with pytest.raises(ValueError, match='do not match'):
        frechet.gaussian_distance(mean, cov, np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match='finite'):
        frechet.gaussian_distance(mean, cov, mean, cov * np.nan)
    with pytest.raises(ValueError, match='ddof=1'):
        frechet.feature_distance(np.zeros((1, 3)), np.zeros((5, 3)))
