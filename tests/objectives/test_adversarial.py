"""The adversarial objective: what each phase changes, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.objectives.base import Mean, merge, train_step
from jaxgen.objectives.optim import lazy_adam
from tests import tiny

KEY = jax.random.key(3)


class Steps:
    """An objective, its compiled phases and a first state, as numpy."""

    def __init__(self, classes=0, **fields):
        self.batch = tiny.batch(4, size=4, classes=classes)
        self.objective = tiny.objective(
            model=tiny.generator(size=4, num_classes=classes),
            score=tiny.discriminator(size=4, channels={4: 4}, num_classes=classes, **fields),
        )
        self.state = jax.device_get(jax.jit(self.objective.init_state)(jax.random.key(0)))
        self.phases = {p.name: p for p in self.objective.phases()}
        self.update = {name: jax.jit(p.update) for name, p in self.phases.items()}

    def __call__(self, name, state=None, batch=None, key=KEY):
        state = self.state if state is None else state
        return jax.device_get(self.update[name](state, batch or self.batch, key))


@pytest.fixture(scope='module')
def steps():
    return Steps()


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_the_average_starts_as_the_generator_without_sharing_its_buffers(steps):
    state = jax.jit(steps.objective.init_state)(jax.random.key(0))
    assert same(state.ema, state.generator.params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)


def test_the_discriminator_phases_change_the_discriminator_only(steps):
    for name in ('discriminator', 'r1'):
        state, _ = steps(name)
        assert not same(state.discriminator.params, steps.state.discriminator.params)
        assert same(state.replace(discriminator=steps.state.discriminator), steps.state)


def test_the_generator_phase_changes_all_but_the_discriminator_and_counts_the_step(steps):
    state, _ = steps('generator')
    assert same(state.discriminator, steps.state.discriminator)
    assert state.step == steps.state.step + 1
    moved = state.generator.stats['mapping']['w_avg']
    assert np.abs(moved).max() > 0
    old, new = steps.state.generator.params, state.generator.params
    for before, after, average in zip(*map(jax.tree.leaves, (old, new, state.ema)), strict=True):
        assert np.abs(after - before).max() > 0
        np.testing.assert_allclose(average, 0.9 * before + 0.1 * after, rtol=1e-5, atol=1e-6)


def test_the_r1_update_is_scaled_by_half_its_weight_times_its_interval(steps):
    objective, batch = steps.objective, steps.batch

    def penalty(params):
        gradient = jax.grad(lambda x: jnp.sum(objective.score(params, x, batch)))(batch['image'])
        return jnp.sum(jnp.square(gradient)) / 4

    params = steps.state.discriminator.params
    value, gradient = jax.jit(jax.value_and_grad(penalty))(params)
    state, metrics = steps('r1')
    assert metrics['loss/r1'].total == pytest.approx(float(value), rel=1e-5)
    factor = 0.05 * 0.5 * 10.0 * 2
    for before, after, g in zip(
        *map(jax.tree.leaves, (params, state.discriminator.params, jax.device_get(gradient))),
        strict=True,
    ):
        np.testing.assert_allclose(after, before - factor * g, rtol=1e-5, atol=1e-5)


def test_phases_come_in_the_published_order_and_r1_only_every_so_often(steps):
    assert list(steps.phases) == ['discriminator', 'r1', 'generator']
    state, seen = steps.state, []
    phases = [
        phase.__class__(name, phase.every, lambda *a, name=name: (seen.append(name), (a[0], {}))[1])
        for name, phase in steps.phases.items()
    ]
    for step in range(3):
        train_step(phases, step, state, steps.batch, KEY)
    whole = ['discriminator', 'r1', 'generator']
    assert seen == [*whole, 'discriminator', 'generator', *whole]


def test_without_r1_there_is_no_such_phase():
    assert [p.name for p in tiny.objective(r1_every=0).phases()] == ['discriminator', 'generator']


def test_a_step_draws_anew_and_both_phases_draw_differently(steps):
    slot = steps.batch['slot']
    draw = jax.jit(steps.objective._draw, static_argnums=2)
    drawn = [np.asarray(draw(KEY, step, phase, slot)[0]) for step in (0, 1) for phase in (0, 1)]
    assert len(np.unique(np.concatenate(drawn))) == 4 * drawn[0].size
    _, first = steps('discriminator')
    later, _ = steps('generator')
    _, second = steps('discriminator', state=steps.state.replace(step=later.step))
    assert first['score/real'].total == second['score/real'].total
    assert first['score/fake'].total != second['score/fake'].total


def test_labels_reach_both_networks():
    conditional = Steps(classes=3)
    other = {**conditional.batch, 'label': (conditional.batch['label'] + 1) % 3}
    for name, kind in (('discriminator', 'score/real'), ('generator', 'loss/generator')):
        totals = [conditional(name, batch=b)[1][kind].total for b in (conditional.batch, other)]
        assert totals[0] != totals[1]


def test_means_merge_exactly_whatever_the_batches():
    values = np.random.default_rng(0).normal(size=10).astype(np.float32)
    parts = [{'x': Mean.of(jnp.asarray(values[:3]))}, {'x': Mean.of(jnp.asarray(values[3:]))}]
    assert merge(parts)['x'] == pytest.approx(values.astype(np.float64).mean(), rel=1e-6)
    assert merge([{'x': Mean(jnp.zeros(()), jnp.zeros(()))}]) == {}


def test_lazy_adam_is_adam_with_everything_to_the_power_of_its_share_of_updates():
    gradients = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    share = 16 / 17
    plain = optax.adam(2e-3 * share, 0.5**share, 0.99**share, eps=1e-8)
    lazy = lazy_adam(2e-3, 0.5, 0.99, interval=16)
    states = [lazy.init(gradients[0]), plain.init(gradients[0])]
    for gradient in gradients:
        updates = []
        for i, optimizer in enumerate((lazy, plain)):
            update, states[i] = optimizer.update(gradient, states[i])
            updates.append(update)
        np.testing.assert_array_equal(*updates)
    update, _ = lazy_adam(2e-3, 0.0, 0.99).update(gradients[0], lazy.init(gradients[0]))
    np.testing.assert_allclose(update, -2e-3 * np.sign(gradients[0]), rtol=1e-3)
