"""ADA: what each transformation keeps, how often it happens, derivatives through all of them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxgen.augment import ada, warp
from jaxgen.augment.wavelets import SYM2, SYM6
from jaxgen.ops.random import per_example_keys

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (3, 12, 12, 3)).astype(np.float32)
ALL = ada.named('bgcfnc')

augment = jax.jit(ada.augment, static_argnums=0)


def keys(count, seed=0):
    return per_example_keys(jax.random.key(seed), np.arange(count))


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def parameters(pipeline, count, p, size=(12, 12)):
    """Parameters of many images."""

    def one(key):
        draws = ada.draw(pipeline, key, (*size, 3))
        return ada.parameters(pipeline, draws, p, size)

    return jax.vmap(one)(keys(count))


@pytest.mark.parametrize('name', ['blit', 'geom', 'color', 'filter', 'noise', 'cutout', 'bgcfnc'])
def test_nothing_happens_at_probability_0(name):
    images = np.resize(IMAGES, (2, 24, 24, 3))
    y = augment(ada.named(name), keys(2), images, 0.0)
    # Resampling by the wavelet is the identity up to rounding; all else is exact.
    exact = name in ('color', 'noise', 'cutout')
    np.testing.assert_allclose(y, images, atol=0 if exact else 2e-5)


def test_something_happens_at_probability_1_without_compiling_again():
    traced = []

    @jax.jit
    def run(p):
        traced.append(p)
        return ada.augment(ada.named('bgc'), keys(3), IMAGES, p)

    assert np.abs(run(0.0) - IMAGES).max() < 1e-4
    assert np.abs(run(1.0) - IMAGES).mean(axis=(1, 2, 3)).min() > 0.05
    assert len(traced) == 1


def test_an_image_depends_on_its_own_key_alone():
    images = np.resize(IMAGES, (3, 24, 24, 3))
    together = augment(ALL, keys(3), images, 0.8)
    alone = augment(ALL, keys(3)[1:2], images[1:2], 0.8)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    other = augment(ALL, keys(3, seed=1), images, 0.8)
    assert np.abs(together - other).mean() > 0.05


def test_examples_on_other_devices_are_not_needed():
    mesh = jax.make_mesh((8,), ('data',))
    split = NamedSharding(mesh, PartitionSpec('data'))
    images, slots = RNG.uniform(-1, 1, (8, 6, 6, 3)).astype(np.float32), np.arange(8)

    def run(images, slots):
        chosen = per_example_keys(jax.random.key(0), slots)
        return ada.augment(ada.named('bgc'), chosen, images, 0.8)

    compiled = jax.jit(run, in_shardings=split, out_shardings=split).lower(images, slots).compile()
    program = compiled.as_text()
    assert not re.search('all-(reduce|gather|to-all)|collective-permute', program)
    y = compiled(*jax.device_put((images, slots), split))
    np.testing.assert_allclose(y, jax.jit(run)(images, slots), atol=1e-5)


def test_draws_do_not_depend_on_what_else_is_on():
    key, shape = jax.random.key(3), (4, 4, 3)
    few, many = (ada.draw(pipe, key, shape) for pipe in (ada.Pipeline(xflip=1), ALL))
    assert few.keys() < many.keys()
    for name, draw in few.items():
        np.testing.assert_array_equal(draw.value, many[name].value)
        np.testing.assert_array_equal(draw.chance, many[name].chance)


@pytest.mark.parametrize(
    ('transform', 'share'),
    # A flip is half of the choices, a quarter turn three of four; the rest is p.
    [('xflip', 0.5), ('rotate90', 0.75), ('scale', 1), ('rotate', 1), ('aniso', 1), ('xfrac', 1)],
)
def test_a_transformation_happens_with_its_probability(transform, share):
    count, multiplier, p = 2000, 0.5, 0.8
    pipeline = ada.Pipeline(**{transform: multiplier})
    geometry = np.asarray(parameters(pipeline, count, p).geometry)
    moved = np.abs(geometry - np.eye(3)).max(axis=(1, 2)) > 1e-3
    expected = multiplier * p * share
    assert moved.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / count))


def test_the_colours_are_changed_with_their_probability():
    count, p = 2000, 0.3
    for transform, share in (('brightness', 1), ('contrast', 1), ('lumaflip', 0.5), ('hue', 1)):
        color = np.asarray(parameters(ada.Pipeline(**{transform: 1.0}), count, p).color)
        changed = np.abs(color - np.eye(4)).max(axis=(1, 2)) > 1e-6
        assert changed.mean() == pytest.approx(p * share, abs=0.04), transform


def test_translations_stay_within_their_bounds():
    geometry = np.asarray(parameters(ada.Pipeline(xint=1), 500, 1.0, (40, 80)).geometry)
    x, y = geometry[:, 0, 2], geometry[:, 1, 2]
    np.testing.assert_allclose([x, y], np.round([x, y]), atol=1e-5)
    assert np.abs(x).max() == 10
    assert np.abs(y).max() == 5


def moved(inverse, images=IMAGES):
    inverse = jnp.broadcast_to(inverse, (len(images), 3, 3))
    return np.asarray(jax.jit(warp.resample)(images, inverse))


def smooth_images():
    """A blob beside the middle, as sharp as 24 pixels hold."""
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    return np.exp(-8 * ((x - 0.2) ** 2 + (y + 0.1) ** 2))[None, :, :, None].astype(np.float32)


def test_flips_and_quarter_turns_move_pixels_to_pixels():
    # Up to the tenth of a pixel by which the wavelet differs from its mirror image.
    smooth = smooth_images()
    assert np.abs(smooth - smooth[:, :, ::-1]).max() > 0.5
    y = moved(warp.scaling(-1.0, 1.0), smooth)
    np.testing.assert_allclose(y, smooth[:, :, ::-1], atol=0.03)
    for turns in range(4):
        # The inverse turns clockwise, so the image turns anticlockwise, as np.rot90 does.
        y = moved(warp.rotation(np.pi / 2 * turns), smooth)
        np.testing.assert_allclose(y, np.rot90(smooth, turns, axes=(1, 2)), atol=0.03)


def test_a_translation_shows_the_image_reflected():
    expected = np.pad(IMAGES, ((0, 0), (0, 3), (2, 0), (0, 0)), mode='reflect')[:, 3:, :12]
    # Moved by 2 to the right and by 3 up: a place comes from 2 to its left and 3 below.
    np.testing.assert_allclose(moved(warp.translation(-2.0, 3.0)), expected, atol=2e-5)


def test_two_flips_are_none():
    flip, smooth = warp.scaling(-1.0, 1.0), smooth_images()
    np.testing.assert_allclose(moved(flip, moved(flip, smooth)), smooth, atol=1e-3)


def test_a_smooth_image_turns_and_turns_back():
    turn, smooth = warp.rotation(0.7), smooth_images()
    there = moved(turn, smooth)
    assert np.abs(there - smooth).max() > 0.1
    # Corners come from outside the image.
    inner = np.s_[:, 6:-6, 6:-6]
    np.testing.assert_allclose(moved(turn.T, there)[inner], smooth[inner], atol=0.01)


def test_the_size_of_the_image_may_be_any():
    images = RNG.uniform(-1, 1, (1, 9, 14, 1)).astype(np.float32)
    np.testing.assert_allclose(moved(jnp.eye(3), images), images, atol=2e-5)


def color_matrices(**multipliers):
    return parameters(ada.Pipeline(**multipliers), 16, 1.0).color


COLOURS = dict(brightness=1, contrast=1, lumaflip=1, hue=1, saturation=1)


def test_grey_stays_grey():
    grey = np.repeat(IMAGES[:1, :, :, :1], 16, axis=0)
    y = ada.recolor(np.repeat(grey, 3, axis=3), color_matrices(**COLOURS))
    np.testing.assert_allclose(y, np.repeat(y[..., :1], 3, axis=3), atol=1e-5)
    one = ada.recolor(grey, color_matrices(**COLOURS))
    np.testing.assert_allclose(y[..., :1], one, atol=1e-5)


def test_hue_and_saturation_keep_the_luma():
    images = np.repeat(IMAGES[:1], 16, axis=0)
    y = np.asarray(ada.recolor(images, color_matrices(hue=1, saturation=1)))
    assert np.abs(y - images).max() > 0.1
    np.testing.assert_allclose(y.mean(axis=3), images.mean(axis=3), atol=1e-5)


def test_a_third_of_a_turn_of_hue_permutes_the_channels():
    draws = ada.draw(ALL, jax.random.key(0), (1, 1, 3))
    draws['hue'] = ada.Draw(jnp.asarray(0.5 + 1 / 3), jnp.zeros(()))
    color = ada.parameters(ada.Pipeline(hue=1), draws, 1.0, (1, 1)).color
    np.testing.assert_allclose(color[:3, :3], np.eye(3)[[2, 0, 1]], atol=1e-6)


def test_two_inverted_lumas_are_none():
    color = np.asarray(color_matrices(lumaflip=1))
    np.testing.assert_allclose(color @ color, np.broadcast_to(np.eye(4), color.shape), atol=1e-6)
    assert np.abs(color - np.eye(4)).max() > 0.5


def test_wavelets_are_orthogonal_to_their_own_shifts():
    for wavelet in (SYM2, SYM6):
        products = np.convolve(wavelet, wavelet[::-1])[len(wavelet) - 1 :: 2]
        np.testing.assert_allclose(products, np.eye(len(products))[0], atol=1e-9)
        np.testing.assert_allclose(np.sum(wavelet), np.sqrt(2), rtol=1e-9)


def test_the_bands_add_up_to_the_image():
    impulse = np.eye(43)[21]
    np.testing.assert_allclose(ada.FILTER_BANK.sum(axis=0), impulse, atol=1e-7)
    images = RNG.uniform(-1, 1, (1, 22, 30, 3)).astype(np.float32)
    np.testing.assert_allclose(ada.filter_bands(images, jnp.ones((1, 4))), images, atol=1e-5)
    # The lowest band alone holds the mean.
    flat = jnp.ones((2, 22, 22, 1))
    y = ada.filter_bands(flat, jnp.array([[0.0, 1, 1, 1], [1, 0, 0, 0]]))
    np.testing.assert_allclose(y, [np.zeros((22, 22, 1)), np.ones((22, 22, 1))], atol=1e-5)


def test_a_single_gain_keeps_the_expected_power():
    bands = ada.Pipeline(imgfilter=1, imgfilter_bands=(0, 1, 0, 0))
    gains = np.asarray(parameters(bands, 8, 1.0).gains)
    np.testing.assert_allclose(np.square(gains) @ ada.EXPECTED_POWER, np.ones(8), rtol=1e-5)
    np.testing.assert_allclose(gains[:, 0], gains[:, 2], rtol=1e-6)
    assert np.abs(gains[:, 0] / gains[:, 1] - 1).min() > 1e-3


def test_small_images_cannot_be_filtered():
    with pytest.raises(ValueError, match='22 pixels'):
        ada.filter_bands(IMAGES, jnp.ones((3, 4)))


def test_the_noise_has_the_deviation_it_was_given():
    pipeline = ada.Pipeline(noise=1, noise_std=0.5)
    draws = ada.draw(pipeline, jax.random.key(1), (64, 64, 3))
    noise = ada.parameters(pipeline, draws, 1.0, (64, 64)).noise
    assert float(noise.std()) == pytest.approx(0.5 * abs(float(draws['noise'].value)), rel=0.05)


def test_a_square_is_cut_out_and_the_rest_stays():
    squares = jnp.array([[0.5, 0.5, 0.5], [0.0, 0.0, 0.5], [0.3, 0.3, 0.0]])
    y = np.asarray(ada.cut_out(IMAGES, squares))
    expected = IMAGES.copy()
    expected[0, 3:9, 3:9] = 0
    expected[1, :3, :3] = 0
    np.testing.assert_array_equal(y, expected)


def test_two_channels_have_no_colour():
    with pytest.raises(ValueError, match='1 or 3 channels'):
        ada.recolor(IMAGES[..., :2], jnp.eye(4)[None])


def test_second_derivatives_pass_through_the_whole_pipeline():
    pipeline = ada.named('bgc')
    with jax.enable_x64(True):
        images = jnp.asarray(IMAGES[:1, :5, :5], jnp.float64)
        chosen = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64), parameters(pipeline, 1, 0.9, (5, 5))
        )

        def score(images):
            return jnp.sum(jnp.sin(ada.apply(images, chosen)))

        check_grads(jax.jit(score), (images,), order=2, modes=['rev'], rtol=1e-6)


def test_names_of_pipelines():
    assert ada.named('bgc') == ada.Pipeline(
        **{name: 1.0 for g in ('blit', 'geom', 'color') for name in ada.GROUPS[g]}
    )
    assert ada.named('filter') == ada.Pipeline(imgfilter=1.0)
    for wrong in ('b', 'c', 'gc', '', 'bgcx'):
        with pytest.raises(ValueError, match=repr(wrong)):
            ada.named(wrong)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='scale_std must not be negative, got -1'):
        ada.Pipeline(scale_std=-1.0)
    with pytest.raises(ValueError, match='imgfilter_bands needs 4'):
        ada.Pipeline(imgfilter_bands=(1.0,))
