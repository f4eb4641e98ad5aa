"""Kernel inception distance: the definition with loops, no bias, what does not matter."""

import numpy as np
import pytest

from jaxgen.metrics import kid


def features(seed, count, width=6, shift=0.0):
    return np.random.default_rng(seed).normal(shift, size=(count, width))


def slow(x, y):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return np.mean([k(rows[i], rows[j]) for i, j in pairs])

    return within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_equals_the_slow_oracle_for_sets_of_different_sizes():
    x, y = features(0, 9), features(1, 14, shift=0.5)
    np.testing.assert_allclose(kid.squared_mmd(x, y), slow(x, y), rtol=1e-12)


def test_the_mean_over_many_subsets_of_one_distribution_is_0_within_its_error():
    found = kid.kernel_distance(
        features(2, 4000), features(3, 4000), kid.draw_subsets(0, 4000, 4000, count=40, size=100)
    )
    error = found.deviation / np.sqrt(40)
    assert abs(found.mean) < 4 * error
    # A bias would be there in each: their signs differ.
    assert found.per_subset.min() < 0 < found.per_subset.max()


def test_a_set_with_itself_is_below_0():
    x = features(4, 30)
    assert kid.squared_mmd(x, x) < 0


def test_a_larger_shift_is_further_and_order_does_not_matter():
    x = features(5, 200)
    found = [kid.squared_mmd(x, features(6, 200, shift=shift)) for shift in (0, 0.5, 1, 2)]
    assert found == sorted(found)
    y = features(6, 200, shift=1)
    np.testing.assert_allclose(kid.squared_mmd(x[::-1], y), kid.squared_mmd(x, y), rtol=1e-9)
    np.testing.assert_allclose(kid.squared_mmd(y, x), kid.squared_mmd(x, y), rtol=1e-9)


def test_subsets_are_distinct_rows_within_each_set_and_follow_the_seed():
    generated, real = kid.draw_subsets(7, 20, 12, count=5, size=1000)
    assert generated.shape == real.shape == (5, 12)
    assert all(len(set(rows)) == 12 for rows in (*generated, *real))
    assert generated.max() < 20
    assert real.max() < 12
    for rows, again in zip((generated, real), kid.draw_subsets(7, 20, 12, count=5), strict=True):
        np.testing.assert_array_equal(rows, again)
    assert (kid.draw_subsets(8, 20, 12, count=5)[0] != generated).any()


def test_what_has_no_estimate_is_refused():
    with pytest.raises(ValueError, match='2 or more'):
        kid.squared_mmd(features(0, 1), features(0, 5))
    with pytest.raises(ValueError, match='2 or more'):
        kid.squared_mmd(features(0, 5), features(0, 5, width=3))
    with pytest.raises(ValueError, match='there must be a subset'):
        kid.kernel_distance(features(0, 5), features(0, 5), kid.draw_subsets(0, 5, 5, count=0))
