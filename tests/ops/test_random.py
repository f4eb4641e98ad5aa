"""Randomness is a function of the key and of the slot or coordinate, of nothing else."""

import jax
import numpy as np

from jaxgen.ops.coords import points
from jaxgen.ops.random import normal_at, normal_per_example, per_example_keys

KEY = jax.random.key(3)


def test_an_example_draws_the_same_in_any_batch():
    whole = normal_per_example(KEY, np.arange(8), (5,))
    part = normal_per_example(KEY, np.array([6, 1]), (5,))
    np.testing.assert_array_equal(part, np.asarray(whole)[[6, 1]])
    assert len(np.unique(whole)) == whole.size


def test_keys_of_two_steps_share_nothing():
    first = jax.random.key_data(per_example_keys(KEY, np.arange(8)))
    second = jax.random.key_data(per_example_keys(jax.random.fold_in(KEY, 1), np.arange(8)))
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 16


def test_noise_at_a_coordinate_does_not_depend_on_the_others():
    places = np.asarray(points(16, 16))
    whole = np.asarray(normal_at(KEY, places))
    chosen = np.random.default_rng(0).permutation(256)[:50]
    np.testing.assert_array_equal(normal_at(KEY, places[chosen]), whole[chosen])
    assert len(np.unique(whole)) == 256


def test_noise_over_a_grid_is_standard_normal_and_uncorrelated():
    noise = np.asarray(normal_at(KEY, points(64, 64))).reshape(64, 64)
    assert abs(noise.mean()) < 0.06
    assert abs(noise.std() - 1) < 0.05
    assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 0.06
    assert abs(np.mean(noise[1:] * noise[:-1])) < 0.06
