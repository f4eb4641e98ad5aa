"""Likelihoods: bits per dimension, and draws as functions of noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses.likelihood import LogisticMixture, Softmax, bits_per_dim, image_log_prob


def random_images(levels, shape, seed=0):
    return np.random.default_rng(seed).integers(0, levels, shape, dtype=np.int32)


@pytest.mark.parametrize('levels', [2, 5, 256])
def test_equal_logits_cost_exactly_log2_of_the_levels(levels):
    pixels = random_images(levels, (3, 4, 5, 3))
    logp = image_log_prob(Softmax(levels), jnp.zeros((*pixels.shape, levels)), pixels)
    total, count = bits_per_dim(logp, pixels[0].size)
    assert count == pixels.size
    np.testing.assert_allclose(total / count, np.log2(levels), rtol=1e-6)


def test_softmax_log_prob_equals_a_loop():
    likelihood, rng = Softmax(4), np.random.default_rng(0)
    flat = rng.normal(size=(2, 3, 2, 12)).astype(np.float32)
    pixels = random_images(4, (2, 3, 2, 3))
    logits = likelihood.shaped(jnp.asarray(flat), 3)
    logp = likelihood.log_prob(logits, pixels)
    for b, i, j, c in np.ndindex(pixels.shape):
        row = np.float64(flat[b, i, j, c * 4 : c * 4 + 4])
        expected = row[pixels[b, i, j, c]] - np.log(np.exp(row).sum())
        np.testing.assert_allclose(logp[b, i, j, c], expected, rtol=1e-5)


def test_half_precision_logits_are_summed_in_float32():
    pixels = random_images(256, (1, 4, 4, 3))
    logits = jnp.zeros((*pixels.shape, 256), jnp.bfloat16)
    params = jnp.zeros((1, 4, 4, 20), jnp.bfloat16)
    for likelihood, given in ((Softmax(256), logits), (LogisticMixture(256, 2), params)):
        log_prob = functools.partial(image_log_prob, likelihood)
        assert jax.eval_shape(log_prob, given, pixels).dtype == jnp.float32


def test_a_ragged_last_batch_counts_its_real_rows_only():
    logp = np.random.default_rng(0).normal(size=5).astype(np.float32)
    whole = bits_per_dim(logp, 12)
    first = bits_per_dim(logp[:3], 12)
    padded = np.concatenate([logp[3:], np.float32([-99])])
    second = bits_per_dim(padded, 12, np.array([True, True, False]))
    for expected, *parts in zip(whole, first, second, strict=True):
        np.testing.assert_allclose(sum(parts), expected, rtol=1e-6)


def test_outputs_are_the_numbers_that_shaped_and_log_prob_take():
    for likelihood, colours in (
        (Softmax(5), 2),
        (LogisticMixture(8, 4), 3),
        (LogisticMixture(), 1),
    ):
        params = jnp.zeros((2, 3, 3, likelihood.outputs(colours)))
        params = likelihood.shaped(params, colours)
        pixels = random_images(likelihood.levels, (2, 3, 3, colours))
        score = jax.eval_shape(lambda x, y, z=likelihood: image_log_prob(z, x, y), params, pixels)
        assert score.shape == (2,)


def test_softmax_draws_have_its_frequencies():
    likelihood, count = Softmax(3), 20000
    logits = jnp.array([0.0, 1.0, -1.0])
    noise = jax.vmap(lambda key: likelihood.noise(key, 1))(
        jax.random.split(jax.random.key(0), count)
    )
    none = jnp.zeros((count, 1), jnp.int32)
    drawn = likelihood.draw(
        jnp.broadcast_to(logits, (count, 1, 3)), noise, 1.0, none, none.astype(bool)
    )
    found = np.bincount(np.asarray(drawn)[:, 0], minlength=3) / count
    expected = np.asarray(jax.nn.softmax(logits))
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / count)).all()


@pytest.mark.parametrize('likelihood', [Softmax(6), LogisticMixture(6, 3)])
def test_observed_sub_pixels_stay_and_zero_temperature_ignores_the_noise(likelihood):
    rng = np.random.default_rng(0)
    params = likelihood.shaped(
        jnp.asarray(rng.normal(size=(50, likelihood.outputs(3))), jnp.float32), 3
    )
    noises = [
        jax.vmap(lambda key: likelihood.noise(key, 3))(jax.random.split(jax.random.key(i), 50))
        for i in range(2)
    ]
    given = jnp.asarray(random_images(6, (50, 3)))
    observed = jnp.array([True, False, False])[None].repeat(50, 0)
    draw = jax.jit(likelihood.draw)
    drawn = [np.asarray(draw(params, n, 1.0, given, observed)) for n in noises]
    for pixels in drawn:
        np.testing.assert_array_equal(pixels[:, 0], given[:, 0])
        assert (pixels[:, 1:] != given[:, 1:]).any()
    assert (drawn[0] != drawn[1]).any()
    cold = [np.asarray(draw(params, n, 0.0, given, observed)) for n in noises]
    np.testing.assert_array_equal(*cold)
    if isinstance(likelihood, Softmax):
        np.testing.assert_array_equal(cold[0][:, 1:], params.argmax(axis=-1)[:, 1:])


def test_the_component_of_a_pixel_is_drawn_given_its_observed_red():
    likelihood, count = LogisticMixture(256, 2), 200
    # Two equal components: one dark, one bright, both narrow.
    means = np.array([[-0.8, 0.8]] * 3)
    rows = np.stack([means, np.full((3, 2), -5.0), np.zeros((3, 2))], axis=1)
    params = np.concatenate([np.zeros(2), rows.reshape(-1)]).astype(np.float32)
    params = jnp.broadcast_to(params, (count, 20))
    noise = jax.vmap(lambda key: likelihood.noise(key, 3))(
        jax.random.split(jax.random.key(0), count)
    )
    given = jnp.zeros((count, 3), jnp.int32).at[:, 0].set(230)
    observed = jnp.zeros((count, 3), bool).at[:, 0].set(True)
    draw = jax.jit(likelihood.draw)
    bright = draw(params, noise, 1.0, given, observed)
    assert (bright[:, 1:] > 128).all()
    free = draw(params, noise, 1.0, given, jnp.zeros_like(observed))
    assert 0.3 < float((free[:, 1] > 128).mean()) < 0.7
