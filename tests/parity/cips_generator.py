"""Golden cases of the whole CIPS generator: every path to a pixel, and the gradients."""

import jax
import numpy as np

from jaxgen.interop.cips_names import generator_names, noise_modules
from jaxgen.models.cips import CIPSGenerator
from jaxgen.ops import coords
from tests.parity.cases import nchw, nhwc, pixels, unpixels, value_and_gradients

LOOKUPS = {'eval': 'reference', 'exact': 'exact'}


def generator_from(config, *, noise='none', lookup='exact'):
    """The module of a case's generator config."""
    if config['kind'] not in ('CIPSskip', 'CIPSres'):
        raise ValueError(f'no generator {config["kind"]!r}')
    assert len(config['block_widths']) == config['blocks']
    return CIPSGenerator(
        size=config['size'],
        features=config['hidden_size'],
        first_width=config['first_width'],
        block_widths=tuple(config['block_widths']),
        latent=config['style_dim'],
        style=config['style_dim'],
        mapping_layers=config['n_mlp'],
        mapping_lr_multiplier=config['lr_mlp'],
        activation=config['activation'] or 'lrelu',
        residual=config['kind'] == 'CIPSres',
        noise=noise,
        lookup=lookup,
    )


def generator(case):
    residual = case.config['kind'] == 'CIPSres'
    stored = case.under('param')
    names = generator_names(residual, noise=False)
    params = names.to_tree(stored)
    train(case, generator_from(case.config), names, stored, params)
    w = latents(case, generator_from(case.config), params)
    case.check('out/w', w['w'])
    for path, lookup in LOOKUPS.items():
        model = generator_from(case.config, lookup=lookup)
        anywhere(case, path, model, params, w)
        if f'out/pixelstyle/{path}' in case:
            style_per_pixel(case, path, model, params, w)


def generator_noise(case):
    residual = case.config['kind'] == 'CIPSres'
    names = generator_names(residual)
    modules = noise_modules(case.config['blocks'], residual)
    maps = case.under('in/noise')
    assert set(maps) == {f'{module}.noise' for module in modules}
    noise = tuple(pixels(maps[f'{module}.noise']) for module in modules)
    stored = case.under('param')
    model = generator_from(case.config, noise='random')
    train(case, model, names, stored, names.to_tree(stored), noise=noise, key='out/rgb')


def variables(params, average=None):
    if average is None:
        average = np.zeros(params['mapping']['layer_0']['bias'].shape)
    return {'params': params, 'stats': {'mapping': {'w_avg': average}}}


def train(case, model, names, stored, params, *, noise=None, key='out/train/rgb'):
    """The training path: the image of the full grid, gradients through the mapping."""

    def run(params, z):
        return model.apply(variables(params), z, noise=noise, method='generate')

    image, (gradients, _) = value_and_gradients(run, nhwc(case['in/cot']), params, case['in/z'])
    case.check(key, nchw(image))
    case.check_tree('grad', names.to_published(gradients, stored))


def generate(model, params, z, places):
    """Images `[B, H, W, 3]` of the mapped z at an image of coordinates, None for the full grid."""
    return jax.jit(lambda *x: model.apply(variables(x[0]), x[1], coords=x[2], method='generate'))(
        params, z, places
    )


def render(model, params, places, w):
    """Colours `[B, N, 3]`, of any list of coordinates and any form of styles."""
    return jax.jit(lambda p, c, w: model.apply(variables(p), c, w))(params, places, w)


def latents(case, model, params):
    """`{name: w}` of in/z ('w'), in/z2 ('w2') and of the truncations, by the key of their image."""
    z = case['in/z']
    inputs = {'w': (z, 1.0)}
    if 'in/z2' in case:
        inputs['w2'] = (case['in/z2'], 1.0)
    average = None
    for key in case.keys(r'out/truncate_[wz]_.+'):
        psi = float(key.rsplit('_', 1)[1])
        if key.startswith('out/truncate_w_'):
            inputs[key] = (z, psi)
            average = case['in/w_mean']
        else:  # What the published code does when it is given z: not a feature of the library.
            inputs[key] = (case['in/z_mean'] + psi * (z - case['in/z_mean']), 1.0)
    rows = np.concatenate([z for z, _ in inputs.values()])
    psi = np.repeat([psi for _, psi in inputs.values()], len(z)).astype(z.dtype)[:, None]

    def mapping(params, z, psi):
        return model.apply(variables(params, average), z, truncation=psi, method='mapping')

    w = np.asarray(jax.jit(mapping)(params, rows, psi))
    return dict(zip(inputs, np.split(w, len(inputs)), strict=True))


def anywhere(case, path, model, params, w):
    """Every coordinate set of an evaluation path, rendered together: pixels are independent."""
    sets = {f'out/{path}/rgb': coords.points(*model.frame)[None]}
    for key in case.keys(rf'out/grid_\d+/{path}'):
        side = int(key.split('/')[1].removeprefix('grid_'))
        sets[key] = coords.points(side, side)[None]
    for key in case.keys('in/.+/coords'):
        sets[f'out/{key.split("/")[1]}/{path}'] = pixels(case[key])
    starts = np.cumsum([0, *(places.shape[1] for places in sets.values())])
    places = np.concatenate(list(sets.values()), 1)
    if path == 'exact':
        styles, rows = w['w'], ['w']
    else:  # Truncation and style mixing are stored for the evaluation path.
        layers = on_the_training_grid(case, model, w)
        styles = tuple(np.concatenate(layer) for layer in zip(*layers.values(), strict=True))
        rows = list(layers)
    rgb = np.split(np.asarray(render(model, params, places, styles)), len(rows))
    rgb = dict(zip(rows, rgb, strict=True))
    for key, start, places in zip(sets, starts, sets.values(), strict=False):
        case.check(key, unpixels(rgb['w'][:, start : start + places.shape[1]], case[key]))
    for key in rows[1:]:
        case.check(key, unpixels(rgb[key][:, : starts[1]], case[key]))


def on_the_training_grid(case, model, w):
    """`{key: w of every layer}`: plain first, then truncated, then mixed (w first, w2 after)."""
    count = model.num_layers
    layers = {'w': [w['w']] * count}
    layers |= {key: [w[key]] * count for key in w if key.startswith('out/')}
    for key in case.keys(r'out/mixing/inject_\d+'):
        first = int(key.rsplit('_', 1)[1])
        layers[key] = [w['w' if layer < first else 'w2'] for layer in range(count)]
    return layers


def style_per_pixel(case, path, model, params, w):
    """A style per pixel, between w and w2."""
    key = f'out/pixelstyle/{path}'
    alpha = case['in/pixelstyle/alpha'].reshape(1, -1, 1)
    first, second = (w[name][: len(case[key]), None] for name in ('w', 'w2'))
    styles = first + alpha * (second - first)
    rgb = render(model, params, coords.points(*model.frame)[None], styles)
    case.check(key, unpixels(rgb, case[key]))


CHECKS = {
    'generator_skip': generator,
    'generator_res': generator,
    'generator_noise': generator_noise,
}
