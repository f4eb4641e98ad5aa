"""Golden cases of the training loop: the objective's own phases, one after the other.

Only what a phase draws is replaced: latents and noise maps are those recorded in the case. Each
optimiser also keeps the last gradient that it was given, so that gradients are compared too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.interop.cips_names import generator_names, noise_modules
from jaxgen.objectives.adversarial import Adversarial
from jaxgen.objectives.adversarial_base import AdversarialState
from jaxgen.objectives.base import Learner, train_step
from jaxgen.objectives.optim import lazy_adam
from tests.parity.cases import nhwc, pixels
from tests.parity.cips_discriminator import discriminator_from, names_from
from tests.parity.cips_generator import generator_from

# By the name of a phase: stored loss, gradients, network, and parameters after it.
PHASES = {
    'discriminator': ('d_loss', 'd', 'd', 'd_after_d'),
    'r1': ('r1', 'r1', 'd', 'd_after_r1'),
    'generator': ('g_loss', 'g', 'g', 'g'),
}


class Recorded(Adversarial):
    """The objective, with random numbers that come from the batch instead of its slots."""

    def _draw(self, key, step, phase, slot):
        return slot['draws'][phase]


def remember_gradient():
    """A transformation that hands gradients on and keeps the last ones as its state."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params), lambda g, _, params=None: (g, g)
    )


def optimizer_from(config, network):
    """The library's lazy Adam for the interval that the stored learning rates tell."""
    ratio = config[f'lr_{network}'] / config['lr']
    interval = round(ratio / (1 - ratio)) if ratio < 1 else 0
    beta1, beta2 = (beta ** (1 / ratio) for beta in config[f'betas_{network}'])
    if network == 'D':
        assert interval == config['d_reg_every']
    return optax.chain(
        remember_gradient(),
        lazy_adam(config['lr'], beta1, beta2, config['adam_eps'], interval=interval),
    )


def objective_from(config):
    # Strengths of the noise are parameters of the published model also where noise is removed.
    lookup = 'exact' if config['patch'] is None else 'reference'
    model = discriminator_from(config['discriminator'])
    assert model.coordinates == config['coordinates_to_D']
    return Recorded(
        generator=generator_from(config['generator'], noise='random', lookup=lookup),
        discriminator=model,
        generator_optimizer=optimizer_from(config, 'G'),
        discriminator_optimizer=optimizer_from(config, 'D'),
        r1_weight=config['r1'],
        r1_every=config['d_reg_every'],
        ema_decay=config['ema'],
    )


def training(case):
    config = case.config
    objective = objective_from(config)
    residual = config['generator']['kind'] == 'CIPSres'
    names = {'g': generator_names(residual), 'd': names_from(config['discriminator'])}
    like = {network: case.under(f'param/before/{network}') for network in 'gd'}
    params = {network: names[network].to_tree(like[network]) for network in 'gd'}
    ema = names['g'].to_tree(case.under('param/before/ema'))
    state = AdversarialState(
        jnp.asarray(config['t_start'], jnp.int32),
        Learner(
            params['g'],
            {'mapping': {'w_avg': jnp.zeros(config['generator']['style_dim'])}},
            objective.generator_optimizer.init(params['g']),
        ),
        Learner(params['d'], {}, objective.discriminator_optimizer.init(params['d'])),
        ema,
    )

    def compare(prefix, network, tree):
        if case.keys(f'{prefix}/.+'):
            case.check_tree(prefix, names[network].to_published(tree, like[network]))

    times = sorted({int(key.split('/')[1][1:]) for key in case.keys(r'out/t\d+/.+')})
    assert len(times) == config['iterations']
    looked_at = [
        dataclasses.replace(phase, update=watch(jax.jit(phase.update), phase.name, case, compare))
        for phase in objective.phases()
    ]
    for t in times:
        step = int(state.step)
        batch = batch_of(case, objective, t)
        state, _ = train_step(looked_at, step, state, batch, jax.random.key(0))
        compare(f'param/t{t}/ema', 'g', state.ema)
        assert state.step == step + 1


def watch(update, name, case, compare):
    """`update`, and a comparison of all that is stored about the phase `name`."""
    loss, kind, network, parameters = PHASES[name]

    def watched(state, batch, key):
        state, metrics = update(state, batch, key)
        t = f't{batch["time"]}'
        case.check(f'out/{t}/{loss}', metrics[f'loss/{name}'].total)
        learner = state.generator if network == 'g' else state.discriminator
        compare(f'grad/{t}/{kind}', network, learner.optimizer[0])
        compare(f'param/{t}/{parameters}', network, learner.params)
        return state, metrics

    return watched


def batch_of(case, objective, t):
    real = nhwc(case[f'in/t{t}/real'])
    places = nhwc(case[f'in/t{t}/coords'])
    draws = []
    batch = {'image': real, 'slot': {'draws': draws}, 'time': t}
    if case.config['patch'] is None:
        # The full grid: the generator reads the embedding without interpolation.
        height, width = objective.generator.frame
        grid = np.stack(np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)), -1)
        np.testing.assert_allclose(places, np.broadcast_to(grid, places.shape), atol=1e-7)
    else:
        assert real.shape[1:3] == (case.config['patch'],) * 2
        batch['coords'] = places
    modules = noise_modules(case.config['generator']['blocks'], objective.generator.residual)
    for phase in 'dg':
        maps = tuple(
            pixels(case[key]) if (key := f'in/t{t}/noise_{phase}/{module}.noise') in case else None
            for module in modules
        )
        assert all((noise is not None) == bool(case.config['noise']) for noise in maps)
        draws.append((case[f'in/t{t}/z_{phase}'], maps))
    return batch


CHECKS = {'training': training}
