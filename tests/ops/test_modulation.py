"""Modulation against the formulas of the papers, and its two forms against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.modulation import FORMS, modulated_conv2d, modulated_dense, normalize_modulation
from jaxgen.ops.upfirdn2d import setup_filter, upfirdn2d

PIXELS, CHANNELS, FEATURES, STYLES = 7, 5, 3, 4


@pytest.fixture
def arrays():
    def make(shared=False, per_pixel=False, dtype=np.float64):
        rng = np.random.default_rng(0)
        shape = (STYLES, PIXELS, CHANNELS) if per_pixel else (STYLES, CHANNELS)
        x = rng.normal(size=(1 if shared else STYLES, PIXELS, CHANNELS))
        kernel = rng.normal(size=(CHANNELS, FEATURES))
        return x.astype(dtype), kernel.astype(dtype), rng.normal(size=shape).astype(dtype)

    return make


def by_loops(x, kernel, style, demodulate, eps=1e-8):
    """StyleGAN2 equations 1 and 3, one style and one pixel after the other."""
    result = np.zeros((style.shape[0], x.shape[1], kernel.shape[1]))
    for b in range(style.shape[0]):
        for n in range(x.shape[1]):
            weights = (style[b] if style.ndim == 2 else style[b, n])[:, None] * kernel
            if demodulate:
                weights = weights / np.sqrt(np.sum(weights**2, axis=0) + eps)
            result[b, n] = x[b if x.shape[0] > 1 else 0, n] @ weights
    return result


@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('form', [*FORMS, None])
def test_both_forms_are_the_formula_of_the_paper(arrays, form, shared, demodulate):
    x, kernel, style = arrays(shared)
    with jax.enable_x64(True):
        y = modulated_dense(x, kernel, style, demodulate=demodulate, form=form)
    np.testing.assert_allclose(y, by_loops(x, kernel, style, demodulate), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('shared', [True, False])
def test_a_style_per_pixel_is_each_pixel_in_its_own_style(arrays, shared, demodulate):
    x, kernel, style = arrays(shared, per_pixel=True)
    with jax.enable_x64(True):
        y = modulated_dense(x, kernel, style, demodulate=demodulate)
    np.testing.assert_allclose(y, by_loops(x, kernel, style, demodulate), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('shared', [True, False])
def test_gradients_and_second_derivatives_of_both_forms_are_equal(arrays, shared, demodulate):
    def derivatives(form):
        def loss(arguments):
            return jnp.sum(jnp.sin(modulated_dense(*arguments, demodulate=demodulate, form=form)))

        def sharpness(arguments):
            return sum(jnp.sum(jnp.square(g)) for g in jax.grad(loss)(arguments))

        arguments = tuple(map(jnp.asarray, arrays(shared)))
        return jax.grad(loss)(arguments), jax.grad(sharpness)(arguments)

    with jax.enable_x64(True):
        of_weights, of_activations = derivatives('weights'), derivatives('activations')
    for a, b in zip(*map(jax.tree.leaves, (of_weights, of_activations)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_demodulation_gives_unit_variance_for_any_size_of_style(arrays):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 4_000, 16)).astype(np.float32)
    kernel = rng.normal(size=(16, 8)).astype(np.float32)
    style = (100 * rng.normal(size=(2, 16))).astype(np.float32)
    np.testing.assert_allclose(np.std(modulated_dense(x, kernel, style), axis=1), 1, atol=0.06)


def test_dtype_is_that_of_the_result_and_of_the_matmul_only(arrays):
    x, kernel, style = map(jnp.asarray, arrays(dtype=np.float32))
    for form in FORMS:
        y = modulated_dense(x, kernel, style, form=form, dtype=jnp.bfloat16)
        assert y.dtype == jnp.bfloat16
        np.testing.assert_allclose(
            y.astype(np.float32), by_loops(*arrays(), True), rtol=0.03, atol=0.05
        )


def test_what_the_forms_cannot_do_is_an_error_that_names_them(arrays):
    with pytest.raises(ValueError, match=r"form must be one of \('weights', 'activations'\).*'x'"):
        modulated_dense(*arrays(), form='x')
    with pytest.raises(ValueError, match='one style per sample'):
        modulated_dense(*arrays(per_pixel=True), form='weights')


IMAGE = np.random.default_rng(2).normal(size=(2, 5, 6, 4))
KERNEL = np.random.default_rng(3).normal(size=(3, 3, 4, 3))
STYLE = np.random.default_rng(4).normal(size=(2, 4))
FIR = setup_filter((1, 3, 3, 1))


def conv_by_images(demodulate, up, gain, eps=1e-8):
    """One image after the other, with its own kernel, upsampled between zeros."""
    images = []
    for x, style in zip(IMAGE, STYLE, strict=True):
        kernel = style[None, None, :, None] * KERNEL
        if demodulate:
            kernel = kernel / np.sqrt(np.sum(kernel**2, (0, 1, 2)) + eps)
        x = jnp.asarray(gain * x)[None]
        if up > 1:  # All padding comes first: one for the kernel, the others for the filter.
            x = upfirdn2d(x, FIR, up=up, padding=((3, 2), (3, 2)), gain=up**2)
        images.append(
            jax.lax.conv_general_dilated(
                x,
                kernel,
                (1, 1),
                'SAME' if up == 1 else 'VALID',
                dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            )
        )
    return np.concatenate(images)


@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('up', [1, 2])
@pytest.mark.parametrize('form', FORMS)
def test_a_modulated_convolution_is_each_image_with_its_own_kernel(form, up, demodulate):
    with jax.enable_x64(True):
        y = jax.jit(
            lambda x, kernel, style: modulated_conv2d(
                x, kernel, style, demodulate=demodulate, f=FIR, up=up, padding=1, form=form,
                input_gain=0.7,
            )
        )(IMAGE, KERNEL, STYLE)  # fmt: skip
        expected = conv_by_images(demodulate, up, gain=0.7)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)


def test_both_forms_of_a_modulated_convolution_have_the_same_second_derivatives():
    def sharpness(form):
        def loss(arguments):
            y = modulated_conv2d(*arguments, f=FIR, up=2, padding=1, flip_kernel=True, form=form)
            return jnp.sum(jnp.sin(y))

        def squared(arguments):
            return sum(jnp.sum(g**2) for g in jax.grad(loss)(arguments))

        return jax.jit(jax.grad(squared))((IMAGE, KERNEL, STYLE))

    with jax.enable_x64(True):
        both = sharpness('weights'), sharpness('activations')
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * np.abs(a).max())


def test_a_demodulated_convolution_of_unit_variance_has_unit_variance():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 32, 32, 16)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 16, 8)).astype(np.float32)
    style = (100 * rng.normal(size=(2, 16))).astype(np.float32)
    for arguments in ((kernel, style), normalize_modulation(kernel, style)):
        y = modulated_conv2d(x, *arguments)
        np.testing.assert_allclose(np.std(y, axis=(1, 2)), 1, atol=0.1)


def test_neither_kernel_nor_style_has_a_scale_before_stylegan3_demodulates():
    kernel, style = normalize_modulation(KERNEL, STYLE)
    np.testing.assert_allclose(np.mean(np.square(kernel), (0, 1, 2)), 1, rtol=1e-5)
    assert np.mean(np.square(style)) == pytest.approx(1, rel=1e-5)
    for same in (normalize_modulation(3 * KERNEL, STYLE), normalize_modulation(KERNEL, 5 * STYLE)):
        np.testing.assert_allclose(same[0], kernel, rtol=1e-5)
        np.testing.assert_allclose(same[1], style, rtol=1e-5)


def test_the_shape_decides_between_the_forms_of_a_convolution():
    x, style = np.zeros((2, 8, 8, 16), np.float32), np.ones((2, 16), np.float32)

    def is_per_image(side, pixels):
        kernel = np.zeros((side, side, 16, 4), np.float32)
        function = jax.jit(lambda x: modulated_conv2d(x, kernel, style, padding=side // 2))
        text = function.lower(x[:, :pixels, :pixels]).as_text()
        return 'batching_dims = [0] x [0]' in text

    assert is_per_image(1, 8)
    assert not is_per_image(1, 3)  # fewer pixels than channels
    assert not is_per_image(3, 8)
