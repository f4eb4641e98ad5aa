"""Golden cases of resizing, of the feature networks, and of LPIPS."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgen.data import images as pictures
from jaxgen.interop import inception as inception_weights
from jaxgen.interop import lpips as lpips_weights
from jaxgen.metrics import lpips, resize
from jaxgen.metrics.vgg import BLOCKS
from tests.parity.cases import nchw

UP, DOWN = ('lanczos', 'bicubic'), ('lanczos', 'bicubic', 'bilinear', 'box')


def resize_pillow(case):
    small, large = case['in_small'], case['in_large']
    width, height = case['in_target']
    jobs = {f'up{n}': (small, (n * small.shape[0], n * small.shape[1]), UP) for n in (2, 4)}
    jobs['down'] = large, (int(height), int(width)), DOWN
    for name, (image, size, kinds) in jobs.items():
        for kind in kinds:
            exact = resize.resize_8bit(image[None], size, kind)[0]
            np.testing.assert_array_equal(exact, case[f'out_{name}_{kind}_u8'])
            floats = resize.resize(jnp.asarray(image[None], float), size, kind)[0]
            case.check(f'out_{name}_{kind}_f32', floats)


def resize_299(case):
    step = case.config['step']
    for name in ('small', 'large', 'huge'):
        for convention in resize.CONVENTIONS:
            found = resize.to_299(case[f'in_{name}'][None], convention)[0]
            case.check(f'out_{name}_{convention}', found[::step, ::step])


def center_crop(case):
    image = Image.fromarray(case['in_image'])
    expected = case['out_out']
    size = expected.shape[1::-1]
    cut = image.crop(pictures.crop_box(image.size, size))
    np.testing.assert_array_equal(np.asarray(cut), case['out_crop'])
    np.testing.assert_array_equal(np.asarray(pictures.fit(image, size)), expected)


def inception(case):
    model, variables = random_inception(case.config['weight_seed'])
    check_draw(case.config['first_values'], case.config['weight_seed'])
    for convention in resize.CONVENTIONS:
        inputs = resize.inception_input(case['in_images'], convention)
        assert inputs.dtype == np.float32
        # One image at a time: one shape for all cases, one compilation.
        outputs, stages = zip(*(run(model, variables, x[None]) for x in inputs), strict=True)
        outputs = jax.tree.map(lambda *x: np.concatenate(x), *outputs)
        case.check(f'out_pool3_{convention}', outputs.pool)
        error = np.abs(outputs.pool - case[f'out_pool3_{convention}']).max()
        assert error < 10 * case[f'out_float32_maxabs_error_{convention}']
        if convention == 'tf1':
            case.check('out_input_every_13th_tf1', nchw(inputs[:, ::13, ::13]))
            case.check('out_logits_tf1', outputs.logits)
            case.check('out_logits_unbiased_tf1', outputs.unbiased_logits)
            for name in stages[0]:
                stage = np.concatenate([image[name][0] for image in stages])
                check_stage(case, f'out_{name}', nchw(stage))


def check_stage(case, key, stage):
    np.testing.assert_array_equal(stage.shape, case[f'{key}_shape'])
    case.check(f'{key}_summary', summary(stage))
    scale = np.abs(case[f'{key}_summary']).max()
    case.check(f'{key}_channel_mean', stage.mean(axis=(2, 3))[:, :32])
    case.check(f'{key}_corner', stage[:, :8, :3, :3], scale=scale)
    case.check(f'{key}_last', stage[:, -8:, -2:, -2:], scale=scale)


def summary(x):
    x = np.asarray(x, np.float64)
    return np.array([x.mean(), x.std(), x.min(), x.max()])


@functools.cache
def published_inception(seed):
    """The README's random weights, as a published state dict."""
    draw = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, shape in sorted(inception_weights.shapes().items()):
        n = draw.standard_normal(shape)
        if name.endswith('running_var'):
            n = np.exp(0.1 * n)
        elif name.endswith('bn.weight'):
            n = 1 + 0.1 * n
        elif len(shape) == 1:
            n = 0.1 * n
        else:
            n *= np.sqrt((2 if len(shape) == 4 else 1) / np.prod(shape[1:]))
        state[name] = n.astype(np.float32)
    return state


@functools.cache
def random_inception(seed):
    return inception_weights.from_torch(published_inception(seed))


