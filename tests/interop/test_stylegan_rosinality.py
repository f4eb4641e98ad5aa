"""StyleGAN2 in rosinality's layout: our modules compute what that implementation does.

The oracle is that implementation's arithmetic in NumPy, float64, with its own conventions: kernels
scaled by 1/√fan_in, a transposed convolution and a blur with gain 4, one strength of noise a layer.
"""

import jax
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import imported, rosinality
from jaxgen.models.stylegan2 import StyleGAN2Generator
from tests.interop import torch_files as files
from tests.interop.torch_files import call, dictionary, named, pickled, text

LATENT, STYLE, LAYERS = 5, 7, 3
WIDTHS = {4: 6, 8: 4, 16: 2}
FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def modulated(draw, name, inputs, outputs, side):
    return {
        f'{name}.conv.weight': draw(1, outputs, inputs, side, side),
        f'{name}.conv.modulation.weight': draw(inputs, STYLE),
        f'{name}.conv.modulation.bias': 1 + draw(inputs),
    }


def styled(draw, name, inputs, outputs):
    return {
        **modulated(draw, name, inputs, outputs, 3),
        f'{name}.noise.weight': draw(1),
        f'{name}.activate.bias': draw(outputs),
    }


def to_rgb(draw, name, inputs):
    return {**modulated(draw, name, inputs, 3, 1), f'{name}.bias': draw(1, 3, 1, 1)}


