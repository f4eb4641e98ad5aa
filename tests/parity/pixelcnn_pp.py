"""Golden cases of PixelCNN++: the network, its gradients, and the data-dependent start.

Stored layers are numbered in the order in which the published code made them.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.losses.likelihood import bits_per_dim, image_log_prob
from jaxgen.models.pixelcnn_pp import STAGES, PixelCNNpp
from jaxgen.ops.causal_conv import centred
from tests.autoregressive import pixel_support
from tests.parity.pixelcnn_names import flat

LEAVES = {'V': 'direction', 'g': 'scale', 'b': 'bias'}


def model_from(case):
    config = case.config
    return PixelCNNpp(
        colours=case['in/ints'].shape[-1],
        features=config['nr_filters'],
        resnets=config['nr_resnet'],
        components=config['nr_logistic_mix'],
        embedding=config.get('conditional', 0),
        nonlinearity=config.get('nonlinearity', 'concat_elu'),
    )


def published_names(model):
    """`{stored name: path of our layer}` in the order of creation."""
    conditional = bool(model.embedding)
    order = [('conv2d', ('stem_above',)), ('conv2d', ('stem_row',)), ('conv2d', ('stem_column',))]

    def blocks(way, stage, count):
        for b, stream in itertools.product(range(count), ('u', 'ul')):
            path = f'{way}_{stage}_{b}_{stream}'
            yield 'conv2d', (path, 'conv_in')
            if way == 'down' or stream == 'ul':
                yield 'dense', (path, 'shortcut')
            yield 'conv2d', (path, 'conv_out')
            if conditional:
                yield 'conditional_weights', (path, 'condition')

    def resize(kind, way, stage):
        return [(kind, (f'{way}_{stage}_{stream}',)) for stream in ('u', 'ul')]

    for stage in range(STAGES):
        order += resize('conv2d', 'halve', stage) if stage else []
        order += blocks('up', stage, model.resnets)
    for stage in reversed(range(STAGES)):
        order += blocks('down', stage, model.resnets + (stage < STAGES - 1))
        order += resize('deconv2d', 'double', stage) if stage else []
    order.append(('dense', ('out',)))
    counts, names = {}, {}
    for kind, path in order:
        number = counts.setdefault(kind, 0)
        counts[kind] = number + 1
        names[f'{kind}_{number}'] = path
    return names


def leaf_path(names, stored):
    """Our path of a stored `layer/V`, `layer/g`, `layer/b` or `conditional_weights/hw`."""
    layer, leaf = stored.split('/')
    return (*names[layer], LEAVES.get(leaf, 'kernel'))


def tree_of(case, model, shapes):
    """The stored parameters as a tree; a dense layer is a 1×1 convolution."""
    names, tree = published_names(model), {}
    for key in case.keys('param/.+'):
        path = leaf_path(names, key.removeprefix('param/'))
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = case[key].reshape(shapes[path])
    return tree


def shapes_of(case, model, **condition):
    images = jnp.zeros((1, case.config['H'], case.config['W'], model.colours), jnp.int32)
    tree = jax.eval_shape(lambda key: model.init(key, images, **condition), jax.random.key(0))
    return {path: leaf.shape for path, leaf in flat(tree['params']).items()}


def pixelcnnpp(case):
    model, pixels = model_from(case), case['in/ints']
    condition = {'embedding': case['in/h']} if case.config['conditional'] else {}
    shapes = shapes_of(case, model, **{k: v[:1] for k, v in condition.items()})
    params = tree_of(case, model, shapes)
    assert set(flat(params)) == set(shapes)
    case.check('in/x', centred(jnp.asarray(pixels), 256))

    def value(params):
        y, kept = model.apply(
            {'params': params},
            pixels,
            **condition,
            capture_intermediates=lambda _, method: method in ('__call__', 'up'),
            mutable='intermediates',
        )
        return jnp.sum(y * case['in/cot']), (y, kept['intermediates'])

    (_, (y, kept)), gradients = jax.jit(jax.value_and_grad(value, has_aux=True))(params)
    case.check('out/params', y)
    hidden(case, model, kept)
    case.check('out/logp', model.likelihood.log_prob(y, pixels))
    total, count = bits_per_dim(image_log_prob(model.likelihood, y, pixels), pixels[0].size)
    case.check('out/bits_per_dim', total / count)
    names, ours = published_names(model), flat(gradients)
    for key in case.keys('grad/.+'):
        gradient = np.asarray(ours.pop(leaf_path(names, key.removeprefix('grad/'))))
        case.check(key, gradient.reshape(case[key].shape))
    assert not ours
    check_support(case, model, params, condition)


def hidden(case, model, kept):
    """Both streams of the up pass, and at the end of each stage of the down pass."""
    maps = kept['up'][0]
    for stream, by_stage in zip(('u', 'ul'), maps, strict=True):
        for i, value in enumerate(itertools.chain(*by_stage)):
            case.check(f'out/hidden/{stream}_{i}', value)
        for i, stage in enumerate(reversed(range(STAGES))):
            last = model.resnets - (stage == STAGES - 1)
            value = kept[f'down_{stage}_{last}_{stream}']['__call__'][0]
            case.check(f'out/hidden/down{i}_{stream}', value)


def check_support(case, model, params, condition):
    """Which pixels see which, from the Jacobian at random inputs."""
    expected = case['out/support']
    if case.dtype != np.float64:  # A derivative that underflows looks like none.
        return
    one = {name: value[:1] for name, value in condition.items()}
    shape = (case.config['H'], case.config['W'], model.colours)

    def network(x):
        return model.apply({'params': params}, x, **one, method='network')

    found = pixel_support(network, shape, jax.random.key(0))
    np.testing.assert_array_equal(found, expected)


def pixelcnnpp_init(case):
    model, pixels = model_from(case), case['in/ints']
    case.check('in/x', centred(jnp.asarray(pixels), 256))
    directions = tree_of(case, model, shapes_of(case, model))

    def start(directions):
        # What is not there yet is made from the batch, as by `init`.
        return model.apply(
            {'params': directions},
            pixels,
            mutable=['params'],
            rngs={'params': jax.random.key(0)},
        )

    y, started = jax.jit(start)(directions)
    case.check('out/params', y)
    names, ours = published_names(model), flat(started['params'])
    for key in case.keys('out/.+/[gb]'):
        case.check(key, ours[leaf_path(names, key.removeprefix('out/'))])


CHECKS = {'pixelcnnpp': pixelcnnpp, 'pixelcnnpp_init': pixelcnnpp_init}
