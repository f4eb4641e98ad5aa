"""The sliced Wasserstein distance against a slow numpy oracle, and the properties of a distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import swd

KEY = jax.random.key(0)
SMALL = {'patches_per_image': 8, 'projections': 8}


def photographs(seed, n=12, height=32, width=32, channels=3):
    """Smooth random pictures with a few sharp edges, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None] / 16
    phase = rng.uniform(0, 6, (n, 1, 1, channels))
    a, b = rng.uniform(-3, 3, (2, n, 1, 1, channels))
    images = np.sin(a * x + b * y + phase) * 0.6 + 0.3 * (a * x + b * y > 1)
    return images.astype(np.float32)


def blurred(images):
    return sum(np.roll(images, (i, j), (1, 2)) for i in range(3) for j in range(3)) / 9


def slow_filter(image):
    height, width, _ = image.shape
    rows, columns = (
        [
            [-i if i < 0 else 2 * (n - 1) - i if i >= n else i for i in range(d, n + d)]
            for d in range(-2, 3)
        ]
        for n in (height, width)
    )
    taps = np.array([1, 4, 6, 4, 1]) / 16
    return sum(taps[i] * taps[j] * image[np.ix_(rows[i], columns[j])] for i, j in np.ndindex(5, 5))


def slow_pyramid(image):
    levels = []
    while min(image.shape[:2]) >= 32:
        smaller = slow_filter(image)[::2, ::2]
        spread = np.zeros_like(image)
        spread[::2, ::2] = smaller
        levels.append(image - 4 * slow_filter(spread))
        image = smaller
    return [*levels, image]


def slow_distance(a, b, places, vectors):
    total = 0.0
    for vector in vectors:
        side = vector.shape[0]
        values = [
            sorted(
                float((image[y : y + side, x : x + side] * vector).sum())
                for image in images
                for y, x in places
            )
            for images in (a, b)
        ]
        total += np.mean(np.abs(np.subtract(*values)))
    return total / len(vectors)


@pytest.mark.parametrize('shape', [(32, 32, 3), (37, 40, 1), (16, 20, 2)])
def test_equals_the_slow_oracle(shape):
    a, b = (photographs(seed, 2, *shape).astype(np.float64) for seed in (0, 1))
    count, patch = 17, 7  # more than are projected at once, and not a multiple of it
    levels = swd.sliced_wasserstein_by_level(
        a, b, KEY, patches_per_image=6, projections=count, patch=patch
    )
    slow = [list(zip(*map(slow_pyramid, images), strict=True)) for images in (a, b)]
    place_key, vector_key = jax.random.split(KEY)
    vectors = swd._unit_vectors(vector_key, (len(slow[0]), count), patch, shape[2])
    np.testing.assert_allclose(jnp.sum(vectors**2, axis=(2, 3, 4)), 1, rtol=1e-5)
    expected = []
    for i, (x, y) in enumerate(zip(*slow, strict=True)):
        places = swd._places(jax.random.fold_in(place_key, i), x[0].shape[:2], 6, patch)
        expected.append(slow_distance(x, y, np.asarray(places), np.asarray(vectors[i])))
    np.testing.assert_allclose(levels, expected, rtol=1e-4)
    mean = swd.sliced_wasserstein(a, b, KEY, patches_per_image=6, projections=count, patch=patch)
    np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-4)


@pytest.mark.parametrize(
    ('height', 'width', 'sides'),
    [(32, 32, [32, 16]), (31, 31, [31]), (64, 33, [64, 32]), (70, 64, [70, 35, 18]), (16, 9, [16])],
)
def test_levels_go_down_to_side_16(height, width, sides):
    images = jnp.zeros((1, height, width, 1))
    levels = jax.eval_shape(swd.laplacian_pyramid, images)
    assert [level.shape[1] for level in levels] == sides


def test_a_constant_image_has_empty_laplacian_levels():
    *fine, rest = jax.jit(swd.laplacian_pyramid)(jnp.full((1, 64, 48, 2), 0.25))
    for level in fine:
        np.testing.assert_allclose(level, 0, atol=1e-6)
    np.testing.assert_allclose(rest, 0.25, rtol=1e-6)


