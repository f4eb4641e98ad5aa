"""Golden cases of whole PixelCNNs, masked and gated: logits, gradients, samples, supports."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.losses.likelihood import bits_per_dim, image_log_prob
from jaxgen.models.pixelcnn import GatedPixelCNN, PixelCNN
from jaxgen.nn.autoregressive import CausalConv
from jaxgen.objectives import autoregressive_sampling as sampling
from jaxgen.ops.causal_conv import centred, colour_groups
from tests.autoregressive import random_variables, support
from tests.parity.pixelcnn_names import check_gradients, check_masks, parameters


def masked_from(config):
    """The masked PixelCNN of a case's config; an enumeration has other words for the same."""
    width = config.get('h2', config.get('p'))
    return PixelCNN(
        levels=config['levels'],
        colours=config['C'],
        features=width // 2,
        blocks=config['blocks'],
        head=config['head'],
        first_kernel=config.get('k0', 3),
    )


def gated_from(config, **fields):
    """The Gated PixelCNN of a case's config."""
    return GatedPixelCNN(
        levels=config['levels'],
        colours=config['C'],
        features=config['p'],
        blocks=config['blocks'],
        kernel_size=config['n'],
        head=config['head'],
        **fields,
    )


SAMPLERS = sampling.sample_naive, sampling.sample_cached, sampling.sample_fixed_point


def image_shape(config):
    return (1, config['H'], config['W'], config['C'])


def check_likelihood(case, prefix, model, logits):
    """Logits, log probabilities by sub-pixel, and bits per dimension."""
    pixels = case['in/ints']
    case.check('in/x', centred(jnp.asarray(pixels), model.levels))
    if f'{prefix}/logits' in case:
        case.check(f'{prefix}/logits', logits)
    case.check(f'{prefix}/logp', model.likelihood.log_prob(logits, pixels))
    total, count = bits_per_dim(image_log_prob(model.likelihood, logits, pixels), pixels[0].size)
    case.check(f'{prefix}/bits_per_dim', total / count)


def pixelcnn_net(case):
    model = masked_from(case.config)
    params = parameters(case, 'param', model, image_shape(case.config))
    check_masks(case, 'in/mask', model, params)
    logits = jax.jit(model.apply)({'params': params}, case['in/ints'])
    check_likelihood(case, 'out', model, logits)


