"""Streaming statistics: the same for every cut into batches, on one device or eight."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.metrics import stats


def features(seed, count, width=24):
    """As after a ReLU: half zeros, some columns far from 0 against their spread."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(count, width)) @ draw.normal(size=(width, width))
    return (np.maximum(mixed, 0) + 50 * (np.arange(width) % 3 == 0)).astype(np.float32)


def streamed(rows, sizes, mesh=None):
    sums = stats.start(rows.shape[1], mesh=mesh)
    for batch in np.split(rows, np.cumsum(sizes)[:-1]):
        sums = stats.add(sums, batch, mesh=mesh)
    return stats.finish(sums, mesh=mesh)


def assert_equal_moments(found, expected, rtol=1e-6):
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rtol)
    deviations = np.sqrt(np.diag(expected.scatter))
    error = np.abs(found.scatter - expected.scatter) / np.outer(deviations, deviations)
    assert error.max() < rtol
    np.testing.assert_array_equal(found.scatter, found.scatter.T)


@pytest.mark.parametrize('sizes', [[300], [1, 299], [7] * 42 + [6], [100, 150, 50], [299, 1]])
def test_any_cut_into_batches_gives_what_all_at_once_gives(sizes):
    rows = features(0, 300)
    assert_equal_moments(streamed(rows, sizes), stats.moments_of(rows))


def test_the_error_does_not_grow_with_the_number_of_rows():
    rows = features(1, 20_000)
    assert_equal_moments(streamed(rows, [2_000] * 10), stats.moments_of(rows), rtol=3e-7)


def test_a_mean_far_from_zero_costs_no_digits():
    rows = features(2, 200) / 50 + np.float32(1000)
    assert_equal_moments(streamed(rows, [64, 64, 72]), stats.moments_of(rows))


def test_rows_that_fill_a_batch_are_ignored_whatever_is_in_them():
    rows = features(3, 50)
    sums = stats.start(rows.shape[1])
    nothing = np.full((16, rows.shape[1]), np.nan, np.float32)
    sums = stats.add(sums, nothing, np.zeros(16, bool))
    for begin in range(0, 50, 16):
        batch = rows[begin : begin + 16]
        filled = np.concatenate([batch, nothing[len(batch) :]])
        sums = stats.add(sums, filled, np.arange(16) < len(batch))
    assert_equal_moments(stats.finish(sums), stats.moments_of(rows))


@pytest.mark.parametrize('width', [24, 10], ids=['sliced', 'whole'])
def test_eight_devices_give_what_one_gives(width):
    rows = features(4, 96, width)
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('data', 'pixel'))
    assert mesh.size == 8
    sums = stats.start(width, mesh=mesh)
    held = {shard.data.shape for shard in sums.second[0].addressable_shards}
    assert held == {(width // 8 if width == 24 else width, width)}
    layout = NamedSharding(mesh, PartitionSpec('data'))
    for begin in range(0, 96, 32):
        batch = jax.device_put(rows[begin : begin + 32], layout)
        sums = stats.add(sums, batch, mesh=mesh)
    assert {shard.data.shape for shard in sums.second[1].addressable_shards} == held
    assert_equal_moments(stats.finish(sums, mesh=mesh), stats.moments_of(rows))


def test_merging_parts_gives_the_whole_in_any_order():
    rows = features(5, 120)
    parts = [stats.moments_of(part) for part in np.split(rows, [1, 40, 41])]
    forth = stats.merge(stats.merge(parts[0], parts[1]), stats.merge(parts[2], parts[3]))
    back = stats.merge(parts[3], stats.merge(stats.merge(parts[2], parts[1]), parts[0]))
    for merged in (forth, back):
        assert_equal_moments(merged, stats.moments_of(rows), rtol=1e-12)


def test_the_covariance_is_numpys_in_both_normalisations():
    rows = features(6, 40)
    for ddof in (0, 1):
        expected = np.cov(rows.astype(np.float64).T, ddof=ddof)
        np.testing.assert_allclose(stats.moments_of(rows).covariance(ddof), expected, rtol=1e-9)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match='at least one row'):
        stats.finish(stats.start(4))
    with pytest.raises(ValueError, match='at least one row'):
        stats.moments_of(np.zeros((0, 4)))
    with pytest.raises(ValueError, match='ddof=1 needs more rows, got 1'):
        stats.moments_of(np.zeros((1, 4))).covariance()
