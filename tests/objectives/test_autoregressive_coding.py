"""The walk over sub-pixels that a coder takes: the model's own distributions, always the same."""

import jax
import numpy as np
import pytest

from jaxgen.losses.likelihood import image_log_prob
from jaxgen.objectives.autoregressive_coding import Walk, log_probs_of
from tests import autoregressive as tiny

MODELS = {
    'cached': (tiny.gated(num_classes=3, blocks=2), (2, 3), {'label': np.array([2])}),
    'mixture': (tiny.plus_plus(), (4, 4), {}),
    'whole': (tiny.recurrent('row'), (2, 2), {}),
}


@pytest.fixture(scope='module', params=MODELS)
def walking(request):
    """(model, its variables, what it is conditioned on, an image, a walk)."""
    model, size, condition = MODELS[request.param]
    pixels = tiny.images(model, 1, size)
    variables = tiny.random_variables(model, pixels, **condition)
    variables = jax.tree.map(lambda x: 0.5 * x, variables)
    return model, variables, condition, pixels, Walk(model, variables, size, **condition)


def test_the_distributions_on_the_way_are_those_of_the_model(walking):
    model, variables, condition, pixels, walk = walking

    @jax.jit
    def score(pixels):
        params = model.apply(variables, pixels, **condition)
        return image_log_prob(model.likelihood, params, pixels)[0]

    expected = score(pixels)
    totals = []

    def choose(at, log_probs):
        totals.append(np.exp(np.float64(log_probs)).sum())
        return pixels[0][at]

    np.testing.assert_array_equal(walk(choose), pixels[0])
    assert len(totals) == pixels.size
    np.testing.assert_allclose(totals, 1, atol=1e-5)
    np.testing.assert_allclose(log_probs_of(walk, pixels[0]).sum(), expected, rtol=1e-5)


def test_two_walks_that_choose_the_same_see_the_same_bits(walking):
    # Compiled anew: tests/apps/test_compression.py.
    *_, pixels, walk = walking
    np.testing.assert_array_equal(log_probs_of(walk, pixels[0]), log_probs_of(walk, pixels[0]))
