"""Golden cases of ADA: every random number recorded, or every transformation at one quantile."""

import jax
import numpy as np
from scipy.special import erfinv

from jaxgen.augment import ada, warp
from tests.parity.cases import nchw, nhwc
from tests.parity.stylegan_cases import Checker, cases_of

# Largest difference that the choice of margin makes, relative to the largest value: the tails of
# the filters beyond the published one.
OTHER_MARGIN = 5e-5
APPLY = jax.jit(ada.apply, static_argnums=2)


def ada_filters(case):
    np.testing.assert_array_equal(case['out/Hz_geom'], warp.LOWPASS)
    case.check('out/Hz_fbank', ada.FILTER_BANK)


def published_margin(inverse, height, width):
    """What the published code pads, from the corners of the most demanding image of the batch."""
    limit = np.array([width - 1, height - 1])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * limit / 2
    places = np.asarray(inverse) @ np.c_[corners, np.ones(4)].T
    low, high = (side[:, :2].max(axis=(0, 2)) for side in (-places, places))
    (left, top), (right, bottom) = (
        np.ceil(np.clip(side + warp.REACH - limit / 2, 0, limit)).astype(int)
        for side in (low, high)
    )
    return (int(top), int(bottom)), (int(left), int(right))


def check_case(case, name, images, pipeline, draws, p):
    images = nhwc(images)
    size = images.shape[1:3]
    choose = jax.vmap(lambda draws: ada.parameters(pipeline, draws, p, size))
    parameters = jax.jit(choose)(draws)
    moves = parameters.geometry is not None
    margin = published_margin(parameters.geometry, *size) if moves else None
    y = np.asarray(APPLY(images, parameters, margin))
    Checker(case).check(f'out/{name}/y', nchw(y))
    if moves:
        default = np.asarray(APPLY(images, parameters))
        assert np.abs(default - y).max() <= OTHER_MARGIN * np.abs(y).max()


def pipeline_of(arguments):
    bands = arguments.get('imgfilter_bands')
    return ada.Pipeline(**arguments | ({'imgfilter_bands': tuple(bands)} if bands else {}))


def ada_random_recorded(case):
    for name, call in cases_of(case):
        pipeline = pipeline_of(call['kwargs'])
        stored = iter([case[key] for key in case.keys(rf'in/{name}/draw_.+')])
        draws = {}
        for transform, (_, shape) in ada.DRAWS.items():
            if not getattr(pipeline, transform.split('_')[0]):
                continue
            if transform == 'imgfilter':
                pairs = [(next(stored), next(stored)) for _ in range(*shape)]
                value, chance = (np.stack(column, axis=1) for column in zip(*pairs, strict=True))
            elif transform == 'cutout':
                chance, value = next(stored).ravel(), next(stored)
            else:
                value, chance = next(stored), next(stored).ravel()
            draws[transform] = ada.Draw(value.reshape(-1, *shape), chance)
            if transform == 'noise':
                draws['noise_image'] = ada.Draw(nhwc(next(stored)), np.zeros_like(chance))
        assert not list(stored), f'{name}: more was drawn than we take'
        check_case(case, name, case[f'in/{name}/img'], pipeline, draws, call['p'])


def ada_debug_percentile(case):
    inputs = {'img': 'in/img', 'img_square': 'in/img_square', 'img_gray': 'in/img_gray'}
    for name, call in cases_of(case):
        q, pipeline = call['debug_percentile'], pipeline_of(call['kwargs'])
        draws = {
            transform: ada.Draw(
                np.full((1, *shape), q if sample is jax.random.uniform else erfinv(2 * q - 1)),
                np.zeros((1, *(shape if transform == 'imgfilter' else ()))),
            )
            for transform, (sample, shape) in ada.DRAWS.items()
        }
        # The published notes: no rotation after stretching, and another quantile for the noise.
        draws['rotate_after'] = draws['rotate_after']._replace(chance=np.ones(1))
        draws['noise'] = ada.Draw(np.full(1, erfinv(q)), np.zeros(1))
        if f'in/{name}/noise' in case:
            image = nhwc(case[f'in/{name}/noise'])
            draws['noise_image'] = ada.Draw(image, np.zeros(1))
        draws = jax.tree.map(lambda x: x.astype(case.dtype), draws)
        check_case(case, name, case[inputs[call['input']]], pipeline, draws, 1.0)


CHECKS = {
    'ada_filters': ada_filters,
    'ada_random_recorded': ada_random_recorded,
    'ada_debug_percentile': ada_debug_percentile,
}