def check_draw(first_values, seed):
    for name, values in first_values.items():
        drawn = published_inception(seed)[name].ravel()[: len(values)]
        np.testing.assert_array_equal(drawn, np.float32(values))


@functools.partial(jax.jit, static_argnums=0)
def run(model, variables, images):
    """Outputs, and the result of each stage by name."""
    outputs, state = model.apply(variables, images, mutable=['intermediates'])
    return outputs, {k: v for k, v in state['intermediates'].items() if k.startswith('stage_')}


def lpips_from_features(case):
    layers = len(case.keys(r'in_lin\d'))
    a, b, weights = ([case[f'in_{name}{i}'] for i in range(layers)] for name in ('a', 'b', 'lin'))
    per_layer = jax.jit(lpips.layer_distances)(a, b, weights)
    case.check('out_per_layer', per_layer)
    case.check('out_lpips', per_layer.sum(axis=1))
    embedded = [np.asarray(jax.jit(lpips.embed_taps)(taps, weights)) for taps in (a, b)]
    case.check('out_lpips', np.sum(np.square(embedded[0] - embedded[1]), axis=1))


def input_scaling(case):
    case.check('out_y', lpips.scale_input(jnp.asarray(case['in_x'])))


def lpips_random(case):
    seed = case.config['weight_seed']
    trunk, weights = random_vgg(seed)
    for name, values in case.config['first_values'].items():
        np.testing.assert_array_equal(trunk[name].ravel()[:4], np.float32(values))
    np.testing.assert_array_equal(weights[0][:4], np.float32(case.config['lin_first']))
    layers = lpips_weights.TORCHVISION['vgg16']
    published = {}
    for name, array in trunk.items():
        layer, part = name.split('.')
        published[f'features.{layers[layer]}.{part}'] = array
    heads = {f'lin{i}.model.1.weight': w[None, :, None, None] for i, w in enumerate(weights)}
    check_lpips(case, *lpips_weights.from_torch('vgg16', published, heads))


@functools.cache
def random_vgg(seed):
    """The documented random trunk by layer, and channel weights."""
    shapes, inputs = {}, 3
    for i, (width, convolutions) in enumerate(BLOCKS):
        for j in range(convolutions):
            shapes[f'conv{i + 1}_{j + 1}.bias'] = (width,)
            shapes[f'conv{i + 1}_{j + 1}.weight'] = (width, inputs, 3, 3)
            inputs = width
    draw = np.random.Generator(np.random.PCG64(seed))
    trunk = {}
    for name in sorted(shapes):
        n = draw.standard_normal(shapes[name])
        factor = 0.1 if n.ndim == 1 else np.sqrt(2 / (n.shape[1] * 9))
        trunk[name] = (n * factor).astype(np.float32)
    weights = [
        np.abs(draw.standard_normal(width)).astype(np.float32) / np.float32(width)
        for width, _ in BLOCKS
    ]
    return trunk, weights


def lpips_pretrained(case):
    network = case.name.split('_')[1]
    check_lpips(case, *lpips_weights.read_installed(network))


def check_lpips(case, model, variables):
    a, b = (jnp.asarray(case[f'in_images_{name}'], float) / 127.5 - 1 for name in 'ab')

    @jax.jit
    def run(variables):
        return model.apply(variables, a, b, method='per_layer'), model.apply(
            variables, a, method='taps'
        )

    per_layer, taps = run(variables)
    case.check('out_per_layer', per_layer)
    case.check('out_lpips', per_layer.sum(axis=1))
    for i, tap in enumerate(map(nchw, taps)):
        np.testing.assert_array_equal(tap.shape, case[f'out_tap{i}_shape'])
        case.check(f'out_tap{i}_summary', summary(tap))
        if f'out_tap{i}_channel_mean' in case:
            case.check(f'out_tap{i}_channel_mean', tap.mean(axis=(2, 3)))


CHECKS = {
    'resize_pillow': resize_pillow,
    'resize_299': resize_299,
    'dataset_center_crop': center_crop,
    'inception': inception,
    'lpips_from_features': lpips_from_features,
    'lpips_input_scaling': input_scaling,
    'lpips_vgg16_random': lpips_random,
    'lpips_vgg16_pretrained': lpips_pretrained,
    'lpips_alexnet_pretrained': lpips_pretrained,
}
