"""The StyleGAN2 generator: its options, its size, style mixing, noise, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.discriminator import Discriminator, tapered_channels
from jaxgen.models.stylegan2 import Block, StyleGAN2Generator
from tests import tiny

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(2, 5)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 2)
LABEL = np.array([0, 2])


def generator(**fields):
    """Three resolutions of four channels."""
    small = dict(
        size=16, latent=5, style=6, mapping_layers=1, mapping_lr_multiplier=1.0, channel_base=64,
        channel_max=4, clamp=None,
    )  # fmt: skip
    return StyleGAN2Generator(**small | fields)


def variables(model, seed=0):
    """Random everywhere, noise strengths and averages included."""
    label = LABEL if model.num_classes else None
    values = tiny.variables(model, Z, label, noise=KEYS, seed=seed)
    # Mean squares are not negative.
    return jax.tree.map_with_path(
        lambda path, x: np.abs(x) if 'magnitude' in str(path) else x, values
    )


@pytest.fixture(scope='module')
def model():
    return generator()


@pytest.fixture(scope='module')
def trained(model):
    return variables(model)


@pytest.fixture(scope='module')
def synthesize(model):
    return jax.jit(lambda v, w, noise: model.apply(v, w, noise, method='synthesize'))


VARIANTS = {
    'default': dict(),
    'resnet, labels': dict(architecture='resnet', num_classes=3),
    'orig, fixed noise, weights, Fourier input, all inputs of unit magnitude': dict(
        architecture='orig',
        noise='const',
        form='weights',
        fourier_input=True,
        normalize_inputs=True,
    ),
    'AdaIN': dict(architecture='orig', normalization='instance'),
    'bfloat16 above, recomputed, grey': dict(
        dtype=jnp.bfloat16, low_precision_blocks=1, remat=True, image_channels=1, noise='none'
    ),
}


@pytest.mark.parametrize('fields', VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_of_every_variant_gets_a_finite_gradient(fields):
    model = generator(**fields)
    values = variables(model)
    label = LABEL if model.num_classes else None

    def loss(params):
        image = model.apply({**values, 'params': params}, Z, label, noise=KEYS)
        assert image.shape == (2, 16, 16, model.image_channels)
        assert image.dtype == jnp.float32
        return jnp.sum(jnp.square(image) * np.linspace(0, 1, 16)[None, :, None, None])

    gradients = jax.jit(jax.grad(loss))(values['params'])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path


def count(shapes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))


@pytest.mark.parametrize(
    ('size', 'base', 'parameters', 'of_discriminator'),
    [
        (256, 16384, 24_767_458, 24_001_089),
        (256, 32768, 30_034_338, 28_864_129),
        (512, 32768, 30_276_583, 28_982_849),
        (1024, 32768, 30_370_060, 29_012_513),
        (1024, 16384, 24_900_764, None),
    ],
)
def test_the_published_sizes_have_the_published_numbers_of_parameters(
    size, base, parameters, of_discriminator
):
    model = StyleGAN2Generator(size=size, channel_base=base)
    z = jnp.zeros((1, 512))
    shapes = jax.eval_shape(
        lambda key: model.init(key, z, noise=jax.random.split(key, 1)), jax.random.key(0)
    )
    assert count(shapes) == parameters
    if of_discriminator:
        scores = Discriminator(size, tapered_channels(size, base))
        image = jnp.zeros((1, size, size, 3))
        shapes = jax.eval_shape(lambda key: scores.init(key, image), jax.random.key(0))
        assert count(shapes) == of_discriminator


def test_a_w_for_each_layer_reaches_the_layers_from_its_own_on(model, trained):
    """Six styles; that of a ToRGB is that of the next convolution."""
    assert (model.num_layers, model.num_ws) == (5, 6)

    @jax.jit
    def features(w):
        capture = lambda module, _: isinstance(module, Block)  # noqa: E731
        _, state = model.apply(
            trained, w, KEYS, method='synthesize', mutable=['intermediates'],
            capture_intermediates=capture,
        )  # fmt: skip
        return {name: out['__call__'][0] for name, out in state['intermediates'].items()}

    w = RNG.normal(size=(2, 6, 6)).astype(np.float32)
    before = features(w)
    first_changed = {0: (4, 4), 1: (8, 4), 2: (8, 8), 3: (16, 8), 4: (16, 16), 5: (None, 16)}
    for i, (of_features, of_image) in first_changed.items():
        after = features(w + np.eye(6)[i][None, :, None].astype(np.float32))
        for side in (4, 8, 16):
            x, image = (np.any(a != b) for a, b in zip(
                before[f'block_{side}'], after[f'block_{side}'], strict=True
            ))  # fmt: skip
            assert x == (of_features is not None and side >= of_features), (i, side)
            assert image == (side >= of_image), (i, side)


def test_one_w_is_the_same_w_in_every_layer(trained, synthesize):
    w = RNG.normal(size=(2, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        synthesize(trained, w, KEYS), synthesize(trained, np.repeat(w[:, None], 6, 1), KEYS)
    )


def test_truncation_takes_the_first_layers_towards_the_average(model, trained):
    plain = np.asarray(model.apply(trained, Z, method='mapping'))
    cut = model.apply(trained, Z, truncation=0.5, truncation_cutoff=2, method='mapping')
    average = trained['stats']['mapping']['w_avg']
    np.testing.assert_allclose(cut[:, :2], (plain[:, :2] + average) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cut[:, 2:], plain[:, 2:])


def test_random_noise_is_a_function_of_each_examples_key(trained, synthesize):
    w = np.ones((2, 6), np.float32)
    image = np.asarray(synthesize(trained, w, KEYS))
    np.testing.assert_array_equal(synthesize(trained, w, KEYS), image)
    np.testing.assert_allclose(synthesize(trained, w, KEYS[::-1]), image[::-1], atol=1e-5)
    assert np.abs(image[0] - image[1]).max() > 0.01


def test_noise_can_be_changed_without_touching_the_variables(model, trained, synthesize):
    w = np.ones((2, 6), np.float32)
    without = jax.tree.map_with_path(
        lambda path, x: 0 * x if 'noise_scale' in str(path) else x, trained
    )
    none = model.clone(noise='none').apply(trained, w, method='synthesize')
    np.testing.assert_allclose(synthesize(without, w, KEYS), none, rtol=1e-5, atol=1e-5)
    const = np.asarray(model.clone(noise='const').apply(trained, w, method='synthesize'))
    np.testing.assert_allclose(const[0], const[1], rtol=1e-5, atol=1e-5)
    maps = [trained['stats']['block_4']['conv1']['noise']]
    maps += [trained['stats'][f'block_{r}'][f'conv{i}']['noise'] for r in (8, 16) for i in (0, 1)]
    given = synthesize(trained, w, tuple(m[None, :, :, None] for m in maps))
    np.testing.assert_allclose(given, const, rtol=1e-5, atol=1e-5)
    assert np.abs(const - none).max() > 0.01


def test_a_fourier_input_is_moved_by_a_transform_and_a_learned_constant_refuses_one(model, trained):
    moving = generator(size=8, fourier_input=True, noise='none')
    assert (moving.takes_transform, model.takes_transform) == (True, False)
    values = tiny.variables(moving, Z)
    w = np.ones((2, moving.num_ws, 6), np.float32)
    draw = jax.jit(lambda t: moving.apply(values, w, transform=t, method='synthesize'))
    still, turned = draw(jnp.eye(3)), draw(jnp.diag(jnp.array([-1.0, -1.0, 1.0])))
    assert np.abs(still - turned).max() > 0.01
    features = {}
    for name, transform in dict(still=np.eye(3), turned=np.diag([-1, -1, 1])).items():
        features[name] = moving.bind(values).input(w[:, 0], jnp.asarray(transform, jnp.float32))
    # Critically sampled, but half a turn takes samples to samples.
    np.testing.assert_allclose(
        features['turned'], features['still'][:, ::-1, ::-1], rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match='a learned constant cannot be moved'):
        model.apply(trained, np.ones((2, 6)), KEYS, np.eye(3), method='synthesize')


def test_magnitudes_of_the_inputs_are_a_running_mean_that_moves_only_when_asked():
    model = generator(size=8, noise='none', normalize_inputs=True, magnitude_decay=0.75)
    values = variables(model)
    w = np.ones((2, model.num_ws, 6), np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def magnitude(update):
        _, state = model.apply(
            values, w, method='synthesize', update_average=update, mutable=['stats']
        )
        return state['stats']['block_4']['conv1']['magnitude']

    before = values['stats']['block_4']['conv1']['magnitude']
    assert magnitude(False) == before
    square = np.mean(np.square(values['params']['constant']))
    np.testing.assert_allclose(magnitude(True), 0.75 * before + 0.25 * square, rtol=1e-5)


def test_the_average_of_w_moves_only_when_asked(model, trained):
    for update in (False, True):
        _, state = model.apply(
            trained, Z, method='mapping', update_average=update, mutable=['stats']
        )
        moved = np.any(state['stats']['mapping']['w_avg'] != trained['stats']['mapping']['w_avg'])
        assert moved == update


def test_rematerialised_gradients_are_the_same(model, trained):
    def gradients(model):
        def loss(params):
            return jnp.sum(model.apply({**trained, 'params': params}, Z, noise=KEYS) ** 2)

        return jax.jit(jax.grad(loss))(trained['params'])

    both = gradients(model), gradients(model.clone(remat=True))
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())


def test_the_gradient_of_path_lengths_is_their_slope():
    """Second derivatives through the whole synthesis network, as path length needs."""
    model = generator(size=8)

    @jax.jit
    def length(params, stats, w, y):
        def image_along(w):
            image = model.apply({'params': params, 'stats': stats}, w, KEYS, method='synthesize')
            return jnp.sum(image * y)

        return jnp.mean(jnp.sqrt(jnp.sum(jax.grad(image_along)(w) ** 2, -1)))

    with jax.enable_x64(True):
        values = jax.tree.map(lambda x: np.asarray(x, np.float64), variables(model))
        w = RNG.normal(size=(2, model.num_ws, 6))
        y = RNG.normal(size=(2, 8, 8, 3))
        gradient = jax.grad(length)(values['params'], values['stats'], w, y)
        direction = jax.tree.map(lambda x: RNG.normal(size=x.shape), values['params'])
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)))
        ends = [
            length(
                jax.tree.map(lambda p, d, s=s: p + s * d, values['params'], direction),
                values['stats'], w, y,
            )
            for s in (1e-6, -1e-6)
        ]  # fmt: skip
    assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(size=24), 'size must be a power of two from 8, got 24'),
        (dict(size=4), 'size must be a power of two from 8, got 4'),
        (dict(architecture='unet'), "architecture must be one of .*'skip'.*got 'unet'"),
        (dict(normalization='batch'), "normalization must be one of .*'instance'.*got 'batch'"),
        (dict(noise='gauss'), "noise must be one of .*'const'.*got 'gauss'"),
        (dict(activation='gelu'), "activation must be one of .*'lrelu'.*got 'gelu'"),
        (dict(channel_base=8), 'channel_base must be 16 or more, got 8'),
        (dict(style=0), 'style must be 1 or more, got 0'),
        (dict(num_classes=-1), 'num_classes must be 0 or more, got -1'),
        (dict(normalize_inputs=True, normalization='instance'), 'normalize_inputs must be left'),
    ],
)
def test_what_cannot_be_built_is_one_line_with_the_value_and_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        generator(**fields)
    assert '\n' not in str(caught.value)


def test_styles_and_noise_of_a_wrong_number_are_errors(model, trained):
    w = np.zeros((2, 6), np.float32)
    with pytest.raises(ValueError, match='w must have 6 styles, got 5'):
        model.apply(trained, np.zeros((2, 5, 6)), KEYS, method='synthesize')
    with pytest.raises(ValueError, match='noise must have 5 maps, got 1'):
        model.apply(trained, w, (np.zeros((1, 4, 4, 1)),), method='synthesize')
    with pytest.raises(ValueError, match="noise='random' needs a key for each example"):
        model.apply(trained, w, method='synthesize')