def gated_net(case):
    pixels = case['in/ints']
    for key in case.keys('out/shift_.+/logits'):
        shift = key.split('/')[1].removeprefix('shift_')
        model = gated_from(case.config, shift=shift)
        params = parameters(case, 'param', model, image_shape(case.config))
        check_masks(case, 'in/mask', model, params)

        def loss(params, model=model):
            logits, kept = model.apply(
                {'params': params}, pixels, capture_intermediates=True, mutable='intermediates'
            )
            return -model.likelihood.log_prob(logits, pixels).sum(), (logits, kept)

        (_, (logits, kept)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        check_likelihood(case, f'out/shift_{shift}', model, logits)
        for b in range(case.config['blocks']):
            stacks = kept['intermediates'][f'block_{b}']['__call__'][0]
            for name, maps in zip('vh', stacks, strict=True):
                case.check(f'out/shift_{shift}/block{b}_{name}', maps[0])
        check_gradients(case, f'grad/shift_{shift}', gradients)
        gated_samples(case, shift, model, params)


def gated_samples(case, shift, model, params):
    """All three samplers, from the stored noise, at all temperatures."""
    noise = sampling.noise_of_arrays(case['in/gumbel'])
    size = case.config['H'], case.config['W']
    margin = float(case[f'out/shift_{shift}/sample_margin'])
    # In float32 a gap of rounding size would leave the choice open.
    decided = margin > (1e-12 if case.dtype == np.float64 else 1e-4)
    for sampler in SAMPLERS:

        def draw(params, temperature, sampler=sampler):
            variables = {'params': params}
            return sampler(model, variables, noise, size, temperature=temperature).pixels

        draw = jax.jit(draw)
        for key in case.keys(rf'out/shift_{shift}/sample(_T.+)?'):
            temperature = float(key.rsplit('_T', 1)[1]) if '_T' in key else 1.0
            expected, found = case[key], draw(params, temperature)
            if decided:
                np.testing.assert_array_equal(found, expected, err_msg=f'{key} {sampler}')


def gated_conditional(case):
    config, pixels = case.config, case['in/ints']
    given = {
        'global': dict(embedding=case['in/h']),
        'onehot': dict(label=case['in/onehot'].argmax(axis=-1)),
        'spatial': dict(spatial=case['in/s']),
        'both': dict(embedding=case['in/h'], spatial=case['in/s']),
    }
    case.check('in/onehot', np.eye(config['cond'])[given['onehot']['label']])
    case.check('in/x', centred(jnp.asarray(pixels), config['levels']))
    stored = parameters_by_condition(case, given)
    for key in case.keys('out/shift_.+/link_.+/.+'):
        _, shift, link, name = key.split('/')
        model, params = stored[name]
        model = model.clone(shift=shift.removeprefix('shift_'), link=link.removeprefix('link_'))
        logits = jax.jit(model.apply)({'params': params}, pixels, **given[name])
        case.check(key, logits)
    check_masks(case, 'in/mask', model, params)


def parameters_by_condition(case, given):
    """`{name: (model, parameters)}`: each condition uses its part of what is stored."""
    config, result = case.config, {}
    for name, condition in given.items():
        model = gated_from(
            config,
            num_classes=config['cond'] if 'label' in condition else 0,
            embedding=config['cond'] if 'embedding' in condition else 0,
            spatial=config['spatial'] if 'spatial' in condition else 0,
        )
        unused = () if name == 'both' else ('spat',) if 'spatial' not in condition else ('cond',)
        part = WithoutKeys(case, rf'param/.+/({"|".join(unused)})_[vh]/.+' if unused else '')
        one = jax.tree.map(lambda x: x[:1], condition)
        result[name] = model, parameters(part, 'param', model, image_shape(config), **one)
    return result


class WithoutKeys:
    """A case as if the keys that match `pattern` were not stored."""

    def __init__(self, case, pattern):
        self._case, self._pattern = case, pattern

    def __getitem__(self, key):
        return self._case[key]

    def keys(self, pattern):
        return [key for key in self._case.keys(pattern) if not re.fullmatch(self._pattern, key)]


def completion(case):
    size = case.config['H'], case.config['W']
    noise = sampling.noise_of_arrays(case['in/gumbel'])
    for shift in {key.split('/')[1] for key in case.keys('out/shift_.+')}:
        model = gated_from(case.config, shift=shift.removeprefix('shift_'))
        params = parameters(case, 'param', model, image_shape(case.config))
        check_masks(case, 'in/mask', model, params)
        score = jax.jit(
            lambda p, x, model=model: model.likelihood.log_prob(model.apply({'params': p}, x), x)
        )
        names = [key.split('/')[2] for key in case.keys(f'out/{shift}/.+') if key[-5:] != '_logp']
        for sampler in SAMPLERS:
            complete = jax.jit(
                lambda p, given, observed, model=model, sampler=sampler: sampler(
                    model, {'params': p}, noise, size, given=given, observed=observed
                )
            )
            for name in names:
                expected, logp = case[f'out/{shift}/{name}'], case[f'out/{shift}/{name}_logp']
                sample = complete(params, case['in/ints'], case[f'in/observed/{name}'])
                np.testing.assert_array_equal(sample.pixels, expected, f'{name} {sampler}')
                total = logp.sum(axis=(1, 2, 3))
                np.testing.assert_allclose(sample.log_prob, total, rtol=case.tolerance)
        for name in names:
            completed = case[f'out/{shift}/{name}']
            case.check(f'out/{shift}/{name}_logp', score(params, completed))


def enumeration(case):
    for i, config in enumerate(case.config['cases']):
        make = {'gated': gated_from, 'masked': masked_from}[config['kind']]
        model = make(config)
        params = parameters(case, f'param/{i}', model, image_shape(config))
        check_masks(case, f'in/{i}/mask', model, params)
        shape = image_shape(config)[1:]
        levels = itertools.product(range(config['levels']), repeat=int(np.prod(shape)))
        images = np.array(list(levels), np.int32).reshape(-1, *shape)

        def score(params, images, model=model):
            logits = model.apply({'params': params}, images)
            return image_log_prob(model.likelihood, logits, images)

        logp = jax.jit(score)(params, images)
        case.check(f'out/{i}/logp', logp)
        case.check(f'out/{i}/total', np.exp(np.asarray(logp, np.float64)).sum())


def dependency(case):
    for i, config in enumerate(case.config['masked']):
        shape = (config['H'], config['W'], config['C'])
        kinds = [config['first']] + [config['rest']] * (len(config['kernels']) - 1)
        width = 2 * config['C']

        def body(x, config=config, kinds=kinds, width=width):
            for side, kind in zip(config['kernels'], kinds, strict=True):
                layer = CausalConv(x.shape[-1], width, (side, side), kind=kind, colours=config['C'])
                # Positive weights: no path can cancel another.
                shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
                ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
                x = layer.apply(ones, x)
            return x

        check_support(case, f'out/masked/{i}', body, width, shape)
    for key in case.keys('out/gated/.+/support'):
        _, _, shift, i, _ = key.split('/')
        config = case.config['gated'][int(i)]
        shape, width = (config['H'], config['W'], config['C']), 2 * config['C']
        model = GatedPixelCNN(
            2, config['C'], width, config['blocks'], config['n'], head=width, shift=shift
        )
        variables = random_variables(model, jnp.zeros((1, *shape), jnp.int32))

        def body(x, model=model, variables=variables):
            return model.apply(variables, x, method='body')

        check_support(case, f'out/gated/{shift}/{i}', body, width, shape)


def check_support(case, prefix, body, width, shape):
    """The support of random inputs, and how many pairs of the triangle it lacks."""
    found = support(body, colour_groups(width, shape[-1]), shape, jax.random.key(1))
    case.check(f'{prefix}/support', found)
    triangle = np.tril(np.ones_like(found), -1)
    assert not (found & ~triangle).any()
    case.check(f'{prefix}/missing', (triangle & ~found).sum())


CHECKS = {
    'pixelcnn_net': pixelcnn_net,
    'gated_net': gated_net,
    'gated_conditional': gated_conditional,
    'completion': completion,
    'enumeration': enumeration,
    'dependency': dependency,
}
