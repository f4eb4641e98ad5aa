"""Golden cases of equivariance: translated and rotated images with masks, and whole metrics."""

import jax
import numpy as np

from jaxgen.interop.stylegan_names import stylegan3_modules
from jaxgen.metrics import equivariance, warps
from tests.parity.cases import nchw, nhwc
from tests.parity.stylegan_cases import Checker, cases_of
from tests.parity.stylegan_networks import read, stylegan3_from

OPERATORS = {
    'integer_translation': jax.jit(warps.translate_integer),
    'fractional_translation': jax.jit(warps.translate),
    'fractional_rotation': jax.jit(warps.rotate),
    'fractional_pseudo_rotation': jax.jit(warps.pseudo_rotate),
}


def eq_operators(case):
    images = {'sq': nhwc(case['in/x']), 'rect': nhwc(case['in/xrect'])}
    checker = Checker(case)
    for name, call in cases_of(case):
        if 'up' in call:
            matrix = warps.rotation_matrix(np.asarray(call['angle'], case.dtype))
            checker.check(f'out/{name}/f', warps.bandlimit_filter(matrix, up=call['up']))
            continue
        where = call['angle'] if 'angle' in call else [call['tx'], call['ty']]
        x = images[call['input']]
        y, mask = OPERATORS[call['op']](x, np.asarray(where, case.dtype))
        checker.check(f'out/{name}/y', nchw(y))
        checker.check(f'out/{name}/mask', np.broadcast_to(mask, nchw(x).shape))


def eq_metrics(case):
    model, checker = stylegan3_from(case.sidecar['constructor']), Checker(case)
    variables = read(case, stylegan3_modules(model.num_layers))
    draws = [case[key] for key in case.keys('in/draw_.+')]

    @jax.jit
    def measure(z, uniform):
        w = model.apply(variables, z, method='mapping')
        transforms = equivariance.from_uniform(*uniform, model.size)
        return equivariance.measure(
            lambda matrix: model.apply(variables, w, matrix, method='synthesize'), transforms
        )

    batches = [measure(z, tuple(rest)) for z, *rest in zip(*[iter(draws)] * 4, strict=True)]
    sums = jax.tree.map(lambda *parts: sum(map(np.float64, parts)), *batches)
    for name, error in sums.items():
        checker.check(f'out/{name}', equivariance.decibels(error))


CHECKS = {'eq_operators': eq_operators, 'eq_metrics': eq_metrics}
