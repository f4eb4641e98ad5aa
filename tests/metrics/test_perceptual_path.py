"""Perceptual path length: arcs and lines, the percentiles, the step that cancels out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import perceptual_path as ppl


def latents(seed, count=6, width=8):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, width)), jnp.float32)


def test_an_arc_has_length_1_even_speed_and_the_ends_it_should():
    a, b = latents(0), 5 * latents(1)
    unit = [np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    points = [np.asarray(ppl.slerp(a, b, jnp.full(6, t))) for t in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(points[0], unit[0], atol=1e-6)
    np.testing.assert_allclose(points[-1], unit[1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(points, axis=2), 1, rtol=1e-5)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=2)
    np.testing.assert_allclose(steps, steps[:1].repeat(4, axis=0), rtol=1e-4)


def test_an_arc_between_parallel_ends_stays():
    a = latents(2)
    np.testing.assert_allclose(
        ppl.slerp(a, 3 * a, jnp.full(6, 0.5)), ppl.slerp(a, a, jnp.zeros(6)), atol=1e-3
    )


def test_a_line_is_straight():
    a, b, t = latents(3), latents(4), jnp.linspace(0, 1, 6)
    expected = (1 - t[:, None]) * a + t[:, None] * b
    np.testing.assert_allclose(ppl.lerp(a, b, t), expected, atol=1e-6)


def test_the_length_of_a_linear_map_does_not_depend_on_the_step():
    with jax.enable_x64(True):
        a, b, weight = (np.asarray(latents(i, 8), np.float64) for i in (5, 6, 7))
        expected = np.sum(((b - a) @ weight) ** 2, axis=1)
        for epsilon in (1e-4, 1e-2):
            ends = [ppl.lerp(a, b, jnp.full(8, t)) @ weight for t in (0.0, epsilon)]
            found = ppl.distances_of(*ends, epsilon=epsilon)
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_outliers_beyond_the_percentiles_are_left_out_and_the_percentiles_stay():
    distances = np.arange(1001.0)
    distances[-1] = 1e9
    found = ppl.path_length(distances[np.random.default_rng(8).permutation(1001)])
    assert (found.lower, found.upper, found.kept) == (10, 990, 981)
    assert found.mean == 500


def test_percentiles_between_two_values_take_the_outer_ones():
    found = ppl.path_length(np.arange(10.0))
    assert (found.lower, found.upper, found.kept) == (0, 9, 10)


def test_shrinking_averages_squares_and_leaves_small_images():
    image = np.arange(32.0).reshape(1, 8, 4, 1)
    found = np.asarray(ppl.shrink(jnp.asarray(image), side=4))
    assert found.shape == (1, 4, 2, 1)
    assert found[0, 0, 0, 0] == np.mean([0, 1, 4, 5])
    np.testing.assert_array_equal(ppl.shrink(jnp.asarray(image), side=8), image)
    with pytest.raises(ValueError, match='must divide'):
        ppl.shrink(jnp.zeros((1, 9, 8, 3)), side=4)


def test_what_is_no_distance_is_refused():
    with pytest.raises(ValueError, match='finite'):
        ppl.path_length(np.array([1, np.nan]))
    with pytest.raises(ValueError, match='finite'):
        ppl.path_length(np.zeros(0))
