"""Convolution with resampling against the three steps one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops import convolution
from jaxgen.ops.convolution import conv2d_resample, convolve
from jaxgen.ops.upfirdn2d import (
    add_padding,
    downsampling_padding,
    padding_of,
    setup_filter,
    upfirdn2d,
    upsampling_padding,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 5, 4))
KERNELS = {k: RNG.normal(size=(k, k, 4, 3)) for k in (1, 2, 3)}
FIR = setup_filter((1, 3, 3, 1))


def in_three_steps(x, kernel, f, up, down, padding, flip_kernel):
    """Upsampled, convolved and downsampled at the full rate."""
    kernel = kernel[::-1, ::-1] if flip_kernel else kernel
    if up > 1:
        padding = add_padding(padding, upsampling_padding(f, up))
    if down > 1:
        padding = add_padding(padding, downsampling_padding(f, down))
    x = upfirdn2d(x, f if up > 1 else None, up=up, padding=padding, gain=up**2)
    x = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return upfirdn2d(x, f if down > 1 else None, down=down)


@pytest.mark.parametrize('flip_kernel', [False, True])
@pytest.mark.parametrize('padding', [1, ((0, 2), (1, -1))])
@pytest.mark.parametrize(('up', 'down'), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (3, 2)])
@pytest.mark.parametrize('side', [1, 2, 3])
def test_is_upsampling_convolution_and_downsampling(side, up, down, padding, flip_kernel):
    kernel = KERNELS[side]
    with jax.enable_x64(True):
        arguments = dict(up=up, down=down, padding=padding, flip_kernel=flip_kernel)
        expected, y, each = jax.jit(
            lambda x, kernel: (
                in_three_steps(x, kernel, FIR, **arguments),
                conv2d_resample(x, kernel, FIR, **arguments),
                conv2d_resample(x, jnp.stack([kernel] * 2), FIR, **arguments),
            )
        )(X, kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(each, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('up', [1, 2])
def test_a_kernel_for_each_image_is_each_image_by_itself(up):
    kernels = jnp.asarray(RNG.normal(size=(2, 3, 3, 4, 3)).astype(np.float32))
    x = jnp.asarray(X.astype(np.float32))
    both = conv2d_resample(x, kernels, FIR, up=up, padding=1)
    for i in range(2):
        one = conv2d_resample(x[i : i + 1], kernels[i], FIR, up=up, padding=1)
        np.testing.assert_allclose(both[i : i + 1], one, rtol=1e-4, atol=1e-4)


def test_groups_keep_their_channels_apart():
    kernel = RNG.normal(size=(3, 3, 2, 6))
    with jax.enable_x64(True):
        y = conv2d_resample(jnp.asarray(X), jnp.asarray(kernel), FIR, up=2, padding=1, groups=2)
        for i in range(2):
            part = conv2d_resample(
                jnp.asarray(X[..., 2 * i : 2 * i + 2]),
                jnp.asarray(kernel[..., 3 * i : 3 * i + 3]),
                FIR,
                up=2,
                padding=1,
            )
            np.testing.assert_allclose(y[..., 3 * i : 3 * i + 3], part, rtol=1e-11, atol=1e-11)


def test_second_derivatives_are_those_of_the_three_steps():
    def penalty(apply):
        def gradient(kernel):
            return jax.grad(lambda k: jnp.sum(jnp.sin(apply(jnp.asarray(X), k)) ** 3))(kernel)

        return jax.jit(jax.grad(lambda k: jnp.sum(gradient(k) ** 2)))(KERNELS[3])

    arguments = dict(up=2, down=1, padding=1, flip_kernel=True)
    with jax.enable_x64(True):
        ours = penalty(lambda x, k: conv2d_resample(x, k, FIR, **arguments))
        theirs = penalty(lambda x, k: in_three_steps(x, k, FIR, **arguments))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_there_is_never_a_grouped_convolution_for_kernels_of_each_image():
    kernels = np.zeros((2, 3, 3, 4, 3), np.float32)
    text = jax.jit(lambda x, k: convolve(x, k, padding=1)).lower(X.astype(np.float32), kernels)
    assert 'stablehlo.convolution' not in text.as_text()


@pytest.mark.parametrize(
    ('stride', 'padding'),
    [
        (1, 2),
        (1, ((2, 1), (1, 1))),
        (1, ((1, 2), (0, 2))),
        (1, ((3, 0), (1, 1))),
        (2, 0),
        (2, ((1, 0), (2, 1))),
        (3, 1),
    ],
)
def test_resizing_convolutions_have_the_derivatives_of_any_other(stride, padding):
    """First and second ones, of a padded and a subsampled convolution that JAX differentiates."""
    padding = padding_of(padding)

    def plain(x, kernel):
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        return y[:, ::stride, ::stride]

    def derivatives(apply):
        def loss(arguments):
            return jnp.sum(jnp.sin(apply(*arguments)))

        def sharpness(arguments):
            return sum(jnp.sum(g**2) for g in jax.grad(loss)(arguments))

        return jax.jit(lambda a: (apply(*a), jax.grad(loss)(a), jax.grad(sharpness)(a)))(
            (X, KERNELS[3])
        )

    with jax.enable_x64(True):
        both = (
            derivatives(lambda x, kernel: convolve(x, kernel, stride=stride, padding=padding)),
            derivatives(plain),
        )
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(('side', 'stride'), [(6, 1), (7, 2)])
def test_with_many_channels_the_derivatives_are_those_of_any_other(monkeypatch, side, stride):
    """The kernel's gradient is a product for each tap then, also under R1's second derivative."""
    monkeypatch.setattr(convolution, '_takes_products', lambda *arguments: True)
    kernel = RNG.normal(size=(3, 3, 4, 5))
    padding = ((1, 1), (1, 1)) if stride == 1 else ((0, 0), (0, 0))

    def ours(x, kernel):
        return convolve(x, kernel, stride=stride, padding=padding)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    def derivatives(apply):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(apply(x, kernel)))

        def penalty(kernel):
            return jnp.sum(jax.grad(loss)(x, kernel) ** 2)

        return jax.jit(lambda: (*jax.grad(loss, (0, 1))(x, kernel), jax.grad(penalty)(kernel)))

    with jax.enable_x64(True):
        x, kernel = jnp.asarray(RNG.normal(size=(2, side, side, 4))), jnp.asarray(kernel)
        assert derivatives(ours).lower().as_text().count('dot_general') >= 9
        for a, b in zip(derivatives(ours)(), derivatives(plain)(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_many_are_128_channels_on_a_thousand_pixels_or_32_with_a_stride():
    def many(side, channels, stride):
        y, kernel = jnp.zeros((1, side, side, 1)), jnp.zeros((3, 3, *channels))
        return convolution._takes_products(y, kernel, stride)

    assert many(32, (128, 512), 1)
    assert not many(31, (512, 512), 1)
    assert not many(64, (512, 127), 1)
    assert many(4, (32, 48), 2)
    assert not many(64, (48, 31), 2)


@pytest.mark.parametrize('each', [False, True])
def test_products_of_pixels_are_those_of_matrices(each):
    x = RNG.normal(size=(2, 3, 4, convolution.MANY))
    kernel = RNG.normal(size=(2, convolution.MANY, 40))
    expected = np.einsum('bhwc,bcd->bhwd', x, kernel if each else kernel[[0, 0]])
    with jax.enable_x64(True):
        y, pull = jax.vjp(convolution.pointwise, x, kernel if each else kernel[0])
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        of_x, of_kernel = pull(y)
    np.testing.assert_allclose(
        of_x, np.einsum('bhwd,bcd->bhwc', expected, kernel if each else kernel[[0, 0]]), rtol=1e-11
    )
    wanted = np.einsum('bhwc,bhwd->bcd', x, expected)
    np.testing.assert_allclose(of_kernel, wanted if each else wanted.sum(0), rtol=1e-11)


@pytest.mark.parametrize(('side', 'stride'), [(6, 1), (6, 2), (7, 2), (8, 3)])
def test_without_padding_a_cpu_drops_what_it_added(side, stride):
    channels = convolution.MANY
    x = RNG.normal(size=(2, side, side, channels))
    kernel = RNG.normal(size=(3, 3, channels, channels))
    with jax.enable_x64(True):
        compiled = jax.jit(lambda x, k: convolve(x, k, stride=stride)).lower(x, kernel).compile()
        expected = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        assert 'pad=0_1x0_0' in compiled.as_text()
        np.testing.assert_allclose(compiled(x, kernel), expected, rtol=1e-12, atol=1e-11)
