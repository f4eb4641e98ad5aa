"""Golden cases of parts of the PixelCNN family: masks, likelihoods, one block, the optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.models.pixelcnn import Condition, GatedBlock
from jaxgen.nn.autoregressive import CausalConv
from jaxgen.objectives.optim import decayed_adam, per_step_decay
from jaxgen.ops import logistic_mixture as mixtures
from jaxgen.ops.causal_conv import causal_mask, colour_groups
from tests.parity.cases import value_and_gradients
from tests.parity.pixelcnn_names import check_gradients, fill


def masks(case):
    for i, config in enumerate(case.config['cases']):
        for key in case.keys(f'in/{i}/.+/group_in'):
            design = key.split('/')[2]
            groups = case[key], case[f'in/{i}/{design}/group_out']
            mask = causal_mask((config['kh'], config['kw']), config['kind'], *groups)
            case.check(f'out/{i}/{design}/mask', mask)
            if design == 'split':
                for group, channels in zip(groups, (config['cin'], config['cout']), strict=True):
                    np.testing.assert_array_equal(colour_groups(channels, config['groups']), group)
    halves = case['in/halves_group_out']
    kh, kw, features, _ = case['out/halves_mask'].shape
    colours = halves.max() + 1
    case.check('in/halves_group_out', colour_groups(len(halves), colours, parts=2))
    mask = causal_mask((kh, kw), 'B', colour_groups(features, colours), halves)
    case.check('out/halves_mask', mask)


def masked_conv(case):
    for i, config in enumerate(case.config['cases']):
        layer = CausalConv(
            config['cin'],
            config['cout'],
            (config['k'], config['k']),
            kind=config['kind'],
            colours=config['groups'],
        )
        case.check(f'in/{i}/mask', layer.mask)
        params = {'kernel': case[f'param/{i}/w'], 'bias': case[f'param/{i}/b']}
        y, (gradients, x_gradient) = value_and_gradients(
            lambda p, x, layer=layer: layer.apply({'params': p}, x),
            case[f'in/{i}/cot'],
            params,
            case[f'in/{i}/x'],
        )
        case.check(f'out/{i}/y', y)
        case.check(f'grad/{i}/w', gradients['kernel'])
        case.check(f'grad/{i}/b', gradients['bias'])
        case.check(f'grad/{i}/x', x_gradient)
        assert not np.asarray(gradients['kernel'])[layer.mask == 0].any()


def gated_block(case):
    config = case.config
    colours = next(sub['in_channels'] for sub in config['cases'] if sub['kind'] == 'A')
    for sub in config['cases']:
        name, conditioned = sub['name'], sub['conditioned']
        block = GatedBlock(
            config['p'] if sub['in_channels'] == 'p' else sub['in_channels'],
            config['p'],
            config['n'],
            colours,
            first=sub['kind'] == 'A',
            shift=sub['shift'],
            vector=config['cond'] * conditioned,
            map=config['spatial'] * conditioned,
        )
        assert sub['residual'] != block.first
        condition = Condition()
        if conditioned:
            condition = Condition(case[f'in/{name}/cond'], case[f'in/{name}/spatial'])
        v, h = case[f'in/{name}/v'], case[f'in/{name}/h']
        like = jax.eval_shape(block.init, jax.random.key(0), v, h, condition)['params']
        params = fill(case, f'param/{name}', like)
        cotangent = case[f'in/{name}/cot_v'], case[f'in/{name}/cot_h']
        value, (gradients, *of_inputs) = value_and_gradients(
            lambda p, v, h, c, block=block: block.apply({'params': p}, v, h, c),
            cotangent,
            params,
            v,
            h,
            condition,
        )
        case.check(f'out/{name}/v', value[0])
        case.check(f'out/{name}/h', value[1])
        gradients |= {'v_in': of_inputs[0], 'h_in': of_inputs[1]}
        stored = case.keys(f'grad/{name}/(cond|spatial)')
        gradients |= {
            key.split('/')[-1]: getattr(of_inputs[2], FIELDS[key.split('/')[-1]]) for key in stored
        }
        check_gradients(case, f'grad/{name}', gradients)
        sums = block.apply({'params': params}, v, h, condition, method='before_gates')
        case.check(f'out/{name}/v_pre', sums[0])
        case.check(f'out/{name}/h_pre', sums[2])
        bound = block.bind({'params': params})
        case.check(f'in/{name}/mask/h', bound.h.mask)
        case.check(f'in/{name}/mask/out', bound.out.mask[0, 0])


FIELDS = {'cond': 'vector', 'spatial': 'map'}


def logistic_single(case):
    levels, k = case['in/levels'], case['in/k']
    mean, log_scale = case['in/mean'], case['in/log_scale']
    found = {name: np.zeros(len(k)) for name in ('logp', 'mean', 'log_scale')}
    for count in np.unique(levels):
        at = levels == count
        logp, (by_mean, by_scale) = value_and_gradients(
            lambda m, s, k=k[at], n=int(count): mixtures.discretized_logistic_log_prob(k, m, s, n),
            np.ones(at.sum(), mean.dtype),
            mean[at],
            log_scale[at],
        )
        found['logp'][at], found['mean'][at], found['log_scale'][at] = logp, by_mean, by_scale
    # Each relative to itself: they differ by twelve orders of magnitude. A derivative is a
    # difference of terms of at most 1/s, or distance/s: its rounding is relative to those.
    distance = np.abs(2.0 * k / (levels - 1) - 1 - mean) + 1.0 / (levels - 1)
    terms = {'logp': 0, 'mean': np.exp(-log_scale), 'log_scale': 1 + distance * np.exp(-log_scale)}
    for name, actual in found.items():
        expected = case['out/logp' if name == 'logp' else f'grad/{name}']
        scale = np.maximum(np.abs(expected), np.float64(terms[name]))
        error = np.max(np.abs(actual - expected) / np.maximum(scale, 1e-300))
        assert error <= case.tolerance, f'{name}: off by {error:.1e} of itself'


def logistic_total(case):
    for key in case.keys('in/.+/mean'):
        count = int(key.split('/')[1])
        mean, log_scale = (case[f'in/{count}/{name}'][:, None] for name in ('mean', 'log_scale'))
        shape = (len(mean), count)
        for sign, order in ((1, slice(None)), (-1, slice(None, None, -1))):
            logp = mixtures.discretized_logistic_log_prob(
                np.broadcast_to(np.arange(count), shape),
                np.broadcast_to(sign * mean, shape),
                np.broadcast_to(log_scale, shape),
                count,
            )
            case.check(f'out/{count}/logp', logp[:, order])
        np.testing.assert_allclose(np.exp(logp).sum(axis=1), 1, rtol=case.tolerance)


def logistic_mixture(case):
    config, pixels, params = case.config, case['in/ints'], case['in/params']

    def split(params):
        return mixtures.split_parameters(params, 3, log_scale_floor=config['log_scale_floor'])

    mixture = split(params)
    assert mixture.logits.shape[-1] == config['K']
    x = mixtures.centred(jnp.asarray(pixels), config['levels'])
    case.check('out/means', mixtures.conditional_means(mixture, x))
    logp, (gradient,) = value_and_gradients(
        lambda p: mixtures.mixture_log_prob(split(p), pixels, config['levels']),
        np.ones(pixels.shape[:-1], params.dtype),
        params,
    )
    case.check('out/logp', logp)
    case.check('out/total_nats', -logp.sum())
    case.check('grad/params', gradient)
    # What was published is a lower bound of it; ours must not be that one.
    published = case['out/logp_fallback']
    assert (np.asarray(logp) >= published - 1e-3).all()


def logistic_sampling(case):
    params, u_mix, u = (case[f'in/{name}'] for name in ('params', 'u_mix', 'u'))
    mixture = mixtures.split_parameters(params, 3)
    assert mixture.logits.shape[-1] == case.config['K']
    index, component = mixtures.choose_component(mixture, -jnp.log(-jnp.log(u_mix)))
    case.check('out/index', index)
    noise = jnp.log(u) - jnp.log1p(-u)
    x = mixtures.sample_component(component, noise, levels=256, snap=False)
    case.check('out/x', x)
    case.check('out/level', mixtures.nearest_level(x, 256))


def adam_eps_root(case):
    config, params = case.config, case['in/p0']
    optimizer = decayed_adam(
        config['lr'], config['mom1'], config['mom2'], decay=config['decay'], eps=1e-8
    )
    state, average = optimizer.init(params), params
    for t, gradient in enumerate(case['in/grads']):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        average = optax.incremental_update(params, average, 1 - config['polyak'])
        for name, value in (('params', params), ('ema', average)):
            error = np.abs(np.asarray(value) - case[f'out/{name}'][t]).max()
            assert error <= case.tolerance * np.abs(case[f'out/{name}']).max()
    assert t + 1 == config['steps']
    rates = per_step_decay(config['lr'], config['decay'])(np.arange(config['steps']))
    case.check('out/lr', rates)


CHECKS = {
    'masks': masks,
    'masked_conv': masked_conv,
    'gated_block': gated_block,
    'logistic_single': logistic_single,
    'logistic_total': logistic_total,
    'logistic_mixture': logistic_mixture,
    'logistic_sampling': logistic_sampling,
    'adam_eps_root': adam_eps_root,
}
