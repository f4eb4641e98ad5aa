"""Discretised logistics: probabilities of all levels add up to one, in float32, at any scale."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops import logistic_mixture as mixtures
from jaxgen.ops.causal_conv import nearest_level

MEANS = np.array([0.0, 0.3, -1.0, 1.0, 7.0, -30.0], np.float32)
LOG_SCALES = np.array([-7.0, -4.0, -1.0, 0.0, 3.0], np.float32)


def grid(levels):
    """(level, mean, log scale), each `[M, S, levels]`."""
    shape = (len(MEANS), len(LOG_SCALES), levels)
    return (
        np.broadcast_to(np.arange(levels), shape),
        np.broadcast_to(MEANS[:, None, None], shape),
        np.broadcast_to(LOG_SCALES[None, :, None], shape),
    )


@pytest.mark.parametrize('levels', [2, 4, 256])
def test_levels_sum_to_one_in_float32(levels):
    logp = mixtures.discretized_logistic_log_prob(*grid(levels), levels)
    assert logp.dtype == jnp.float32
    np.testing.assert_allclose(np.exp(np.float64(logp)).sum(axis=-1), 1, atol=2e-5)


def test_a_negated_mean_reverses_the_levels():
    level, mean, log_scale = grid(16)
    logp = mixtures.discretized_logistic_log_prob(level, mean, log_scale, 16)
    mirrored = mixtures.discretized_logistic_log_prob(level[..., ::-1], -mean, log_scale, 16)
    np.testing.assert_allclose(logp, mirrored, rtol=1e-4, atol=1e-4)


def test_far_tails_have_finite_values_and_slopes_in_float32():
    level, mean, log_scale = grid(256)

    def total(mean, log_scale):
        return mixtures.discretized_logistic_log_prob(level, mean, log_scale, 256).sum()

    value, slopes = jax.jit(jax.value_and_grad(total, (0, 1)))(mean, log_scale)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)
    # In a tail log p falls as the distance over the scale: nothing is clipped to a constant.
    far = mixtures.discretized_logistic_log_prob(
        np.array([100]), np.array([30.0], np.float32), np.array([-7.0], np.float32), 256
    )
    distance = 30 - (2 * 100 / 255 - 1) - 1 / 255
    np.testing.assert_allclose(far, -distance * np.exp(7.0), rtol=1e-4)


def test_log1mexp_is_accurate_at_both_ends():
    x = np.array([1e-6, 1e-3, 0.5, np.log(2), 1.0, 9.0], np.float32)
    expected = np.log(-np.expm1(-np.float64(x)))
    np.testing.assert_allclose(mixtures.log1mexp(x), expected, rtol=3e-6)
    slope = jax.vmap(jax.grad(mixtures.log1mexp))(x)
    np.testing.assert_allclose(slope, 1 / np.expm1(np.float64(x)), rtol=3e-6)


def random_mixture(colours, components=3, shape=(), seed=0):
    rng = np.random.default_rng(seed)
    width = components * {1: 3, 3: 10}[colours]
    params = rng.normal(size=(*shape, width)).astype(np.float32)
    return mixtures.split_parameters(jnp.asarray(params), colours)


@pytest.mark.parametrize('colours', [1, 3])
def test_all_pixels_of_a_small_space_sum_to_one(colours):
    levels = 5
    pixels = np.array(list(itertools.product(range(levels), repeat=colours)), np.int32)
    mixture = random_mixture(colours)
    mixture = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(pixels), *x.shape)), mixture)
    logp = jax.jit(lambda m: mixtures.mixture_log_prob(m, pixels, levels))(mixture)
    np.testing.assert_allclose(np.exp(np.float64(logp)).sum(), 1, atol=1e-5)


def test_blue_leans_on_green_with_its_own_coefficient():
    mixture = random_mixture(3)
    red, green = 0.25, -0.5
    means = mixtures.conditional_means(mixture, jnp.array([red, green, 0.0]))
    c = np.asarray(mixture.coefficients)
    np.testing.assert_allclose(means[0], mixture.means[0])
    np.testing.assert_allclose(means[1], mixture.means[1] + c[0] * red, rtol=1e-6)
    np.testing.assert_allclose(
        means[2], mixture.means[2] + c[1] * red + c[2] * green, rtol=1e-5, atol=1e-6
    )


def test_draws_have_the_frequencies_of_the_likelihood():
    levels, count = 4, 20000
    mixture = random_mixture(3, components=2)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), mixture)
    keys = jax.random.split(jax.random.key(0))
    _, component = mixtures.choose_component(many, jax.random.gumbel(keys[0], (count, 2)))
    noise = jax.random.logistic(keys[1], (count, 3))
    x = jax.jit(lambda c, n: mixtures.sample_component(c, n, levels=levels))(component, noise)
    drawn = np.asarray(nearest_level(x, levels))
    pixels = np.array(list(itertools.product(range(levels), repeat=3)), np.int32)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(pixels), *x.shape)), mixture)
    expected = np.exp(jax.jit(lambda m: mixtures.mixture_log_prob(m, pixels, levels))(many))
    found = np.bincount(drawn @ [16, 4, 1], minlength=64) / count
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(found - expected) <= 5 * deviation + 1e-4).all()


def test_a_floored_scale_gets_no_gradient():
    def total(params):
        mixture = mixtures.split_parameters(params, 1, log_scale_floor=-2.0)
        return mixtures.mixture_log_prob(mixture, jnp.array([3]), 16)

    gradient = jax.jit(jax.grad(total))
    assert gradient(jnp.array([0.0, 0.1, -3.0]))[2] == 0
    assert gradient(jnp.array([0.0, 0.1, -1.0]))[2] != 0


def test_a_number_of_parameters_that_fits_no_mixture_is_an_error():
    with pytest.raises(ValueError, match='35 is no multiple of 10'):
        mixtures.split_parameters(jnp.zeros(35), 3)
    with pytest.raises(ValueError, match='colours must be 1 or 3, got 2'):
        mixtures.split_parameters(jnp.zeros(30), 2)
