"""Parts of images against slow loops over the released loader's rule."""

import collections

import numpy as np
import pytest

from jaxgen.data.patches import RingWindows, ScaledPatches
from jaxgen.data.pipeline import Pipeline
from jaxgen.errors import UserError
from jaxgen.ops import coords

SIZE, SIDE = 16, 4


class Images:
    """Twelve images whose pixels all differ."""

    name, num_classes = 'images', 0

    def __init__(self, height=SIZE, width=SIZE):
        self.image_shape = (height, width, 3)
        self._images = np.random.default_rng(0).integers(
            0, 256, (12, *self.image_shape), dtype=np.uint8
        )

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return {'image': self._images[index]}


def test_a_patch_is_every_nth_row_and_column_from_its_corner_with_their_coordinates():
    image = np.random.default_rng(0).normal(size=(SIZE, SIZE, 3)).astype(np.float32)
    whole, strides = np.asarray(coords.grid(SIZE, SIZE)), set()
    patches = ScaledPatches(SIDE, (SIZE, SIZE), seed=3)
    for step in range(12):
        n = patches.stride(step)
        strides.add(n)
        for slot in range(3):
            part, places = patches(step, slot, image)
            rows, columns = patches.positions(step, slot)
            assert min(*rows, *columns) >= 0
            assert max(*rows, *columns) < SIZE
            for i in range(SIDE):
                assert rows[i] == rows[0] + n * i
                assert columns[i] == columns[0] + n * i
                for j in range(SIDE):
                    np.testing.assert_array_equal(part[i, j], image[rows[i], columns[j]])
                    np.testing.assert_array_equal(places[i, j], whole[rows[i], columns[j]])
    assert strides == {1, 2, 4}


def test_images_that_are_not_square_have_patches_along_both_sides():
    patches = ScaledPatches(SIDE, (8, 24))
    assert patches.num_scales == 2
    drawn = [patches.positions(step, slot) for step in range(40) for slot in range(4)]
    assert max(rows.max() for rows, _ in drawn) == 7
    assert max(columns.max() for _, columns in drawn) == 23


def test_corners_have_the_distribution_of_the_released_loader():
    # Drawn by its rule, word for word: a phase, then a crop of what is left.
    patches = ScaledPatches(SIDE, (SIZE, SIZE))
    step = next(step for step in range(20) if patches.stride(step) == 2)
    rng, wanted = np.random.default_rng(0), collections.Counter()
    for _ in range(40_000):
        strided = np.arange(SIZE)[int(rng.integers(0, SIZE - 2 * SIDE + 2)) :: 2]
        start = int(rng.integers(0, len(strided) - SIDE + 1))
        wanted[int(strided[start])] += 1 / 40_000
    found = collections.Counter()
    for slot in range(4_000):
        for positions in patches.positions(step, slot):
            found[int(positions[0])] += 1 / 8_000
    assert set(found) == set(wanted)
    # Five standard deviations of a share of 8,000 draws.
    for corner, share in wanted.items():
        assert abs(found[corner] - share) < 5 * (share / 8_000) ** 0.5


def test_scales_are_equally_likely_and_one_for_the_whole_batch():
    patches = ScaledPatches(SIDE, (SIZE, SIZE), seed=1)
    counts = collections.Counter(patches.stride(step) for step in range(3_000))
    for stride in (1, 2, 4):
        assert abs(counts[stride] - 1_000) < 5 * 1_000**0.5
    for step in range(5):
        steps_between = {int(np.diff(patches.positions(step, slot)[0])[0]) for slot in range(8)}
        assert steps_between == {patches.stride(step)}


def test_the_number_of_scales_counts_the_halvings():
    sizes = (4, 7, 8, 16, 24, 64)
    assert [ScaledPatches(4, (n, n)).num_scales for n in sizes] == [1, 1, 2, 3, 3, 5]


@pytest.mark.parametrize('side', [0, 9, -1])
def test_a_patch_that_does_not_fit_is_refused(side):
    with pytest.raises(UserError, match=f'data.patch must be from 1 to the 8 .* got {side}'):
        ScaledPatches(side, (8, 12))


def test_the_pipeline_gives_parts_and_where_they_lie_after_the_flip():
    source, crop = Images(), ScaledPatches(SIDE, (SIZE, SIZE), seed=2)
    whole = Pipeline(source, batch_size=4, seed=5, flip=True)
    parts = Pipeline(source, batch_size=4, seed=5, flip=True, crop=crop)
    for step in (0, 1, 7, 1_000):
        images, batch = whole.at(step)['image'], parts.at(step)
        assert batch['image'].shape == (4, SIDE, SIDE, 3)
        assert batch['coords'].shape == (4, SIDE, SIDE, 2)
        assert batch['coords'].dtype == np.float32
        for slot in range(4):
            part, places = crop(step, slot, images[slot])
            np.testing.assert_array_equal(batch['image'][slot], part)
            np.testing.assert_array_equal(batch['coords'][slot], places)


def test_two_processes_have_the_rows_of_one():
    def make(**processes):
        crop = ScaledPatches(SIDE, (SIZE, SIZE), seed=2)
        return Pipeline(Images(), batch_size=4, seed=5, flip=True, crop=crop, **processes)

    one = make().at(9)
    halves = [make(process_index=i, process_count=2).at(9) for i in range(2)]
    for name in ('image', 'coords', 'slot'):
        np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), one[name])


def test_a_window_of_a_ring_shows_neighbouring_columns_at_neighbouring_angles():
    windows = RingWindows(8, 24, (8, 12), seed=1)
    ring = np.asarray(coords.ring_points(8, 24)).reshape(8, 24, 2)
    image = np.random.default_rng(0).normal(size=(8, 12, 3))
    lefts, angles = set(), set()
    for step in range(60):
        for slot in range(4):
            part, places = windows(step, slot, image)
            left = int(np.flatnonzero(image[0, :, 0] == part[0, 0, 0])[0])
            np.testing.assert_array_equal(part, image[:, left : left + 8])
            angle = int(np.flatnonzero(ring[0, :, 0] == places[0, 0, 0])[0])
            columns = (angle + np.arange(8)) % 24
            np.testing.assert_array_equal(places, ring[:, columns])
            lefts.add(left)
            angles.add(angle)
    assert lefts == set(range(5))
    assert angles == set(range(24))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((8, 24, (7, 12)), 'height of the images and of the ring, got 8 for images of 12×7'),
        ((8, 24, (8, 7)), 'got 8 for images of 7×8'),
        ((8, 7, (8, 8)), 'at least as wide as a window of 8, got 7'),
    ],
)
def test_a_ring_that_does_not_fit_its_images_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        RingWindows(*arguments)
