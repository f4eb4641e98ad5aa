"""Bits per dimension of a held-out split: every image once, whatever the batches."""

import math

import jax
import numpy as np
import pytest

from jaxgen.evaluation.evaluators import BitsPerDim, make_evaluate
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.tasks import Data
from tests import autoregressive, tiny


class Images(list):
    """A data set in memory: 21 images, so that the last of three batches is ragged."""

    name, image_shape, num_classes = 'images', (4, 4, 3), 3


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    return Images(
        {'image': rng.integers(0, 256, (4, 4, 3), np.uint8), 'label': int(rng.integers(3))}
        for _ in range(21)
    )


@pytest.fixture(scope='module')
def scored(images):
    """(objective, variables, log p of every image, one by one in numpy)."""
    model = autoregressive.gated(num_classes=3, blocks=1)
    objective = tiny.likelihood(model, frame=(4, 4))
    pixels = np.stack([example['image'] for example in images]).astype(np.int32) * 5 // 256
    label = np.array([example['label'] for example in images])
    variables = autoregressive.random_variables(model, pixels, label=label)
    logits = np.asarray(jax.jit(model.apply)(variables, pixels, label), np.float64)
    logits -= logits.max(-1, keepdims=True)
    table = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(table, pixels[..., None], -1)
    return objective, variables, chosen.reshape(21, -1).sum(1)


def test_it_is_the_mean_over_all_images_though_the_last_batch_is_ragged(images, scored):
    objective, variables, expected = scored
    bits = BitsPerDim(objective, images, make_mesh(), batch=8, label=True)
    np.testing.assert_allclose(bits.log_probs(variables), expected, rtol=1e-4)
    scale = -math.log(2) * 48
    value = bits(variables)['bits_per_dim/held_out']
    assert value == pytest.approx(expected.mean() / scale, rel=1e-5)
    # What dropping the last batch, or a mean of the batches' means, would give.
    batches = [expected[:8], expected[8:16], expected[16:]]
    for wrong in (expected[:16].mean(), np.mean([b.mean() for b in batches])):
        assert abs(value - wrong / scale) > 1e-3 * value


def test_the_loop_gets_bits_per_dimension_and_the_distance_only_if_images_are_drawn(images, scored):
    objective, _, _ = scored
    plan, data = JitPlan(make_mesh()), Data(images, images, None)
    state = jax.jit(objective.init_state)(jax.random.key(0))
    config = tiny.config('pixelcnn', evaluate_every=1, data__label=True)
    found = make_evaluate(config, objective, plan, data)(state)
    assert found.keys() == {'bits_per_dim/held_out'}
    config.evaluate_every = 0
    assert make_evaluate(config, objective, plan, data)(state) == {}
