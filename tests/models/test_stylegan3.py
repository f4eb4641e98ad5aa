"""The StyleGAN3 generator: its plan, its equivariance, its averages, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.stylegan3 import FourierInput, StyleGAN3Generator
from jaxgen.models.stylegan3_plan import octave_bands
from tests import tiny

Z = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
LABEL = np.array([0, 2])
R = dict(kernel_size=1, radial=True)


def generator(**fields):
    """Four layers and ToRGB for 32×32 pixels; canvases of 36 and 52."""
    small = dict(
        size=32, latent=5, style=6, mapping_layers=1, mapping_lr_multiplier=1.0, channel_base=128,
        channel_max=6, num_layers=4, clamp=None,
    )  # fmt: skip
    return StyleGAN3Generator(**small | fields)


def initial(model, z=Z):
    """Variables as at the start, with the magnitudes of this z's features."""
    values = jax.jit(model.init)(jax.random.key(0), z)
    forgetful = model.clone(magnitude_decay=0.0)
    updated = jax.jit(lambda v: forgetful.apply(v, z, update_average=True, mutable=['stats'])[1])(
        values
    )
    return {**values, **updated}


def randomized(model):
    """Variables that are nowhere zero; magnitudes positive."""
    label = LABEL if model.num_classes else None
    values = tiny.variables(model, Z, label)
    values['stats'] = jax.tree.map_with_path(
        lambda path, x: np.abs(x) + 0.5 if 'magnitude' in str(path) else x, values['stats']
    )
    return values


@pytest.fixture(scope='module')
def model():
    return generator()


@pytest.fixture(scope='module')
def trained(model):
    return randomized(model)


VARIANTS = {
    'T': dict(),
    'R, labels': dict(**R, num_classes=3),
    'H, grey': dict(flexible=False, image_channels=1),
    'G, not recomputed': dict(flexible=False, learned_transform=False, remat=False),
    'F, bfloat16': dict(
        flexible=False, learned_transform=False, num_critical=4, dtype=jnp.bfloat16
    ),
    'E': dict(flexible=False, learned_transform=False, num_critical=4, lrelu_upsampling=1),
}


@pytest.mark.parametrize('fields', VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_of_every_configuration_gets_a_finite_gradient(fields):
    model = generator(**fields)
    values = randomized(model)
    label = LABEL if model.num_classes else None

    def loss(params):
        image = model.apply({**values, 'params': params}, Z, label)
        assert image.shape == (2, 32, 32, model.image_channels)
        assert image.dtype == jnp.float32
        return jnp.sum(jnp.square(image) * np.linspace(0, 1, 32)[None, :, None, None])

    gradients = jax.jit(jax.grad(loss))(values['params'])
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path


@pytest.mark.parametrize(
    ('size', 'base', 'of_t', 'of_r'),
    [
        (256, 16384, 23_320_443, 15_779_565),
        (256, 32768, 28_472_133, 18_816_387),
        (512, 32768, 24_873_519, 16_665_594),
        (1024, 32768, 22_313_167, 15_093_151),
    ],
)
def test_the_published_sizes_have_the_published_numbers_of_parameters(size, base, of_t, of_r):
    for expected, fields in (
        (of_t, dict(channel_base=base)),
        (of_r, dict(channel_base=2 * base, channel_max=1024, **R)),
    ):
        model = StyleGAN3Generator(size=size, **fields)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 512)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes['params'])) == expected


def test_every_layers_filters_cut_above_the_cutoff_and_below_the_canvas_rate():
    _, specs = StyleGAN3Generator(size=256).specs()
    for spec in specs[:-1]:
        for cutoff, half_width, rate in (
            (spec.in_cutoff, spec.in_half_width, spec.in_rate),
            (spec.out_cutoff, spec.out_half_width, spec.out_rate),
        ):
            assert 0 < cutoff <= rate / 2
            if not spec.critical:
                assert cutoff + half_width >= rate / 2  # no band is left without a sample
        assert spec.inner_rate >= 2 * max(spec.in_rate, spec.out_rate)


def test_layers_that_are_not_critical_keep_their_transition_band_below_half_the_rate():
    bands = octave_bands(64)
    np.testing.assert_array_equal(bands.rates, [16, 16, 32, 32, 64, 64, 64])
    np.testing.assert_allclose((bands.cutoffs + bands.half_widths)[:4], bands.rates[:4] / 2)
    np.testing.assert_array_equal(bands.cutoffs[4:], 32)
    np.testing.assert_array_equal(octave_bands(64, num_critical=6).cutoffs, bands.rates / 2)


def psnr(a, b):
    return 10 * np.log10(4 / np.mean(np.square(np.asarray(a) - np.asarray(b))))


def translation(pixels, size=32):
    """What moves the image to the right: the inverse of the movement."""
    return np.array([[1, 0, -pixels / size], [0, 1, 0], [0, 0, 1]], np.float32)


def render(model, values):
    return jax.jit(lambda transform: model.apply(values, Z, transform=transform))


def test_the_image_moves_with_the_input_by_any_number_of_pixels(model):
    """Untrained, at the lower rate a pixel is half a sample: nothing may stick to the samples.

    Only without filtered nonlinearities (E) it does.
    """
    quality = {}
    for name, fields in (('T', {}), ('E', VARIANTS['E'])):
        chosen = generator(**fields)
        run = render(chosen, initial(chosen))
        still, moved = run(np.eye(3, dtype=np.float32)), run(translation(1))
        quality[name] = psnr(moved[:, :, 1:], still[:, :, :-1])
    assert quality['T'] > 50
    assert quality['E'] < quality['T'] - 10


