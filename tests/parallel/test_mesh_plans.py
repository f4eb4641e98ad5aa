"""One device, eight, pmap, a data × pixel mesh: the same training, checkpoints that interchange.

For every kind of objective. With SGD, so that an update is proportional to its gradient: Adam would
hide a sum in place of a mean.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxgen.errors import UserError
from jaxgen.objectives.base import Phase, merge, train_step
from jaxgen.parallel.hlo import read_work
from jaxgen.parallel.mesh import Layout, make_mesh
from jaxgen.parallel.plan import JitPlan, PmapPlan
from jaxgen.training.checkpoint import Checkpoints
from tests import autoregressive, tiny

STEPS, BATCH = 3, 16
PLANS = {
    'jit on 1': lambda: JitPlan(make_mesh(devices=jax.devices()[:1])),
    'jit on 8': lambda: JitPlan(make_mesh()),
    'pmap on 8': lambda: PmapPlan(make_mesh()),
    'mesh 4 × 2': lambda: JitPlan(make_mesh(4, 2)),
}
KEY = jax.random.key(7)
OBJECTIVES = {
    'adversarial': lambda layout: tiny.objective(
        layout,
        model=tiny.generator(noise='random'),
        score=tiny.discriminator(minibatch_std_group=2),
    ),
    # As published, each has the regulariser that the other does without.
    'stylegan2': tiny.noisy_stylegan,
    'stylegan3': lambda layout: tiny.stylegan(layout, path_length_every=0),
    'gated': lambda layout: tiny.likelihood(autoregressive.gated(blocks=2)),
    'self-scaled': lambda layout: tiny.likelihood(tiny.SelfScaled(), optimizer=optax.sgd(0.05)),
    'autoencoder': lambda layout: tiny.autoencoder(),
    'squared error': lambda layout: tiny.autoencoder(squared_error=True),
}
LIKELIHOODS = ['gated', 'self-scaled']
# What every second step measures.
LAZY = {'adversarial': 'loss/r1', 'stylegan2': 'loss/path_length', 'stylegan3': 'loss/r1'}
# They have no pixels to split: a mesh of two axes is to them one of eight rows.
WHOLE_IMAGES = ['stylegan2', 'stylegan3', 'autoencoder', 'squared error']
# The first batch has a part in its first state.
SCALED_TO_THE_BATCH = ['self-scaled']
BATCHES = {'stylegan2': dict(classes=3), 'stylegan3': dict(size=16)}
# What StyleGAN draws once and keeps, and what belongs to the part that each does without.
CONSTANTS = ("['frequencies']", "['phases']", "['noise']")
UNUSED = {'stylegan2': ('.augment_',), 'stylegan3': ('.path_length_mean',)}


class Training:
    """Three steps under a plan."""

    def __init__(self, plan, kind, first=None):
        self.plan, self.kind = plan, kind
        self.objective = OBJECTIVES[kind](plan.layout)
        batch = self.batch(0)
        if first is None:
            state = plan.compile_init(self.objective.init_state)(jax.random.key(0), batch)
        else:
            state = jax.device_put(first, plan.state_sharding())
        self.first = jax.device_get(state)
        self.phases, self.text = [], {}
        for phase in self.objective.phases():
            compiled = plan.compile_step(phase.update).lower(state, batch, KEY).compile()
            self.phases.append(Phase(phase.name, phase.every, compiled))
            self.text[phase.name] = compiled.as_text()
        self.metrics = []
        for step in range(STEPS):
            state = self.step(state, step)
        self.state = state
        self.last = jax.device_get(state)
        self.next = jax.device_get(self.step(self.copy(), STEPS))

    def batch(self, step):
        return self.plan.put_batch(tiny.batch(BATCH, step=step, **BATCHES.get(self.kind, {})))

    def step(self, state, step):
        state, metrics = train_step(self.phases, step, state, self.batch(step), KEY)
        self.metrics.append(merge([metrics]))
        return state

    def copy(self):
        return jax.jit(
            lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=self.plan.state_sharding()
        )(self.state)


@pytest.fixture(scope='module', params=OBJECTIVES)
def trainings(request):
    """By the name of the plan. Only what reads the batch has its first state made by every plan."""
    kind, found = request.param, {}
    for name, plan in PLANS.items():
        if name == 'mesh 4 × 2' and kind in WHOLE_IMAGES:
            continue
        shared = found and kind not in SCALED_TO_THE_BATCH
        found[name] = Training(plan(), kind, found['jit on 1'].first if shared else None)
    return found


def assert_close(a, b, tolerance=1e-5, where=''):
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(
            x, y, rtol=tolerance, atol=tolerance, err_msg=f'{where}: {jax.tree_util.keystr(path)}'
        )


def test_three_steps_under_any_plan_give_the_same_state(trainings):
    one = trainings['jit on 1']
    for name, other in trainings.items():
        assert_close(other.last, one.last, where=name)


def test_metrics_of_every_step_are_those_of_one_device(trainings):
    one = trainings['jit on 1']
    if one.kind in LAZY:
        assert [LAZY[one.kind] in m for m in one.metrics] == [True, False, True, False]
    for name, other in trainings.items():
        assert [sorted(m) for m in other.metrics] == [sorted(m) for m in one.metrics]
        assert_close(other.metrics, one.metrics, where=name)


def test_three_steps_move_every_array_by_more_than_the_tolerance(trainings):
    one = trainings['jit on 1']
    kept = CONSTANTS + UNUSED.get(one.kind, ())
    still = [
        name
        for (path, a), b in zip(
            jax.tree.leaves_with_path(one.first), jax.tree.leaves(one.last), strict=True
        )
        if np.abs(np.asarray(a) - b).max() < 2e-5
        and not any(word in (name := jax.tree_util.keystr(path)) for word in kept)
    ]
    assert not still


def test_a_checkpoint_written_under_one_plan_goes_on_under_every_other(trainings, tmp_path):
    for i, (name, writer) in enumerate(trainings.items()):
        checkpoints = Checkpoints(tmp_path / str(i))
        checkpoints.save(STEPS, writer.state, {})
        checkpoints.wait()
        shapes = jax.eval_shape(lambda writer=writer: writer.last)
        for other, reader in trainings.items():
            step, state = checkpoints.restore_latest(shapes, reader.plan.state_sharding())
            assert step == STEPS
            assert_close(jax.device_get(state), writer.last, 0, f'{name} to {other}')
            assert_close(
                jax.device_get(reader.step(state, STEPS)), writer.next, where=f'{name} to {other}'
            )
        checkpoints.close()


def test_the_state_of_every_plan_is_replicated_and_lies_where_it_did(trainings):
    for training in trainings.values():
        wanted = training.plan.state_sharding()
        for leaf in jax.tree.leaves(training.state):
            assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)


@pytest.mark.parametrize('trainings', ['adversarial'], indirect=True)
def test_the_pixel_axis_costs_all_to_alls_and_never_gathers_activations(trainings):
    training = trainings['mesh 4 × 2']
    moves = read_work(training.text['generator'], training.plan.mesh.shape).collectives
    to_images = [c for c in moves if c.kind == 'all-to-all']
    # One device's share of the RGB images, in float32.
    assert max(c.bytes for c in to_images) == BATCH * tiny.SIZE**2 * 3 * 4 // 8
    assert {c.axes for c in to_images} == {'pixel'}
    # All that is gathered, in bytes: each row's keys and style, for the devices that share a row's
    # pixels, and the gradient of the embedding, which is a parameter.
    rows, generator = BATCH // 4, training.objective.generator
    allowed = {rows * 4, rows * generator.style * 4, tiny.SIZE**2 * generator.features * 4}
    assert {c.bytes for c in moves if c.kind == 'all-gather'} <= allowed
    assert not any(c.kind == 'collective-permute' for c in moves)


@pytest.mark.parametrize('trainings', LIKELIHOODS, indirect=True)
def test_of_a_likelihood_the_gradients_are_summed_over_devices_and_no_image_moves(trainings):
    for name in ('jit on 8', 'pmap on 8', 'mesh 4 × 2'):
        training = trainings[name]
        moves = read_work(training.text['update'], training.plan.mesh.shape).collectives
        assert {c.kind for c in moves} == {'all-reduce'}
        parameters = sum(x.nbytes for x in jax.tree.leaves(training.last.ema))
        assert parameters <= sum(c.bytes for c in moves) <= 1.1 * parameters + 64


def test_one_device_does_not_communicate(trainings):
    for text in trainings['jit on 1'].text.values():
        assert not read_work(text, {'data': 1, 'pixel': 1}).collectives


def test_the_batch_lies_in_contiguous_rows_over_both_axes():
    plan = JitPlan(make_mesh(4, 2))
    rows = plan.put_batch(tiny.batch(BATCH))['slot']
    shards = rows.addressable_shards
    found = sorted((shard.device.id, np.asarray(shard.data).tolist()) for shard in shards)
    assert found == [(i, [2 * i, 2 * i + 1]) for i in range(8)]


def test_a_layout_without_a_mesh_changes_nothing():
    x = jnp.ones((2, 3, 4))
    assert Layout().images(x) is x
    assert Layout(make_mesh(devices=jax.devices()[:1])).pixels(x) is x


def test_pixels_shared_by_the_batch_are_split_over_the_pixel_axis_only():
    mesh = make_mesh(4, 2)
    x = jax.jit(Layout(mesh).pixels)(jnp.ones((1, 6, 4)))
    assert x.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(None, 'pixel')), x.ndim)


@pytest.mark.parametrize(
    ('data', 'pixel', 'shape'), [(-1, 1, (8, 1)), (-1, 2, (4, 2)), (2, 4, (2, 4)), (-1, 8, (1, 8))]
)
def test_minus_one_takes_the_devices_that_the_pixel_axis_leaves(data, pixel, shape):
    assert tuple(make_mesh(data, pixel).shape.values()) == shape


@pytest.mark.parametrize(
    ('data', 'pixel', 'message'),
    [
        (-1, 3, 'mesh.pixel must divide the 8 devices, got 3'),
        (-1, 0, 'mesh.pixel must divide the 8 devices, got 0'),
        (4, 1, 'mesh.data × mesh.pixel must be the 8 devices, got 4 × 1'),
        (-2, 2, 'got -2 × 2'),
    ],
)
def test_axes_that_do_not_make_up_the_devices_are_an_error(data, pixel, message):
    with pytest.raises(UserError, match=message):
        make_mesh(data, pixel)


def test_pmap_has_no_pixel_axis():
    with pytest.raises(UserError, match=r'mesh\.pixel must be 1, got 2'):
        PmapPlan(make_mesh(4, 2))
