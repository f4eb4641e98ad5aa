"""Training on parts of images with the coordinates of the whole."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgen.data.patches import RingWindows, ScaledPatches
from jaxgen.data.pipeline import Pipeline
from jaxgen.objectives.base import train_step
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan, PmapPlan
from tests import tiny


class Images(list):
    """A data set in memory."""

    name, num_classes = 'images', 0

    def __init__(self, height, width):
        rng = np.random.default_rng(0)
        self.image_shape = (height, width, 3)
        super().__init__(
            {'image': rng.integers(0, 256, self.image_shape, np.uint8)} for _ in range(16)
        )


def batches(crop=None, height=tiny.SIZE, width=tiny.SIZE):
    return Pipeline(Images(height, width), batch_size=8, seed=0, flip=True, crop=crop)


def trained(pipeline, plan, steps=3, **model):
    """The state after `steps` steps of SGD."""
    # Groups of the minibatch deviation would have to lie on one device under pmap.
    score = tiny.discriminator(minibatch_std_group=1)
    objective = tiny.objective(plan.layout, model=tiny.generator(**model), score=score)
    key = jax.random.key(3)
    state = plan.compile_init(objective.init_state)(jax.random.key(1))
    phases = [
        dataclasses.replace(phase, update=plan.compile_step(phase.update))
        for phase in objective.phases()
    ]
    for step in range(steps):
        state, _ = train_step(phases, step, state, plan.put_batch(pipeline.at(step)), key)
    return jax.device_get(state)


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


@pytest.fixture(scope='module')
def one():
    return JitPlan(make_mesh(devices=jax.devices()[:1]))


def test_a_patch_as_large_as_the_image_is_ordinary_training(one):
    crop = ScaledPatches(tiny.SIZE, (tiny.SIZE, tiny.SIZE))
    assert crop.num_scales == 1
    patched, ordinary = trained(batches(crop), one), trained(batches(), one)
    assert_close(patched, ordinary)
    start = trained(batches(), one, steps=0)
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), start.generator.params, ordinary.ema)
    assert max(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.parametrize(
    ('kind', 'plan'),
    [('patches', lambda: PmapPlan(make_mesh())), ('ring', lambda: JitPlan(make_mesh(4, 2)))],
    ids=['patches-pmap', 'ring-mesh'],
)
def test_one_and_eight_devices_train_alike(one, kind, plan):
    if kind == 'patches':
        crop, model = ScaledPatches(tiny.SIZE, (16, 16)), {}
        pipeline = batches(crop, 16, 16)
    else:
        crop = RingWindows(tiny.SIZE, 24, (tiny.SIZE, 12))
        pipeline = batches(crop, tiny.SIZE, 12)
        model = dict(size=(tiny.SIZE, 24), cylindrical=True)
    assert_close(trained(pipeline, plan(), **model), trained(pipeline, one, **model))
