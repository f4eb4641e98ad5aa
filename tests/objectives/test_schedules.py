"""Schedules: their ends, and what they say of a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.objectives import schedules


def test_the_average_halves_what_it_knew_after_the_half_life():
    steps = 100
    decay = schedules.ema_decay(1e9, 32, 32 * steps)
    assert float(decay) ** steps == pytest.approx(0.5, rel=1e-4)


def test_the_first_step_copies_the_generator_and_the_ramp_ends():
    assert float(schedules.ema_decay(0, 8, 10_000)) == 0
    decays = schedules.ema_decay(jnp.arange(0, 400_000, 10_000), 8, 10_000)
    assert (np.diff(decays[:21]) > 0).all()
    # 5% of 200,000 is the half-life.
    np.testing.assert_array_equal(decays[20:], np.full(20, decays[20]))
    np.testing.assert_array_equal(schedules.ema_decay(0, 8, 10_000, ramp=None), decays[-1])


def test_half_life_and_r1_follow_the_batch():
    assert schedules.automatic_half_life(32) == 10_000
    assert schedules.automatic_half_life(64) == 20_000
    assert schedules.automatic_r1_weight(256, 32) == pytest.approx(0.4096)
    assert schedules.automatic_r1_weight(512, 32) == pytest.approx(4 * 0.4096)


def test_the_blur_fades_linearly_and_stays_off():
    sigma = jax.jit(schedules.blur_sigma)(jnp.array([0, 50_000, 100_000, 200_000, 10**7]))
    np.testing.assert_allclose(sigma, [10, 7.5, 5, 0, 0], atol=1e-5)


def test_overfitting_raises_p_at_the_published_rate():
    p = jnp.zeros(())
    for _ in range(1000):
        p = schedules.augment_probability(p, 0.9, 4 * 32)
    assert float(p) == pytest.approx(1000 * 128 / 500_000, rel=1e-4)
    # No upper limit.
    assert schedules.augment_probability(1.0, 1.0, 128) > 1


def test_p_falls_to_0_and_no_further():
    p = schedules.augment_probability(0.001, 0.3, 256)
    assert float(p) == pytest.approx(0.001 - 256 / 500_000, rel=1e-4)
    assert schedules.augment_probability(p, 0.3, 10_000) == 0
    assert float(schedules.augment_probability(0.5, 0.6, 128)) == 0.5


def test_the_rate_of_a_projection_rises_and_falls():
    rates = np.asarray(schedules.projection_rate(np.arange(101), 100))
    assert rates[0] == 0
    np.testing.assert_allclose(rates[5:76], np.full(71, 0.1), rtol=1e-5)
    assert (np.diff(rates[:6]) > 0).all()
    assert (np.diff(rates[76:]) < 0).all()
    assert rates[100] == pytest.approx(0, abs=1e-7)


def test_the_noise_of_a_projection_ends_after_three_quarters():
    noise = np.asarray(schedules.projection_noise(np.arange(101), 100))
    assert noise[0] == pytest.approx(0.05)
    assert (np.diff(noise[:76]) < 0).all()
    np.testing.assert_array_equal(noise[75:], np.zeros(26))
