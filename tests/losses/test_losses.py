"""Losses against numpy, and R1 with its derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgen.losses.adversarial import discriminator_logistic, generator_non_saturating
from jaxgen.losses.gradient_penalty import r1
from tests import tiny

RNG = np.random.default_rng(0)


def test_the_losses_are_minus_the_logarithms_of_probabilities():
    real, fake = RNG.normal(size=(2, 7))
    probability = [1 / (1 + np.exp(-d)) for d in (real, fake)]
    expected = -np.log(probability[0]).mean() - np.log(1 - probability[1]).mean()
    np.testing.assert_allclose(discriminator_logistic(real, fake), expected, rtol=1e-5)
    expected = -np.log(probability[1]).mean()
    np.testing.assert_allclose(generator_non_saturating(fake), expected, rtol=1e-5)


def test_very_sure_scores_stay_finite():
    scores = jnp.array([-1e4, 1e4])
    assert float(discriminator_logistic(scores, -scores)) == pytest.approx(1e4)
    assert np.isfinite(jax.grad(generator_non_saturating)(scores)).all()


def test_r1_of_a_linear_score_is_the_squared_norm_of_its_weights():
    weights, x = RNG.normal(size=(3, 4)).astype(np.float32), np.zeros((5, 3, 4), np.float32)
    value = r1(lambda x: jnp.sum(x * weights[None], axis=(1, 2)), x)
    np.testing.assert_allclose(value, np.sum(weights**2), rtol=1e-5)


def test_r1_adds_up_over_all_inputs_and_means_over_the_batch():
    a, b = (RNG.normal(size=(5, n)).astype(np.float32) for n in (3, 2))

    def score(x):
        return jnp.sum(jnp.square(x['a']), axis=1) + jnp.sum(jnp.square(x['b']), axis=1)

    expected = np.mean(np.sum(4 * a**2, axis=1) + np.sum(4 * b**2, axis=1))
    np.testing.assert_allclose(r1(score, {'a': a, 'b': b}), expected, rtol=1e-5)


def test_r1_of_the_discriminator_and_its_gradient_equal_finite_differences():
    with jax.enable_x64(True):
        # A batch as one group, so that examples touch each other's scores.
        model = tiny.discriminator(size=4, channels={4: 3}, coordinates=True)
        inputs = {
            'image': jnp.asarray(RNG.uniform(-1, 1, (2, 4, 4, 3))),
            'coords': jnp.asarray(RNG.uniform(-1, 1, (2, 4, 4, 2))),
        }
        params = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64),
            tiny.variables(model, inputs['image'], coords=inputs['coords'])['params'],
        )

        @jax.jit
        def scores(params, x):
            return model.apply({'params': params}, x['image'], coords=x['coords'])

        value = jax.jit(lambda p: r1(lambda x: scores(p, x), inputs))
        step, slopes = 1e-6, []
        for name, array in inputs.items():
            for i in range(array.size):
                moved = [
                    {**inputs, name: array.reshape(-1).at[i].add(s).reshape(array.shape)}
                    for s in (step, -step)
                ]
                difference = jnp.sum(scores(params, moved[0]) - scores(params, moved[1]))
                slopes.append(float(difference) / (2 * step))
        np.testing.assert_allclose(value(params), np.sum(np.square(slopes)) / 2, rtol=1e-6)
        check_grads(value, (params,), order=1, modes=['rev'], rtol=1e-5)