def test_radial_filters_and_small_kernels_make_the_image_turn_with_the_input():
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    quality = {}
    for name, fields in (('R', R), ('T', {})):
        chosen = generator(**fields)
        run = render(chosen, initial(chosen))
        still, turned = run(np.eye(3, dtype=np.float32)), run(quarter)
        quality[name] = psnr(turned, np.rot90(still, axes=(1, 2)))
    assert quality['R'] > 90
    assert quality['T'] < 40


def test_each_image_can_have_its_own_transform(model, trained):
    run = render(model, trained)
    first, second = translation(3), translation(-2)
    both = run(np.stack([first, second]))
    np.testing.assert_allclose(both[0], run(first)[0], atol=1e-4)
    np.testing.assert_allclose(both[1], run(second)[1], atol=1e-4)


def test_w_moves_the_input_by_its_learned_transform_and_not_at_the_start():
    layer = FourierInput(6, (20, 20), 16.0, 2.0)
    w = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    values = jax.device_get(layer.init(jax.random.key(0), w))
    still = np.asarray(layer.apply(values, w))
    np.testing.assert_allclose(still[0], still[1], atol=1e-6)
    # (r_c, r_s, t_x, t_y): one sample to the left, then to the top.
    values['params']['affine']['bias'] = np.array([2.0, 0.0, -2 / 16, 0.0], np.float32)
    left = np.asarray(layer.apply(values, w))
    np.testing.assert_allclose(left[:, :, :-1], still[:, :, 1:], atol=1e-4)
    values['params']['affine']['bias'] = np.array([2.0, 0.0, 0.0, -2 / 16], np.float32)
    up = np.asarray(layer.apply(values, w))
    np.testing.assert_allclose(up[:, :-1], still[:, 1:], atol=1e-4)


def test_frequencies_fill_the_disc_below_the_cutoff_evenly():
    layer = FourierInput(4_000, (1, 1), 16.0, 3.0)
    values = layer.init(jax.random.key(0), jnp.zeros((1, 2)))
    radius = np.linalg.norm(values['stats']['frequencies'], axis=1)
    assert radius.max() < 3
    assert np.mean(radius < 1.5) == pytest.approx(0.25, abs=0.02)


def test_what_is_too_fast_for_the_canvas_fades_out():
    layer = FourierInput(6, (20, 20), 16.0, 2.0)
    w = np.zeros((1, 5), np.float32)
    values = layer.init(jax.random.key(0), w)
    tiny_image = np.diag([9.0, 9.0, 1.0]).astype(np.float32)
    assert np.abs(layer.apply(values, w)).max() > 0.1
    frequencies = np.linalg.norm(values['stats']['frequencies'], axis=1)
    values = jax.tree.map(jnp.copy, values)
    values['stats']['frequencies'] = values['stats']['frequencies'] / frequencies[:, None]
    np.testing.assert_allclose(layer.apply(values, w, tiny_image), 0, atol=1e-6)


def test_averages_move_only_when_asked_and_before_they_are_used(model, trained):
    apply = jax.jit(
        lambda v, update: model.apply(v, Z, update_average=update, mutable=['stats']),
        static_argnums=1,
    )
    image, kept = apply(trained, False)
    for a, b in zip(*map(jax.tree.leaves, (kept['stats'], trained['stats'])), strict=True):
        np.testing.assert_array_equal(a, b)
    changed, moved = apply(trained, True)
    for name in ('layer_0', 'to_rgb'):
        assert moved['stats'][name]['magnitude'] != trained['stats'][name]['magnitude']
    assert np.any(moved['stats']['mapping']['w_avg'] != trained['stats']['mapping']['w_avg'])
    np.testing.assert_allclose(apply({**trained, **moved}, False)[0], changed, rtol=1e-4, atol=1e-5)
    assert np.abs(changed - image).max() > 0


def test_no_gradient_goes_through_the_magnitudes(model, trained):
    def loss(params):
        _, moved = model.apply(
            {**trained, 'params': params}, Z, update_average=True, mutable=['stats']
        )
        return moved['stats']['to_rgb']['magnitude']

    # ToRGB's magnitude is that of the last layer's output, which a gradient would reach.
    gradients = jax.jit(jax.grad(loss))(trained['params'])
    assert not any(np.any(g) for g in jax.tree.leaves(gradients))


def test_rematerialised_gradients_are_the_same(model, trained):
    def gradients(model):
        def loss(params):
            return jnp.sum(model.apply({**trained, 'params': params}, Z) ** 2)

        return jax.jit(jax.grad(loss))(trained['params'])

    both = gradients(model), gradients(model.clone(remat=False))
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(size=24), 'size must be a power of two from 16, got 24'),
        (dict(size=8), 'size must be a power of two from 16, got 8'),
        (dict(num_critical=4), 'num_critical must be between 1 and num_layers - 1 = 3, got 4'),
        (dict(kernel_size=2), 'kernel_size must be odd, got 2'),
        (dict(channel_max=0), 'channel_max must be 1 or more, got 0'),
        (dict(num_classes=-1), 'num_classes must be 0 .*, got -1'),
    ],
)
def test_what_cannot_be_built_is_one_line_with_the_value_and_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        generator(**fields)
    assert '\n' not in str(caught.value)


def test_styles_of_a_wrong_number_are_an_error(model, trained):
    with pytest.raises(ValueError, match='w must have 6 styles, got 5'):
        model.apply(trained, np.zeros((2, 5, 6)), method='synthesize')