def test_places_are_distinct_and_inside():
    places = np.asarray(swd._places(KEY, (16, 20), 60, 7))
    assert len({tuple(p) for p in places}) == 60
    assert places.min() >= 0
    assert (places.max(0) <= [9, 13]).all()
    assert len(swd._places(KEY, (8, 8), 60, 7)) == 4


def test_equal_sets_are_at_distance_zero_in_any_order():
    a = photographs(0)
    assert swd.sliced_wasserstein(a, a, KEY, **SMALL) == 0
    assert swd.sliced_wasserstein(a, a[::-1].copy(), KEY, **SMALL) == 0


def test_is_symmetric_and_does_not_depend_on_the_order_of_images():
    a, b = photographs(0), photographs(1)
    distance = swd.sliced_wasserstein(a, b, KEY, **SMALL)
    assert distance > 0
    assert distance == swd.sliced_wasserstein(b, a, KEY, **SMALL)
    assert distance == swd.sliced_wasserstein(a, np.roll(b, 5, axis=0), KEY, **SMALL)


def test_is_a_function_of_the_key():
    a, b = photographs(0), photographs(1)
    distance = swd.sliced_wasserstein(a, b, KEY, **SMALL)
    assert distance == swd.sliced_wasserstein(a, b, KEY, **SMALL)
    assert distance != swd.sliced_wasserstein(a, b, jax.random.key(1), **SMALL)


def test_grows_with_noise_blur_and_shift_where_each_belongs():
    a = photographs(0)
    noise = np.random.default_rng(1).normal(size=a.shape)

    def levels(b):
        return np.asarray(swd.sliced_wasserstein_by_level(a, b, KEY, **SMALL))

    weak, strong = levels(a + 0.05 * noise), levels(a + 0.2 * noise)
    assert (weak > 0).all()
    assert (weak < strong).all()
    assert strong[0] > strong[-1]
    once, thrice = levels(blurred(a)), levels(blurred(blurred(blurred(a))))
    assert 0 < once.mean() < thrice.mean()
    near, far = levels(a + 0.1), levels(a + 0.3)
    assert max(near[0], far[0]) < 1e-5
    assert 0.02 < near[-1] < far[-1]


def test_is_the_same_inside_jit():
    a, b = photographs(0), photographs(1)
    inside = jax.jit(lambda *x: swd.sliced_wasserstein(*x, **SMALL))(a, b, KEY)
    np.testing.assert_allclose(inside, swd.sliced_wasserstein(a, b, KEY, **SMALL), rtol=1e-6)


def test_sorts_every_finite_value_like_numpy():
    x = np.array([[0.5, -0.0, -3e38, 1e-40, -2.5, 0.0, 3e38, -1e-40, 7.0]], np.float32)
    np.testing.assert_array_equal(swd._sort(jnp.asarray(x)), np.sort(x))


def test_nan_in_an_image_is_not_hidden():
    a = photographs(0, n=2, height=16, width=16)
    b = np.full_like(a, np.nan)
    assert np.isnan(swd.sliced_wasserstein(a, b, KEY, **SMALL))


@pytest.mark.parametrize(
    ('a', 'b', 'words'),
    [
        (np.zeros((4, 32, 32, 3)), np.zeros((5, 32, 32, 3)), 'same shape'),
        (np.zeros((32, 32, 3)), np.zeros((32, 32, 3)), r'\[N, H, W, C\]'),
        (np.zeros((0, 32, 32, 3)), np.zeros((0, 32, 32, 3)), 'not empty'),
        (np.zeros((4, 6, 32, 3)), np.zeros((4, 6, 32, 3)), 'at least 7'),
        (np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 8, 8, 3), np.uint8), 'floats'),
    ],
)
def test_bad_images_are_named(a, b, words):
    with pytest.raises(ValueError, match=words):
        swd.sliced_wasserstein(a, b, KEY)


def test_bad_numbers_are_named():
    a = photographs(0, n=2)
    with pytest.raises(ValueError, match='1 or more, got 0 and 64'):
        swd.sliced_wasserstein(a, a, KEY, patches_per_image=0)
