"""Coordinates: order, ends, and tiles of a grid that is never made whole."""

import numpy as np
import pytest

from jaxgen.ops import coords


def test_a_grid_has_both_ends_in_raster_order_with_x_first():
    grid = coords.grid(3, 5)
    np.testing.assert_array_equal(grid[0, :, 0], np.float32([-1, -0.5, 0, 0.5, 1]))
    np.testing.assert_array_equal(grid[:, 0, 1], np.float32([-1, 0, 1]))
    assert np.ptp(grid[1, :, 1]) == 0
    np.testing.assert_array_equal(coords.points(3, 5), np.reshape(grid, (15, 2)))


def test_every_grid_ends_at_exactly_one():
    for length in (2, 3, 7, 256, 1000, 4096):
        axis = np.asarray(coords.axis(length))
        assert axis[0] == -1
        assert axis[-1] == 1
        np.testing.assert_allclose(axis, -axis[::-1], atol=1e-7)


def test_a_single_position_is_the_centre():
    np.testing.assert_array_equal(coords.points(1, 1), [[0, 0]])


@pytest.mark.parametrize('start', [0, 1, 6, 29, 34])
def test_a_tile_is_bitwise_the_rows_of_the_grid_and_repeats_the_last(start):
    whole = np.asarray(coords.points(5, 7))
    index = np.minimum(start + np.arange(8), 34)
    np.testing.assert_array_equal(coords.tile(start, 8, 5, 7), whole[index])


def test_a_grid_without_pixels_is_an_error():
    with pytest.raises(ValueError, match='at least one pixel a side, got 0'):
        coords.points(4, 0)
