"""Golden cases of StyleGAN's training loop: the objective's own phases, one after the other.

Only what a phase draws is replaced: latents and projections are those recorded in the case.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.interop.stylegan_names import to_published
from jaxgen.objectives.base import Learner, Mean, train_step
from jaxgen.objectives.optim import lazy_adam, outputs_apart
from jaxgen.objectives.stylegan import Draws, StyleGAN, StyleGANState
from tests.parity.cases import nhwc
from tests.parity.stylegan_losses import Networks

# The published order, in which the case has latents; ours is checked against it.
PHASES = ('generator', 'path_length', 'discriminator', 'r1')


class Recorded(StyleGAN):
    """The objective, with random numbers that come from the batch instead of its slots."""

    def draw(self, key, step, phase, slot):
        z, projection = slot[PHASES[phase]]
        return Draws(z, None, None, None, None, None, projection)


def optimizer_from(config):
    beta1, beta2 = config['betas']
    adam = lazy_adam(config['lr'], beta1, beta2, config['eps'], interval=config['reg_interval'])
    return outputs_apart(adam)


def objective_from(networks, config):
    loss = config['loss']
    assert not loss['style_mixing_prob'], 'mixing needs its latents recorded'
    generator = networks.generator
    if not config['G'].get('use_noise', True):
        generator = generator.clone(noise='none')
    return Recorded(
        generator=generator,
        discriminator=networks.discriminator,
        generator_optimizer=optimizer_from(config['G_opt']),
        discriminator_optimizer=optimizer_from(config['D_opt']),
        batch_size=config['batch'],
        r1_weight=loss['r1_gamma'],
        r1_every=config['D_opt']['reg_interval'],
        path_length_weight=loss['pl_weight'],
        path_length_every=config['G_opt']['reg_interval'],
        path_length_shrink=loss['pl_batch_shrink'],
        path_length_decay=loss['pl_decay'],
        style_mixing=0.0,
        ema_half_life=1000 * config['ema_kimg'],
        ema_ramp=config['ema_rampup'],
    )


def training(case):
    config = case.sidecar['constructor']
    networks = Networks(case)
    objective = objective_from(networks, config)
    learners = [
        Learner(
            variables['params'], variables.get('stats', {}), optimizer.init(variables['params'])
        )
        for variables, optimizer in (
            (networks.variables['G'], objective.generator_optimizer),
            (networks.variables['D'], objective.discriminator_optimizer),
        )
    ]
    zero = jnp.zeros(())
    state = StyleGANState(
        jnp.zeros((), jnp.int32), *learners, learners[0].params, zero, zero, Mean(zero, zero)
    )
    phases = [
        dataclasses.replace(phase, update=watched(phase, objective)) for phase in objective.phases()
    ]
    assert tuple(phase.name for phase in phases) == (*PHASES, 'average')
    reported = {}
    for step in range(len(case['in/z'])):
        batch = batch_of(case, step, objective.path_length_shrink)
        before = state.ema
        state, metrics = train_step(phases, step, state, batch, jax.random.key(0))
        assert state.step == step + 1
        # What a step has not reported stands as the last one left it.
        reported |= reports(objective, metrics)
        check_reports(case, f'out/step{step}/report/Loss', reported)
        check_state(case, f'out/step{step}', networks, state)
        check_decay(case, f'out/step{step}/ema_beta', before, state)


def watched(phase, objective):
    """The update, compiled; R1's also tells the scores that its pass saw, as the published one."""
    update = jax.jit(phase.update)
    if phase.name != 'r1':
        return update

    def with_scores(state, batch, key):
        score = objective.score(state.discriminator.params, batch['image'], batch, state, None)
        state, metrics = update(state, batch, key)
        again = {'score/real': Mean.of(score), 'sign/real': Mean.of(jnp.sign(score))}
        return state, metrics | again

    return with_scores


def batch_of(case, step, shrink):
    """The batch, its slots replaced by what phases draw; of the penalty, `shrink` rows for one."""
    draws = {name: (z, None) for name, z in zip(PHASES, case['in/z'][step], strict=True)}
    projection = nhwc(case['in/pl_noise'][step])
    z = draws['path_length'][0][: len(projection)]
    draws['path_length'] = tuple(np.repeat(x, shrink, axis=0) for x in (z, projection))
    return {'image': nhwc(case['in/real_img'][step]), 'slot': draws}


def reports(objective, metrics):
    """What the published code reports of each example, as means."""
    mean = {name: float(value.total / value.count) for name, value in metrics.items()}
    named = {
        'G/loss': mean['loss/generator'],
        'D/loss': mean['loss/discriminator'],
        'scores/real': mean['score/real'],
        'scores/fake': mean['score/fake'],
        'signs/real': mean['sign/real'],
    }
    if 'loss/path_length' in mean:
        penalty = mean['loss/path_length']
        named |= {'pl_penalty': penalty, 'G/reg': objective.path_length_weight * penalty}
    if 'loss/r1' in mean:
        penalty = mean['loss/r1']
        named |= {'r1_penalty': penalty, 'D/reg': objective.r1_weight / 2 * penalty}
    return named


def check_reports(case, prefix, reported):
    """The means of what is stored of each example; scores and signs of fakes are D's."""
    names = {key.removeprefix(f'{prefix}/') for key in case.keys(f'{prefix}/.+')}
    assert names == reported.keys() | {'signs/fake'}
    for name, value in reported.items():
        stored = case[f'{prefix}/{name}']
        error = np.abs(stored.mean() - value) / np.abs(stored).max()
        assert error <= case.tolerance, f'{prefix}/{name}: off by {error:.1e}'
    np.testing.assert_array_equal(np.abs(case[f'{prefix}/signs/fake']), 1)


def check_state(case, prefix, networks, state):
    """Every parameter and average after the step."""
    case.check(f'{prefix}/pl_mean', state.path_length_mean)
    trees = {
        'G': {'params': state.generator.params, 'stats': state.generator.stats},
        'D': {'params': state.discriminator.params, 'stats': {}},
        'G_ema': {'params': state.ema, 'stats': state.generator.stats},
    }
    for side, variables in trees.items():
        keys = case.keys(f'{prefix}/{side}\\..+')
        names = [key.removeprefix(f'{prefix}/{side}.') for key in keys]
        found = to_published(variables, names, networks.modules[side[0]])
        assert set(found) == set(names)
        for name, array in found.items():
            tolerance = case.bias_tolerance if name.endswith('bias') else None
            case.check(f'{prefix}/{side}.{name}', array, tolerance)


def check_decay(case, key, before, state):
    """The average is the decay's share of the one before, and the rest of the new parameters."""
    decay = case[key]
    for average, old, new in zip(
        *map(jax.tree.leaves, (state.ema, before, state.generator.params)), strict=True
    ):
        np.testing.assert_allclose(average, decay * old + (1 - decay) * new, rtol=1e-10, atol=1e-12)


CHECKS = {'train_sg2': training}
