"""Golden cases of the PixelRNN: logits, every layer, and which sub-pixels see which."""

import jax
import numpy as np

from jaxgen.models.pixelrnn import PixelRNN
from jaxgen.ops.causal_conv import colour_groups
from tests.autoregressive import support
from tests.parity.pixelcnn_names import check_masks, parameters
from tests.parity.pixelcnn_networks import check_likelihood, image_shape


def pixelrnn(case):
    config = case.config
    model = PixelRNN(
        config['kind'],
        config['levels'],
        config['C'],
        config['h'],
        config['layers'],
        config['head'],
        config['k0'],
        config['k'],
    )
    params = parameters(case, 'param', model, image_shape(config))
    check_masks(case, 'in/mask', model, params)
    logits, kept = jax.jit(
        lambda p, x: model.apply(
            {'params': p}, x, capture_intermediates=True, mutable='intermediates'
        )
    )(params, case['in/ints'])
    check_likelihood(case, 'out', model, logits)
    for i in range(config['layers']):
        layer = kept['intermediates'][f'layer_{i}']
        case.check(f'out/layer{i}_hidden', layer['lstm']['__call__'][0])
        case.check(f'out/layer{i}', layer['__call__'][0])
    supports(case, model, params)


def supports(case, model, params):
    """Ours of random inputs, against theirs: equal up to the body, and not less after the head.

    The ReLUs of the head may hide a pair at the stored inputs, so those are a lower bound.
    """
    shape = image_shape(case.config)[1:]
    colours = model.colours
    if case.dtype != np.float64:  # A derivative that underflows looks like none.
        for key in ('out/support', 'out/support_body'):
            case[key]
        return

    def body(x):
        return model.apply({'params': params}, x, method='body')

    def logits(x):
        y = model.apply({'params': params}, x, method='network')
        return y.reshape(*y.shape[:3], -1)

    groups = colour_groups(2 * model.features, colours)
    found = support(body, groups, shape, jax.random.key(0))
    case.check('out/support_body', found)
    groups = np.repeat(np.arange(colours), model.levels)
    seen = support(logits, groups, shape, jax.random.key(0))
    assert not (seen & ~found).any()
    assert not (case['out/support'] & ~found).any()


CHECKS = {'pixelrnn': pixelrnn}
