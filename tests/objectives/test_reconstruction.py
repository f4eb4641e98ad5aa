"""Auto-encoders as objectives: what they descend, draw and are measured by."""

import jax
import numpy as np
import pytest

from jaxgen import tasks
from jaxgen.data.pipeline import in_order, real_images
from jaxgen.errors import UserError
from jaxgen.evaluation.evaluators import make_evaluate, make_sample
from jaxgen.objectives.base import merge
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from tests import tiny

KINDS = {'autoencoder': 'bits_per_dim', 'autoencoder_mse': 'squared_error'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module', params=KINDS)
def training(request, folder):
    """(name of the loss, config, objective, data, state, compiled step)."""
    kind = request.param
    config = tiny.config(kind, data__dir=str(folder), evaluate_every=1, batch_size=8)
    objective, data = tasks.make_objective(config), tasks.open_data(config)
    state = jax.jit(objective.init_state)(jax.random.key(0), data.batches.at(0))
    (phase,) = objective.phases()
    return KINDS[kind], config, objective, data, state, jax.jit(phase.update)


def test_some_steps_lower_the_loss_that_is_logged(training):
    name, _, _, data, state, update = training
    values = []
    for _ in range(12):
        state, metrics = update(state, data.batches.at(0), jax.random.key(0))
        values.append(merge([metrics])[f'{name}/train'])
    assert values[-1] < values[0] - 1e-3


def test_the_held_out_figure_is_the_mean_over_every_image(training):
    name, config, objective, data, state, _ = training
    plan = JitPlan(make_mesh())
    found = make_evaluate(config, objective, plan, data)(state)
    assert found.keys() == {f'{name}/held_out'}
    ((batch, count),) = in_order(data.held_out, 8)
    scores = np.asarray(jax.jit(objective.score)({'params': state.ema}, batch))[:count]
    assert len(data.held_out) == count < 8
    assert found[f'{name}/held_out'] == pytest.approx(scores.mean(), rel=1e-5)


def test_the_picture_of_a_run_shows_held_out_images_and_their_reconstructions(training):
    _, config, objective, data, state, _ = training
    shown = make_sample(config, objective, JitPlan(make_mesh()), data)(state, 6)
    assert shown.shape == (6, 8, 8, 1)
    images = real_images(data.held_out, 3, seed=0)
    np.testing.assert_array_equal(shown[::2], images)
    variables = objective.sampling_variables(state)
    assert objective.encode(variables, images).shape == (3, config.model.code)
    assert (np.abs(shown[1::2] - images) > 1e-3).any()


def test_from_nothing_there_is_nothing_to_draw(training):
    _, _, objective, _, state, _ = training
    with pytest.raises(UserError, match='draws from the codes of images'):
        objective.sample(objective.sampling_variables(state), jax.random.split(jax.random.key(0)))


@pytest.mark.parametrize(
    ('kind', 'fields', 'words'),
    [
        ('autoencoder', dict(model__code=0), 'model: code must be 1 or more, got 0'),
        ('autoencoder_mse', dict(model__widths=()), 'model: widths must be one or more'),
        ('autoencoder', dict(evaluate__images=4), 'evaluate.images must be 0 for an auto-encoder'),
    ],
)
def test_fields_that_cannot_be_are_named(kind, fields, words):
    def build(config):
        tasks.check(config)
        return tasks.make_objective(config)

    with pytest.raises(UserError, match=words):
        build(tiny.config(kind, **fields))
