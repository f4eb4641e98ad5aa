"""Patches against slow loops over the released loader's rule."""

import jax
import numpy as np
import pytest

from jaxgen.ops import patches
from jaxgen.ops.coords import grid

SIZE, SIDE, BATCH = 16, 4, 3


DRAW = jax.jit(patches.random_patches, static_argnums=(2, 3))


def drawn(seed, slots=range(BATCH)):
    return DRAW(jax.random.key(seed), np.asarray(slots, np.int32), SIZE, SIDE)


def test_a_patch_is_every_nth_row_and_column_from_its_corner_with_their_coordinates():
    image = np.random.default_rng(0).normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    whole, strides = np.asarray(grid(SIZE, SIZE)), set()
    for seed in range(8):
        where = drawn(seed)
        taken = np.asarray(patches.take_patches(image, where, SIDE))
        places = np.asarray(patches.patch_coords(where, SIZE, SIDE))
        n = int(where.stride)
        strides.add(n)
        for b in range(BATCH):
            top, left = int(where.top[b]), int(where.left[b])
            rows = [int(where.row_phase[b]) + n * (top + i) for i in range(SIDE)]
            columns = [int(where.column_phase[b]) + n * (left + i) for i in range(SIDE)]
            assert min(rows + columns) >= 0
            assert max(rows + columns) < SIZE
            for i, row in enumerate(rows):
                np.testing.assert_array_equal(taken[b, i], image[b, row, columns])
                np.testing.assert_array_equal(places[b, i], whole[row, columns])
    assert strides == {1, 2, 4}


def test_a_place_depends_on_its_slot_and_not_on_the_rest_of_the_batch():
    whole, part = drawn(1, range(6)), drawn(1, [4, 2])
    assert int(whole.stride) == int(part.stride)
    for name in ('row_phase', 'column_phase', 'top', 'left'):
        np.testing.assert_array_equal(getattr(part, name), np.asarray(getattr(whole, name))[[4, 2]])


def test_phases_run_over_the_whole_range_of_the_released_loader():
    where = drawn(0, range(4_000))
    n = int(where.stride)
    assert n > 1
    phases = np.unique(where.row_phase)
    np.testing.assert_array_equal(phases, np.arange(SIZE - n * SIDE + n))


def test_the_number_of_scales_counts_the_halvings():
    assert [patches.num_scales(size, 4) for size in (4, 8, 16, 64)] == [1, 2, 3, 5]


@pytest.mark.parametrize(('size', 'side'), [(24, 4), (18, 4), (4, 8), (4, 0)])
def test_an_image_that_cannot_be_halved_down_to_the_patch_is_an_error(size, side):
    with pytest.raises(ValueError, match=f'power of two times {side}, got {size}'):
        patches.num_scales(size, side)
