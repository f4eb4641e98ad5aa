"""StyleGAN's objective: what each phase changes, when, and by which rule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.augment import ada
from jaxgen.objectives import schedules
from jaxgen.objectives.base import train_step
from jaxgen.objectives.optim import lazy_adam, outputs_apart
from jaxgen.ops.blur import blur
from tests import tiny

KEY = jax.random.key(3)
ORDER = ['generator', 'path_length', 'discriminator', 'r1', 'average']


class Steps:
    """The objective, its compiled phases and a first state, as numpy."""

    def __init__(self):
        self.objective = tiny.stylegan(batch_size=4)
        self.batch = tiny.batch(4, size=16)
        self.state = jax.device_get(jax.jit(self.objective.init_state)(jax.random.key(0)))
        self.phases = {phase.name: phase for phase in self.objective.phases()}
        self.update = {name: jax.jit(phase.update) for name, phase in self.phases.items()}

    def __call__(self, name, state=None):
        return jax.device_get(self.update[name](state or self.state, self.batch, KEY))


@pytest.fixture(scope='module')
def steps():
    return Steps()


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_phases_come_in_the_published_order_each_at_its_interval(steps):
    assert list(steps.phases) == ORDER
    seen = []
    phases = [
        dataclasses.replace(p, update=lambda *a, name=p.name: (seen.append(name), (a[0], {}))[1])
        for p in steps.objective.phases()
    ]
    for step in range(3):
        train_step(phases, step, steps.state, steps.batch, KEY)
    assert seen == [*ORDER, 'generator', 'discriminator', 'average', *ORDER]


def test_an_interval_of_0_leaves_a_regulariser_out():
    phases = tiny.stylegan(path_length_every=0, r1_every=0).phases()
    assert [phase.name for phase in phases] == ['generator', 'discriminator', 'average']


def test_the_generators_phases_leave_its_averages_and_the_discriminator_alone(steps):
    for name, own in (('generator', {}), ('path_length', {'path_length_mean'})):
        state, _ = steps(name)
        assert not same(state.generator.params, steps.state.generator.params)
        assert same(state.generator.stats, steps.state.generator.stats)
        for field in dataclasses.fields(state):
            if field.name != 'generator' and field.name not in own:
                before = getattr(steps.state, field.name)
                assert same(getattr(state, field.name), before), field.name
    assert state.path_length_mean == pytest.approx(
        0.01 * np.mean(steps('path_length')[1]['path_length'].total) / 2, rel=1e-5
    )


def test_the_averages_move_in_the_discriminators_phase_alone(steps):
    state, _ = steps('discriminator')
    assert same(state.generator.params, steps.state.generator.params)
    old, new = steps.state.generator.stats, state.generator.stats
    assert not same(old['mapping']['w_avg'], new['mapping']['w_avg'])
    assert not same(old['layer_0']['magnitude'], new['layer_0']['magnitude'])
    assert same(old['input'], new['input'])
    assert not same(state.discriminator.params, steps.state.discriminator.params)
    assert state.augment_signs.count == 1
    after, _ = steps('r1', state)
    assert same(after.generator, state.generator)
    assert after.augment_signs.count == 2


def test_regularisers_leave_the_biases_of_the_output_alone(steps):
    for name, network, path in (
        ('path_length', 'generator', ('to_rgb', 'bias')),
        ('r1', 'discriminator', ('score', 'bias')),
    ):
        before, after = (getattr(s, network).params for s in (steps.state, steps(name)[0]))
        assert same(before[path[0]][path[1]], after[path[0]][path[1]])
        # In the main phase they move.
        main, _ = steps(network)
        assert not same(before[path[0]][path[1]], getattr(main, network).params[path[0]][path[1]])


def test_the_average_copies_the_first_generator_and_the_step_is_counted_last(steps):
    moved, _ = steps('generator')
    state, metrics = steps('average', moved)
    assert not metrics
    assert same(state.ema, moved.generator.params)
    assert state.step == 1
    later, _ = steps('average', state.replace(generator=steps.state.generator, step=np.int32(400)))
    decay = float(schedules.ema_decay(1600, 4, 40))
    assert 0.5 < decay < 1
    for average, old, new in zip(
        *map(jax.tree.leaves, (later.ema, state.ema, steps.state.generator.params)), strict=True
    ):
        np.testing.assert_allclose(average, decay * old + (1 - decay) * new, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('mean_sign', 'moved'), [(1.0, 0.08), (0.2, -0.08)])
def test_the_probability_of_augmentation_follows_the_signs_every_so_many_steps(
    steps, mean_sign, moved
):
    signs = steps.state.augment_signs.replace(total=np.float32(3 * mean_sign), count=np.float32(3))
    state = steps.state.replace(augment_signs=signs)
    waiting, _ = steps('average', state)
    assert waiting.augment_p == state.augment_p
    assert waiting.augment_signs.count == 3
    due, _ = steps('average', waiting)
    # Two steps of four images, of the hundred that lead from 0 to 1.
    assert due.augment_p == pytest.approx(0.5 + moved)
    assert due.augment_signs.count == due.augment_signs.total == 0


def test_a_probability_without_a_target_stays(steps):
    fixed = dataclasses.replace(steps.objective.augmentation, target=None)
    objective = dataclasses.replace(steps.objective, augmentation=fixed)
    one = np.float32(1)
    signs = steps.state.augment_signs.replace(total=one, count=one)
    state = steps.state.replace(augment_p=np.float32(0.3), augment_signs=signs)
    update = jax.jit(objective.update_averages)
    for _ in range(4):
        state = update(state)
    assert state.augment_p == np.float32(0.3)


def test_style_mixing_takes_the_layers_from_the_crossover_on_from_another_w(steps):
    objective, stats = steps.objective, steps.state.generator.stats
    params, slot = steps.state.generator.params, jnp.arange(4)
    draws = objective.draw(KEY, 0, 0, slot)._replace(crossover=jnp.array([1, 2, 3, 4]))
    mixed, _ = objective.styles(params, stats, steps.batch, draws)
    plain = dataclasses.replace(objective, style_mixing=0.0)
    first, _ = plain.styles(params, stats, steps.batch, draws)
    other, _ = plain.styles(params, stats, steps.batch, draws._replace(z=draws.other_z))
    for row, crossover in enumerate((1, 2, 3, 4)):
        np.testing.assert_array_equal(mixed[row, :crossover], first[row, :crossover])
        np.testing.assert_array_equal(mixed[row, crossover:], other[row, crossover:])
    assert objective.generator.num_ws == 4


def test_crossovers_are_uniform_behind_the_first_layer_and_as_often_as_asked(steps):
    objective = dataclasses.replace(steps.objective, style_mixing=0.75)
    keys = jax.random.split(jax.random.key(1), 4000)
    crossovers = jax.vmap(lambda key: objective._crossover(key, 4))(keys)
    share = np.bincount(crossovers, minlength=5) / 4000
    np.testing.assert_allclose(share, [0, 0.25, 0.25, 0.25, 0.25], atol=0.03)


def test_every_phase_and_step_draws_anew(steps):
    slot = steps.batch['slot']
    draws = [
        np.asarray(steps.objective.draw(KEY, step, phase, slot).z)
        for step in (0, 1)
        for phase in range(4)
    ]
    assert len(np.unique(np.concatenate(draws))) == sum(z.size for z in draws)


def test_the_discriminator_sees_images_blurred_and_then_augmented(steps):
    objective, state = steps.objective, steps.state.replace(step=np.int32(2))
    keys, image = jax.random.split(KEY, 4), steps.batch['image']
    params = state.discriminator.params
    found = jax.jit(objective.score)(params, image, steps.batch, state, keys)

    def by_hand(image):
        seen = ada.augment(objective.augmentation.pipeline, keys, blur(image, 0.92), 0.5)
        return objective.discriminator.apply({'params': params}, seen)

    expected = jax.jit(by_hand)(image)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_frozen_modules_stay_and_outputs_count_their_own_updates():
    params = {name: {'bias': jnp.ones(2)} for name in ('from_rgb', 'from_rgb_8', 'score')}
    optimizer = outputs_apart(lazy_adam(0.1), frozen=('from_rgb',))
    gradients, state = jax.tree.map(jnp.ones_like, params), optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params, regularizing=True)
    moved = {name: bool(np.any(update['bias'])) for name, update in updates.items()}
    assert moved == {'from_rgb': False, 'from_rgb_8': True, 'score': False}
    # As the first update of an Adam that has seen nothing.
    updates, _ = optimizer.update(gradients, state, params)
    fresh, _ = optax.adam(0.1, 0.0, 0.99).update(jnp.ones(2), optax.adam(0.1).init(jnp.ones(2)))
    np.testing.assert_allclose(updates['score']['bias'], fresh, rtol=1e-6)
