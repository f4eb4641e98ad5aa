"""Style mixing and the distribution of styles."""

import jax
import numpy as np
import pytest

from jaxgen.ops.random import per_example_keys
from jaxgen.ops.styles import draw_cuts, mix_styles, style_statistics


def keys(count):
    return per_example_keys(jax.random.key(0), np.arange(count))


def test_the_tail_is_the_other_style():
    w, other = np.zeros((3, 4, 2)), np.ones((3, 4, 2))
    mixed = mix_styles(w, other, np.array([1, 3, 4]))
    expected = [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(mixed[..., 0], expected)


def test_cuts_are_uniform_and_as_frequent_as_asked():
    count, num_ws, probability = 6000, 5, 0.9
    cuts = np.asarray(jax.jit(draw_cuts, static_argnums=(1, 2))(keys(count), num_ws, probability))
    shares = np.bincount(cuts, minlength=num_ws + 1) / count
    np.testing.assert_allclose(shares[1:num_ws], np.full(4, probability / 4), atol=0.03)
    assert shares[0] == 0
    assert shares[num_ws] == pytest.approx(1 - probability, abs=0.02)


def test_never_and_always_mixing():
    assert (np.asarray(draw_cuts(keys(20), 6, 0.0)) == 6).all()
    assert (np.asarray(draw_cuts(keys(20), 6, 1.0)) < 6).all()


def test_statistics_of_styles():
    w = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    mean, deviation = style_statistics(w)
    np.testing.assert_allclose(mean, w.mean(axis=0), atol=1e-6)
    distances = [np.sum((row - w.mean(axis=0)) ** 2) for row in w]
    np.testing.assert_allclose(deviation, np.sqrt(np.mean(distances)), rtol=1e-5)