def generator_dict(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    named = {}
    for i in range(LAYERS):
        named[f'style.{i + 1}.weight'] = 100 * draw(STYLE, STYLE if i else LATENT)
        named[f'style.{i + 1}.bias'] = 10 * draw(STYLE)
    named['input.input'] = draw(1, WIDTHS[4], 4, 4)
    named |= styled(draw, 'conv1', WIDTHS[4], WIDTHS[4]) | to_rgb(draw, 'to_rgb1', WIDTHS[4])
    named['noises.noise_0'] = draw(1, 1, 4, 4)
    for i, side in enumerate((8, 16)):
        named |= styled(draw, f'convs.{2 * i}', WIDTHS[side // 2], WIDTHS[side])
        named |= styled(draw, f'convs.{2 * i + 1}', WIDTHS[side], WIDTHS[side])
        named |= to_rgb(draw, f'to_rgbs.{i}', WIDTHS[side])
        named[f'convs.{2 * i}.conv.blur.kernel'] = (4 * FIR).astype(np.float32)
        named[f'to_rgbs.{i}.upsample.kernel'] = (4 * FIR).astype(np.float32)
        for j in (2 * i + 1, 2 * i + 2):
            named[f'noises.noise_{j}'] = draw(1, 1, side, side)
    return named


def discriminator_dict(seed=1):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    named = {'convs.0.0.weight': draw(WIDTHS[16], 3, 1, 1), 'convs.0.1.bias': draw(WIDTHS[16])}
    for i, side in enumerate((16, 8)):
        before, after, name = WIDTHS[side], WIDTHS[side // 2], f'convs.{i + 1}'
        named |= {
            f'{name}.conv1.0.weight': draw(before, before, 3, 3),
            f'{name}.conv1.1.bias': draw(before),
            f'{name}.conv2.0.kernel': FIR.astype(np.float32),
            f'{name}.conv2.1.weight': draw(after, before, 3, 3),
            f'{name}.conv2.2.bias': draw(after),
            f'{name}.skip.0.kernel': FIR.astype(np.float32),
            f'{name}.skip.1.weight': draw(after, before, 1, 1),
        }
    last = WIDTHS[4]
    return named | {
        'final_conv.0.weight': draw(last, last + 1, 3, 3),
        'final_conv.1.bias': draw(last),
        'final_linear.0.weight': draw(last, last * 16),
        'final_linear.0.bias': draw(last),
        'final_linear.1.weight': draw(1, last),
        'final_linear.1.bias': draw(1),
    }


def lrelu(x):
    return np.sqrt(2) * np.where(x > 0, x, 0.2 * x)


def correlate(x, kernel, pad=(0, 0), stride=1):
    """`x [C, H, W]` with `kernel [O, C, k, k]`."""
    x = np.pad(x, ((0, 0), pad, pad))
    side = kernel.shape[-1]
    size = x.shape[-1] - side + 1
    y = sum(
        np.einsum('oc,chw->ohw', kernel[:, :, a, b], x[:, a : a + size, b : b + size])
        for a in range(side)
        for b in range(side)
    )
    return y[:, ::stride, ::stride]


def blurred(x, fir, pad):
    """Every channel with the same filter, a true convolution."""
    return np.concatenate([correlate(c[None], fir[None, None, ::-1, ::-1], pad) for c in x])


def transposed(x, kernel):
    """With stride 2: each pixel puts its multiple of the kernel on the result."""
    side, size = kernel.shape[-1], x.shape[-1]
    y = np.zeros((kernel.shape[0], 2 * size - 2 + side, 2 * size - 2 + side))
    for a in range(side):
        for b in range(side):
            place = (slice(a, a + 2 * size - 1, 2), slice(b, b + 2 * size - 1, 2))
            y[(slice(None), *place)] += np.einsum('oc,chw->ohw', kernel[:, :, a, b], x)
    return y


def modulate(p, name, w, demodulate):
    kernel = p[f'{name}.conv.weight'][0]
    bias = p[f'{name}.conv.modulation.bias']
    style = p[f'{name}.conv.modulation.weight'] @ w / np.sqrt(STYLE) + bias
    kernel = kernel * style[:, None, None] / np.sqrt(np.prod(kernel.shape[1:]))
    if demodulate:
        kernel = kernel / np.sqrt((kernel**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    return kernel


def oracle_layer(p, name, x, w, noise, up=False):
    kernel = modulate(p, name, w, True)
    if up:
        x = blurred(transposed(x, kernel), p[f'{name}.conv.blur.kernel'], (1, 1))
    else:
        x = correlate(x, kernel, (1, 1))
    x = x + p[f'{name}.noise.weight'] * p[f'noises.noise_{noise}'][0, 0]
    return lrelu(x + p[f'{name}.activate.bias'][:, None, None])


def oracle_rgb(p, name, x, w, skip=None):
    rgb = correlate(x, modulate(p, name, w, False)) + p[f'{name}.bias'][0]
    if skip is None:
        return rgb
    spread = np.zeros((3, *rgb.shape[1:]))
    spread[:, ::2, ::2] = skip
    return rgb + blurred(spread, p[f'{name}.upsample.kernel'], (2, 1))


def oracle_w(p, z):
    w = z / np.sqrt((z**2).mean(1, keepdims=True) + 1e-8)
    for i in range(1, LAYERS + 1):
        weight, bias = p[f'style.{i}.weight'], p[f'style.{i}.bias']
        w = lrelu(0.01 * (w @ weight.T / np.sqrt(weight.shape[1]) + bias))
    return w


def oracle_image(p, ws):
    """`ws [num_ws, style]` to `[3, 16, 16]`."""
    x = oracle_layer(p, 'conv1', p['input.input'][0], ws[0], 0)
    image = oracle_rgb(p, 'to_rgb1', x, ws[1])
    for i in (0, 1):
        x = oracle_layer(p, f'convs.{2 * i}', x, ws[2 * i + 1], 2 * i + 1, up=True)
        x = oracle_layer(p, f'convs.{2 * i + 1}', x, ws[2 * i + 2], 2 * i + 2)
        image = oracle_rgb(p, f'to_rgbs.{i}', x, ws[2 * i + 3], image)
    return image


def equalized(p, name):
    return p[name] / np.sqrt(np.prod(p[name].shape[1:]))


def oracle_score(p, images):
    """Of a batch of four images `[4, 3, 16, 16]`, which is one group of the deviation."""

    def features(x):
        x = lrelu(correlate(x, equalized(p, 'convs.0.0.weight')) + column(p['convs.0.1.bias']))
        for name in ('convs.1', 'convs.2'):
            y = correlate(x, equalized(p, f'{name}.conv1.0.weight'), (1, 1))
            y = blurred(lrelu(y + column(p[f'{name}.conv1.1.bias'])), FIR, (2, 2))
            y = correlate(y, equalized(p, f'{name}.conv2.1.weight'), stride=2)
            y = lrelu(y + column(p[f'{name}.conv2.2.bias']))
            skip = correlate(
                blurred(x, FIR, (1, 1)), equalized(p, f'{name}.skip.1.weight'), stride=2
            )
            x = (y + skip) / np.sqrt(2)
        return x

    x = np.stack([features(image) for image in images])
    deviation = np.sqrt(x.var(0) + 1e-8).mean()
    x = np.concatenate([x, np.full((4, 1, 4, 4), deviation)], 1)
    kernel = equalized(p, 'final_conv.0.weight')
    x = np.stack([lrelu(correlate(y, kernel, (1, 1)) + column(p['final_conv.1.bias'])) for y in x])
    x = lrelu(x.reshape(4, -1) @ equalized(p, 'final_linear.0.weight').T + p['final_linear.0.bias'])
    return (x @ equalized(p, 'final_linear.1.weight').T + p['final_linear.1.bias'])[:, 0]


def column(bias):
    return bias[:, None, None]


def wide(named):
    return {name: array.astype(np.float64) for name, array in named.items()}


def test_the_generator_makes_the_images_of_that_implementation():
    published = generator_dict()
    generator, variables = rosinality.from_torch(published, np.zeros(STYLE, np.float32))
    rng = np.random.default_rng(2)
    ws = rng.normal(size=(2, generator.num_ws, STYLE))
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda x: x.astype(np.float64), variables)
        ours = jax.jit(lambda v, w: generator.apply(v, w, method='synthesize'))(variables, ws)
        z = rng.normal(size=(2, LATENT))
        w = generator.apply(variables, z, method='mapping')[:, 0]
    expected = np.stack([oracle_image(wide(published), w) for w in ws])
    # Our taps are float32; and the ε of demodulation: see the head of the importer.
    np.testing.assert_allclose(np.moveaxis(ours, -1, 1), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(w, oracle_w(wide(published), z), rtol=1e-10)


def test_the_discriminator_gives_the_scores_of_that_implementation():
    published = discriminator_dict()
    model, variables = rosinality.discriminator_from_torch(published)
    images = np.random.default_rng(3).normal(size=(4, 3, 16, 16))
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda x: x.astype(np.float64), variables)
        scores = jax.jit(model.apply)(variables, np.moveaxis(images, 1, -1))
    np.testing.assert_allclose(scores, oracle_score(wide(published), images), rtol=1e-6)


def test_the_fields_are_read_off_the_shapes():
    generator, _ = rosinality.from_torch(generator_dict())
    assert generator == StyleGAN2Generator(
        size=16, latent=LATENT, style=STYLE, mapping_layers=LAYERS, channel_base=32, channel_max=6,
        noise='const',
    )  # fmt: skip
    model, _ = rosinality.discriminator_from_torch(discriminator_dict())
    assert (model.size, model.channels) == (16, WIDTHS)
    assert (model.minibatch_std_group, model.minibatch_std_features) == (4, 1)


def test_the_mean_of_w_is_that_of_the_file_or_of_many_latents():
    given = np.arange(STYLE, dtype=np.float32)
    _, variables = rosinality.from_torch(generator_dict(), given)
    np.testing.assert_array_equal(variables['stats']['mapping']['w_avg'], given)
    _, variables = rosinality.from_torch(generator_dict())
    z = np.random.default_rng(4).normal(size=(20_000, LATENT))
    expected = oracle_w(wide(generator_dict()), z)
    error = np.abs(variables['stats']['mapping']['w_avg'] - expected.mean(0))
    assert (error < 6 * expected.std(0) / np.sqrt(rosinality.AVERAGED)).all()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'to_rgbs.1.conv.weight': None}, 'missing: to_rgbs.1.conv.weight'),
        ({'convs.2.conv.weight': None}, 'missing: convs.2.conv.weight'),
        ({'noises.noise_3': None}, 'missing: noises.noise_3'),
        ({'convs.9.bias': np.ones(2, np.float32)}, 'unused: convs.9.bias'),
        ({'input.input': np.ones((2, 6, 4, 4), np.float32)}, "'input.input' must have axes of"),
        ({'to_rgb1.bias': np.ones((1, 3, 2, 1), np.float32)}, "'to_rgb1.bias' must have axes of"),
        ({'style.1.weight': np.ones(3, np.float32)}, "'style.1.weight' must have 2 dimensions"),
        ({'style.2.bias': np.ones(8, np.float32)}, 'mapping.fc1.bias (8,) instead of (7,)'),
        ({'conv1.noise.weight': np.ones((1, 1), np.float32)}, 'noise_strength (1,) instead of ()'),
        (
            {'to_rgbs.0.upsample.kernel': np.ones((4, 4), np.float32) / 4},
            "'synthesis.b8.resample_filter' of the generator is not",
        ),
        ({'style.999.weight': np.ones((7, 7), np.float32)}, 'more than'),
    ],
)
def test_what_does_not_fit_is_listed(change, words):
    published = {k: v for k, v in (generator_dict() | change).items() if v is not None}
    with pytest.raises(UserError) as caught:
        rosinality.from_torch(published, np.zeros(STYLE, np.float32))
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_mean_of_w_of_another_width_is_refused():
    with pytest.raises(UserError, match=r'latent_avg must have the shape \(7,\), got \(3,\)'):
        rosinality.from_torch(generator_dict(), np.ones(3, np.float32))


def test_a_training_dictionary_has_all_its_networks_and_its_arguments_are_left_out(tmp_path):
    value = {
        'g_ema': generator_dict(), 'g': generator_dict(5), 'd': discriminator_dict(),
        'latent_avg': np.ones(STYLE, np.float32),
    }  # fmt: skip
    storages = files.Storages(legacy=False)
    namespace = named('argparse', 'Namespace') + b')\x81' + dictionary([text('lr') + b'N']) + b'b'
    pairs = [text(key) + files.dumps(item, storages) for key, item in value.items()]
    body = dictionary([*pairs, text('args') + namespace])
    path = tmp_path / 'train.pt'
    path.write_bytes(files.archive(pickled(body), [x.tobytes() for x in storages.arrays]))
    found = imported.read_published(path)
    assert (found.kind, found.provenance['format']) == ('stylegan2', 'training dictionary')
    assert found.provenance['dropped'] == ['args']
    assert set(found.networks) == {'ema', 'generator', 'discriminator'}
    means = [found.variables(ema=ema)['stats']['mapping']['w_avg'] for ema in (True, False)]
    np.testing.assert_array_equal(means[0], np.ones(STYLE))
    assert not np.allclose(means[1], means[0])  # computed: the file has that of g_ema
    np.testing.assert_array_equal(
        found.variables(ema=False)['params']['constant'][..., 0],
        value['g']['input.input'][0, 0],
    )


def test_a_namespace_is_never_made_or_run(tmp_path):
    path = tmp_path / 'train.pt'
    hostile = call('argparse', 'Namespace', call('posix', 'mkdir', text(str(tmp_path / 'marker'))))
    path.write_bytes(files.archive(pickled(hostile)))
    with pytest.raises(UserError, match=r"'posix\.mkdir', which is not allowed"):
        imported.read_published(path)
    assert not (tmp_path / 'marker').exists()
