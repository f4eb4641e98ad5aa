"""Bilinear look-up against scipy and against the table itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxgen.ops.coords import grid
from jaxgen.ops.interpolate import bilinear

HEIGHT, WIDTH = 5, 7


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)


@pytest.mark.parametrize('align_corners', [True, False])
def test_equals_scipy_inside_and_clamps_outside(table, align_corners):
    coords = np.random.default_rng(1).uniform(-1.4, 1.4, (200, 2)).astype(np.float32)
    sides = np.array([WIDTH, HEIGHT])
    if align_corners:
        index = (coords + 1) / 2 * (sides - 1)
    else:
        index = ((coords + 1) * sides - 1) / 2
    expected = [
        ndimage.map_coordinates(table[..., c], index[:, ::-1].T, order=1, mode='nearest')
        for c in range(3)
    ]
    read = bilinear(table, coords, align_corners=align_corners)
    np.testing.assert_allclose(read, np.stack(expected, -1), atol=2e-5)


def test_the_training_grid_reads_the_entries_only_with_aligned_corners(table):
    places = grid(HEIGHT, WIDTH)
    np.testing.assert_allclose(bilinear(table, places), table, atol=1e-6)
    assert np.abs(bilinear(table, places, align_corners=False) - table).max() > 0.1


def test_a_clamped_coordinate_has_no_gradient_and_one_inside_has(table):
    def read(coords):
        return jnp.sum(bilinear(table, coords))

    gradient = jax.grad(read)(jnp.array([[-1.0, 0.1], [1.3, 0.1], [0.1, -1.0], [0.1, 0.1]]))
    np.testing.assert_array_equal(gradient != 0, [[0, 1], [0, 1], [1, 0], [1, 1]])


def test_the_gradient_to_the_table_is_the_weight_of_each_entry(table):
    weights = jax.grad(lambda t: jnp.sum(bilinear(t, jnp.array([[0.1, 0.3]]))))(table)
    assert np.count_nonzero(weights[..., 0]) == 4
    np.testing.assert_allclose(weights.sum((0, 1)), 1, rtol=1e-6)
