"""Runs of StyleGAN: drawing from them, and starting from other weights."""

import jax
import numpy as np
import pytest

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.interop import imported
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training.restore import restore
from jaxgen.training.warm_start import warm_start
from tests import tiny
from tests.fork_server import ROOT


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of StyleGAN2 with three classes whose state is random."""
    return tiny.make_run(tmp_path_factory.mktemp('stylegan') / 'run', 'stylegan2')


def test_samples_of_a_run_have_its_classes_and_its_truncation(run):
    restored = restore(run)
    restored = type(restored)(
        **{**vars(restored), 'generator': restored.generator.clone(noise='none')}
    )
    images = restored.sample(6, seed=1)
    assert images.shape == (6, 8, 8, 3)
    assert np.isfinite(images).all()
    np.testing.assert_allclose(restored.sample(3, seed=1), images[:3], atol=1e-4)
    # Without noise all that distinguishes images is w, which ψ = 0 takes away.
    middle = restored.sample(6, seed=1, truncation=0.0)
    np.testing.assert_allclose(middle[1:], middle[:-1], atol=1e-4)
    assert np.abs(images[1:] - images[:-1]).max() > 0.01
    with pytest.raises(UserError, match='size must be 8x8 for this model, got 16x8'):
        restored.sample(1, size=(8, 16))


def start(folder, **fields):
    """The first state of a run from the weights in `folder`, and the line about it."""
    config = tiny.config('stylegan2', init_from=str(folder), **fields)
    plan = JitPlan(make_mesh(devices=jax.devices()[:1]))
    objective = tasks.make_objective(config, plan.layout)
    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return warm_start(state, config, plan)


def test_a_run_starts_from_another_with_both_its_networks(run):
    state, line = start(run)
    restored = restore(run)
    assert same(state.ema, restored.variables['params'])
    assert same(state.generator.stats, restored.variables['stats'])
    count = len(jax.tree.leaves(state.discriminator.params))
    assert line.endswith(f'{count} of {count} arrays of the discriminator')
    assert state.step == state.augment_p == state.path_length_mean == 0


def test_a_published_pickle_that_was_converted_is_a_start_too(tmp_path):
    published = imported.read_published(
        ROOT / 'tests/golden/stylegan/pkl/sg2_uncond.pkl', noise='random'
    )
    imported.save(tmp_path, published)
    model, score = published.generator, published.discriminator
    names = ('size', 'latent', 'style', 'mapping_layers', 'channel_base', 'channel_max')
    fields = {f'model__{name}': getattr(model, name) for name in names}
    fields |= dict(model__num_classes=0, data__label=False, model__clamp=model.clamp or 256.0)
    fields |= dict(
        discriminator__channel_base=model.channel_base,
        discriminator__channel_max=model.channel_max,
        discriminator__architecture=score.architecture,
    )
    state, line = start(tmp_path, **fields)
    assert 'starting from' in line
    assert same(state.ema, published.variables()['params'])
    taken, count = line.split(', ')[1].split(' arrays')[0].split(' of ')
    assert taken == count


def test_layers_of_the_discriminator_that_are_frozen_are_the_first_in_the_published_order():
    objective = tasks.make_objective(tiny.config('stylegan2', discriminator__freeze_layers=3))
    params = jax.eval_shape(objective.init_state, jax.random.key(0)).discriminator.params
    params = jax.tree.map(lambda x: np.ones(x.shape, np.float32), params)
    optimizer = objective.discriminator_optimizer
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    still = {
        jax.tree_util.keystr(path[:-1], simple=True, separator='/')
        for path, update in jax.tree.leaves_with_path(updates)
        if not np.any(update)
    }
    assert still == {'from_rgb', 'block_8/conv0', 'block_8/conv1'}
