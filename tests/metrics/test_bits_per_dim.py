"""Bits per dimension: models whose bits are known."""

import math

import numpy as np
import pytest

from jaxgen.metrics import bits_per_dim as bits


def test_a_model_that_knows_nothing_needs_8_bits_in_every_unit():
    dims = np.array([3072, 12])
    np.testing.assert_allclose(bits.from_probability(dims * math.log(256), dims), 8)
    for scale in (1, 256, 255, 127.5):
        # Uniform over the values' range, of width 256 / scale.
        log_density = -dims * math.log(256 / scale)
        np.testing.assert_allclose(bits.from_density(log_density, dims, scale=scale), 8)


def test_a_likelihood_twice_as_large_is_a_bit_less_for_the_image():
    one, two = bits.from_probability(np.array([100.0, 100 - math.log(2)]), 10)
    np.testing.assert_allclose(one - two, 1 / 10)


def test_every_image_counts_once():
    assert bits.set_mean(np.array([1.0, 2.0, 6.0])) == 3


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(ValueError, match='scale must be positive, got 0'):
        bits.from_density(np.zeros(1), 3, scale=0)
