"""The filtered nonlinearity against its four steps, and against what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.filtered_lrelu import filtered_lrelu
from jaxgen.ops.lowpass import lowpass
from jaxgen.ops.upfirdn2d import upfirdn2d

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 9, 8, 3))
BIAS = RNG.normal(size=3)
UP, DOWN = lowpass(12, 4.0, 8.0, 32.0), lowpass(12, 4.0, 8.0, 32.0, radial=True)
ARGUMENTS = dict(up=2, down=2, padding=((11, 10), (9, 12)), slope=0.3, gain=1.3, limit=0.8)


def in_four_steps(x, bias):
    y = upfirdn2d(x + bias[None, None, None], UP, up=2, padding=ARGUMENTS['padding'], gain=4.0)
    y = 1.3 * jnp.where(y > 0, y, 0.3 * y)
    return upfirdn2d(jnp.clip(y, -0.8, 0.8), DOWN, down=2)


@pytest.mark.parametrize('remat', [False, True])
def test_value_and_derivatives_are_those_of_the_four_steps(remat):
    def ours(x, bias):
        return filtered_lrelu(x, UP, DOWN, bias, remat=remat, **ARGUMENTS)

    def derivatives(apply):
        def loss(arguments):
            return jnp.sum(jnp.sin(apply(*arguments)))

        def sharpness(arguments):
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(arguments)))

        return jax.jit(lambda a: (apply(*a), jax.grad(loss)(a), jax.grad(sharpness)(a)))((X, BIAS))

    with jax.enable_x64(True):
        for a, b in zip(
            *map(jax.tree.leaves, map(derivatives, (ours, in_four_steps))), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def residuals(remat):
    """Bytes of images that the forward pass keeps for the backward pass."""
    pull = jax.eval_shape(
        lambda x: jax.vjp(
            lambda x: filtered_lrelu(x, UP, DOWN, up=2, down=2, remat=remat),
            x,
        )[1],
        jnp.zeros((1, 32, 32, 8)),
    )
    return sum(leaf.size * 4 for leaf in jax.tree.leaves(pull) if leaf.ndim == 4)


def test_the_upsampled_features_are_not_kept_if_computed_again():
    assert residuals(remat=True) <= 32 * 32 * 8 * 4
    assert residuals(remat=False) > 2 * 32 * 32 * 8 * 4


def test_what_a_nonlinearity_adds_above_the_cutoff_does_not_come_back_as_aliasing():
    """A wave below the cutoff, moved by half a pixel: the filtered nonlinearity moves with it."""

    def wave(shift):
        phase = 2 * np.pi * 3.0 * (np.arange(32) - shift) / 16
        return jnp.asarray(np.broadcast_to(np.sin(phase)[None, None, :, None], (1, 32, 32, 1)))

    def moved_by_half(apply):
        # Twice as fine, the results lie on each other's samples.
        fine = [upfirdn2d(apply(wave(s)), UP, up=2, padding=6, gain=4.0) for s in (0.0, 0.5)]
        return np.abs(fine[0][0, 24:40, 23:39] - fine[1][0, 24:40, 24:40]).max()

    filtered = moved_by_half(
        lambda x: filtered_lrelu(x, UP, lowpass(12, 4.0, 8.0, 32.0), up=2, down=2, padding=11)
    )
    plain = moved_by_half(lambda x: np.sqrt(2) * jnp.where(x > 0, x, 0.2 * x))
    assert filtered < 0.25 * plain
