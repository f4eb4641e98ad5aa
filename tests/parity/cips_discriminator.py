"""Golden cases of the whole discriminator: scores, their gradients, R1 and its gradients."""

import jax
import numpy as np

from jaxgen.interop.cips_names import discriminator_names
from jaxgen.losses.gradient_penalty import r1
from jaxgen.models.discriminator import Discriminator
from tests.parity.cases import nchw, nhwc


def discriminator_from(config):
    """The module of a case's discriminator config, with the published grouping of the batch."""
    extra = config['input_size'] - 3
    assert extra in (0, 2), f'input_size {config["input_size"]}'
    return Discriminator(
        size=config['size'],
        channels={int(side): width for side, width in config['channels'].items()},
        image_channels=3,
        coordinates=extra == 2,
        first_layers=config['n_first_layers'],
        blur_kernel=tuple(config['blur_kernel']),
        minibatch_std_group=config['stddev_group'],
        minibatch_std_features=config['stddev_feat'],
        minibatch_std_grouping='strided',
    )


def names_from(config):
    return discriminator_names(config['size'], config['n_first_layers'])


def check_blur_kernels(stored, config):
    """The published buffers hold the blur that the config names."""
    taps = np.asarray(config['blur_kernel'], np.float64)
    blur = np.outer(taps, taps) / taps.sum() ** 2
    for name, kernel in stored.items():
        if name.endswith('.kernel'):
            np.testing.assert_allclose(kernel, blur, rtol=1e-6, err_msg=name)


def discriminator(case):
    model, names = discriminator_from(case.config), names_from(case.config)
    stored = case.under('param')
    check_blur_kernels(stored, case.config)
    params = names.to_tree(stored)
    trained = {name: array for name, array in stored.items() if not names.dropped(name)}

    def score(params, x):
        inputs = {'coords': x['coords']} if model.coordinates else {}
        return model.apply({'params': params}, x['image'], **inputs)

    def run(params, x, cotangent):
        scores, pull_back = jax.vjp(score, params, x)
        penalty = jax.value_and_grad(lambda p: r1(lambda x: score(p, x), x))
        return scores, pull_back(cotangent), penalty(params)

    for batch in case.config['batches']:
        x = nhwc(case[f'in/{batch}/x'])
        assert len(x) == batch
        x = {'image': x[..., :3], 'coords': x[..., 3:]}
        cotangent = case[f'in/{batch}/cot'][:, 0]
        scores, (gradients, x_gradient), (penalty, penalty_gradients) = jax.jit(run)(
            params, x, cotangent
        )
        case.check(f'out/{batch}/score', scores[:, None])
        case.check(f'out/{batch}/r1', penalty)
        x_gradient = nchw(np.concatenate([x_gradient['image'], x_gradient['coords']], -1))
        named = names.to_published(gradients, trained)
        case.check_tree(f'grad/{batch}', {**named, 'x': x_gradient})
        case.check_tree(f'grad/{batch}/r1', names.to_published(penalty_gradients, trained))


CHECKS = {'discriminator': discriminator}
