"""Activations against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.activations import activation, bias_act, clamp

X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6)


def test_leaky_relu_has_slope_a_fifth_and_gain_root_two():
    np.testing.assert_allclose(
        activation('lrelu')(X), np.sqrt(2) * np.where(X > 0, X, 0.2 * X), rtol=1e-6
    )


def test_leaky_relu_takes_the_small_slope_at_zero_as_the_published_code_does():
    assert float(jax.grad(activation('lrelu'))(0.0)) == pytest.approx(0.2 * np.sqrt(2))


def test_leaky_relu_can_be_differentiated_twice_as_r1_and_path_length_need():
    def penalty(f):
        # R1's shape: the squared gradient of a nonlinear score, differentiated by a parameter.
        def squared_gradient(weight):
            score = jax.grad(lambda x: jnp.sum(jnp.sin(weight * f(x) * x)))(X)
            return jnp.sum(score**2)

        return jax.grad(squared_gradient)(0.7)

    def formula(x):
        return np.sqrt(2) * jnp.where(x > 0, x, 0.2 * x)

    np.testing.assert_allclose(penalty(activation('lrelu')), penalty(formula), rtol=1e-5)
    hessian = jax.hessian(lambda x: jnp.sum(activation('lrelu')(x) ** 2))(jnp.array([-1.0, 2.0]))
    np.testing.assert_allclose(hessian, np.diag([2 * 2 * 0.04, 2 * 2]), rtol=1e-5)


def test_sinrelu_is_the_even_channels_rectified_then_the_odd_ones_as_sines():
    even, odd = X[:, ::2], X[:, 1::2]
    expected = np.sqrt(2) * np.concatenate([np.where(even > 0, even, 0.2 * even), np.sin(odd)], 1)
    np.testing.assert_allclose(activation('sinrelu')(X), expected, rtol=1e-5, atol=1e-6)


def test_sin_and_linear_have_no_gain():
    np.testing.assert_allclose(activation('sin')(X), np.sin(X), atol=1e-6)
    np.testing.assert_array_equal(activation('linear')(X), X)


def test_dtypes_are_kept():
    for name in ('lrelu', 'sin', 'sinrelu', 'linear', 'relu', 'swish', 'tanh', 'selu'):
        assert activation(name)(jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16


def test_an_unknown_name_is_an_error_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of \['elu', 'linear', 'lrelu', .*got 'gelu'"):
        activation('gelu')


def test_clamping_passes_the_gradient_up_to_and_including_the_ends():
    x = jnp.array([-2.0, -1.0, 0.5, 1.0, 1.5])
    np.testing.assert_array_equal(clamp(x, 1.0), [-1, -1, 0.5, 1, 1])
    np.testing.assert_array_equal(jax.grad(lambda x: clamp(x, 1.0).sum())(x), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(clamp(x, None), x)
    assert np.isnan(clamp(jnp.nan, 1.0))


def test_bias_activation_gain_and_clamp_come_in_that_order():
    bias = np.linspace(-1, 1, 6, dtype=np.float32)
    y = X + bias
    y = np.clip(0.7 * np.where(y > 0, y, 0.1 * y), -1.2, 1.2)
    ours = bias_act(X, bias, kind='lrelu', slope=0.1, gain=0.7, limit=1.2)
    np.testing.assert_allclose(ours, y, rtol=1e-6)
    rows = bias_act(X, bias[:4], axis=0)
    np.testing.assert_allclose(rows, X + bias[:4, None], rtol=1e-6)


def test_a_gain_replaces_the_default():
    for kind, default in (('relu', np.sqrt(2)), ('swish', np.sqrt(2)), ('tanh', 1.0)):
        np.testing.assert_allclose(
            bias_act(X, kind=kind, gain=3.0), activation(kind)(X) * 3 / default, rtol=1e-5
        )
