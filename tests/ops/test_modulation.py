"""Modulation against the formula of the paper, and its two forms against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.modulation import FORMS, modulated_dense

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
