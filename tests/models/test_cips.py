"""CIPS: pixels are independent, every variant trains, and its size is the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.cips import (
    CIPSGenerator,
    released_residual_widths,
    released_widths,
    uniform_widths,
)
from jaxgen.ops.coords import points
from jaxgen.parallel.coordgrid import in_tiles
from jaxgen.parallel.flops import count_macs
from tests import tiny

STYLES, HEIGHT, WIDTH = 3, 5, 7
NOISES = ('none', 'const', 'random')
PLACES = np.asarray(points(HEIGHT, WIDTH))


class Drawing:
    """A generator, variables that are nowhere zero, and its compiled render."""

    def __init__(self, **fields):
        self.model = tiny.generator(**fields)
        self.variables = tiny.variables(self.model)
        self.w = np.random.default_rng(2).normal(size=(STYLES, self.model.style)).astype(np.float32)
        self.keys = jax.random.split(jax.random.key(5), STYLES)
        self.render = jax.jit(self.draw)

    def draw(self, variables, coords, w):
        return self.model.apply(variables, coords[None], w, noise=self.keys)

    def __call__(self, coords, w=None):
        return np.asarray(self.render(self.variables, coords, self.w if w is None else w))


@pytest.fixture(scope='module')
def drawings():
    return {noise: Drawing(noise=noise) for noise in NOISES}


@pytest.fixture(scope='module')
def drawing(drawings):
    return drawings['none']


@pytest.mark.parametrize('noise', NOISES)
def test_any_order_and_any_subset_of_pixels_equals_the_full_render(drawings, noise):
    draw, rng = drawings[noise], np.random.default_rng(0)
    whole = draw(PLACES)
    assert np.ptp(whole) > 1
    order = rng.permutation(len(PLACES))
    np.testing.assert_allclose(draw(PLACES[order]), whole[:, order], atol=1e-5)
    subset = order[:11]
    np.testing.assert_allclose(draw(PLACES[subset]), whole[:, subset], atol=1e-5)


@pytest.mark.parametrize('noise', NOISES)
def test_any_tiling_equals_the_full_render(drawings, noise):
    draw = drawings[noise]
    whole = draw(PLACES)
    for tile in (8, 35):
        tiled = jax.jit(in_tiles(draw.draw, tile=tile))(draw.variables, PLACES, draw.w)
        np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize('noise', NOISES)
def test_a_pixel_has_no_gradient_to_the_coordinates_of_others(drawings, noise):
    draw = drawings[noise]
    places = np.random.default_rng(1).uniform(-0.9, 0.9, (6, 2)).astype(np.float32)
    tree = jax.tree.map(jnp.asarray, draw.variables)
    jacobian = jax.jit(jax.jacrev(lambda c: draw.draw(tree, c, draw.w)[0]))(places)
    depends = np.any(np.asarray(jacobian) != 0, axis=(1, 3))
    np.testing.assert_array_equal(depends, np.eye(6, dtype=bool))


def test_a_style_per_pixel_is_each_pixel_in_its_own_style(drawing):
    rng = np.random.default_rng(3)
    w = rng.normal(size=(STYLES, len(PLACES), drawing.model.style)).astype(np.float32)
    together = drawing(PLACES, w)
    for n in (0, 8, 34):
        alone = drawing(PLACES, w[:, n])[:, n]
        np.testing.assert_allclose(together[:, n], alone, atol=1e-5)


def test_a_list_of_styles_gives_each_layer_its_own(drawing):
    same = drawing(PLACES, (drawing.w,) * 3)
    np.testing.assert_allclose(same, drawing(PLACES), atol=1e-6)
    for layer in range(3):
        styles = [drawing.w] * 3
        styles[layer] = drawing.w + 1
        assert np.abs(drawing(PLACES, tuple(styles)) - same).max() > 1e-3


def test_another_number_of_styles_than_layers_is_an_error(drawing):
    with pytest.raises(ValueError, match='w must have 3 layers, got 2'):
        drawing(PLACES, (drawing.w,) * 2)


def test_encoding_once_and_drawing_many_styles_equals_the_whole(drawing):
    model, variables = drawing.model, drawing.variables
    features = model.apply(variables, PLACES[None], method='encode')
    assert features.shape == (1, len(PLACES), 2 * model.features)
    drawn = model.apply(variables, features, drawing.w, method='synthesize')
    np.testing.assert_allclose(drawn, drawing(PLACES), atol=1e-5)


@pytest.mark.parametrize('noise', NOISES)
def test_without_coordinates_the_training_grid_is_drawn(drawings, noise):
    draw = drawings[noise]
    grid = points(*draw.model.frame)
    direct = jax.jit(draw.model.apply)(draw.variables, None, draw.w, noise=draw.keys)
    np.testing.assert_allclose(direct, draw(np.asarray(grid)), atol=1e-5)


def test_the_reference_lookup_differs_from_training_as_the_published_code_does():
    draw = Drawing(lookup='reference')
    direct = draw.model.apply(draw.variables, None, draw.w)
    assert np.abs(direct - draw(np.asarray(points(*draw.model.frame)))).max() > 1e-2


def test_a_frame_need_not_be_square():
    draw = Drawing(size=(4, 8))
    image = draw.model.apply(
        draw.variables, np.ones((2, draw.model.latent), np.float32), method='generate'
    )
    assert image.shape == (2, 4, 8, 3)
    w = draw.model.apply(
        draw.variables, np.ones((2, draw.model.latent), np.float32), method='mapping'
    )
    pixels = draw(np.asarray(points(4, 8)), np.concatenate([w, w[:1]]))
    np.testing.assert_allclose(image, pixels[:2].reshape(2, 4, 8, 3), atol=1e-5)


def test_constant_noise_belongs_to_the_place_and_random_noise_to_the_key(drawings):
    const, random = drawings['const'], drawings['random']
    other = jax.random.split(jax.random.key(6), STYLES)
    again = random.model.apply(random.variables, PLACES[None], random.w, noise=other)
    assert np.abs(again - random(PLACES)).max() > 1e-2
    again = const.model.apply(const.variables, PLACES[None], const.w, noise=other)
    np.testing.assert_allclose(again, const(PLACES), atol=1e-5)


def test_random_noise_of_an_example_belongs_to_its_own_key(drawings):
    draw = drawings['random']
    keys = draw.keys.at[1].set(jax.random.key(99))
    again = draw.model.apply(draw.variables, PLACES[None], draw.w, noise=keys)
    change = np.abs(np.asarray(again) - draw(PLACES)).max((1, 2))
    assert change[1] > 1e-2
    assert max(change[0], change[2]) < 1e-5


def test_random_noise_without_keys_is_an_error(drawings):
    draw = drawings['random']
    with pytest.raises(ValueError, match="noise='random' needs a key for each example"):
        draw.model.apply(draw.variables, PLACES[None], draw.w)


VARIANTS = {
    'default': dict(),
    'no embedding (CIPS-NE), sine, constant noise': dict(
        embedding=False, activation='sin', noise='const'
    ),
    'no Fourier features, random noise, reference look-up': dict(
        fourier=False, noise='random', lookup='reference'
    ),
    'residual with changing widths': dict(residual=True, first_width=10, block_widths=(8, 6)),
    'sine and leaky ReLU, one ToRGB, labels': dict(
        activation='sinrelu', cumulative_rgb=False, num_classes=3
    ),
    'not square, taper, bfloat16, recomputed': dict(
        size=(2, 6), block_widths=(8, 4), dtype=jnp.bfloat16, remat=True
    ),
}


@pytest.mark.parametrize('fields', VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_of_every_variant_gets_a_finite_gradient(fields):
    model = tiny.generator(**dict(size=4) | fields)
    variables = tiny.variables(model)
    label = np.array([1, 2]) if model.num_classes else None
    z = np.random.default_rng(0).normal(size=(2, model.latent)).astype(np.float32)

    def loss(params):
        image, _ = model.apply(
            {**variables, 'params': params},
            z,
            label,
            noise=jax.random.split(jax.random.key(0), 2),
            update_average=True,
            method='generate',
            mutable=['stats'],
        )
        assert image.shape == (2, *model.frame, 3)
        assert image.dtype == jnp.float32
        return jnp.mean(jnp.square(image))

    gradients = jax.jit(jax.grad(loss))(variables['params'])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path


def test_rematerialised_gradients_are_the_same():
    z = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)

    def gradients(remat):
        model = tiny.generator(size=2, remat=remat)
        variables = tiny.variables(model)

        def loss(params):
            image = model.apply({**variables, 'params': params}, z, method='generate')
            return jnp.mean(jnp.square(image))

        return jax.jit(jax.grad(loss))(variables['params'])

    for a, b in zip(*map(jax.tree.leaves, (gradients(True), gradients(False))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(fourier=False, embedding=False), 'fourier and embedding are both off'),
        (dict(noise='gauss'), "noise must be one of .*'const'.*got 'gauss'"),
        (dict(lookup='nearest'), "lookup must be one of .*'exact'.*got 'nearest'"),
        (dict(activation='gelu'), "activation must be one of .*'lrelu'.*got 'gelu'"),
        (dict(block_widths=()), r'at least one block, got 8 and \(\)'),
        (dict(block_widths=(8, 0)), r'must be positive.*got 8 and \(8, 0\)'),
        (dict(activation='sinrelu', block_widths=(7,)), 'sinrelu needs even widths'),
        (dict(size=0), r'size must be positive, got \(0, 0\)'),
        (dict(size=(4, -1)), r'size must be positive, got \(4, -1\)'),
        (dict(features=0), 'features must be positive, got 0'),
        (dict(latent=0), 'latent must be positive, got 0'),
        (dict(style=-3), 'style must be positive, got -3'),
        (dict(mapping_layers=0), 'mapping_layers must be positive, got 0'),
        (dict(num_classes=-1), 'num_classes must be 0 .*, got -1'),
    ],
)
def test_what_cannot_be_built_is_one_line_with_the_value_and_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        tiny.generator(**fields)
    assert '\n' not in str(caught.value)


def count_parameters(model):
    def init(key):
        z = jnp.zeros((1, model.latent))
        return model.init(key, z, noise=key[None], method='generate')

    shapes = jax.eval_shape(init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))


@pytest.mark.parametrize(
    ('fields', 'count'),
    [
        (dict(block_widths=uniform_widths(256)), 45_911_076),
        (dict(block_widths=released_widths(256)), 44_317_092),
        (dict(block_widths=released_residual_widths(256), residual=True), 43_027_858),
    ],
    ids=['uniform', 'released', 'released residual'],
)
def test_the_number_of_parameters_is_the_published_one(fields, count):
    # The published modules always have a strength of noise.
    assert count_parameters(CIPSGenerator(256, noise='random', **fields)) == count


def test_a_256_image_takes_275_6_gmac():
    model = CIPSGenerator(256)
    shapes = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 512)), method='generate'), jax.random.key(0)
    )
    z = jax.ShapeDtypeStruct((1, 512), jnp.float32)
    macs = count_macs(lambda v, z: model.apply(v, z, method='generate'), shapes, z)
    assert round(macs / 1e9, 1) == 275.6


def test_presets_have_a_block_for_each_doubling():
    assert uniform_widths(256) == (512,) * 7
    assert released_widths(1024) == (512,) * 5 + (256, 128, 64, 32)
    assert released_residual_widths(1024, 1) == (512,) * 5 + (128, 64, 64, 32)
