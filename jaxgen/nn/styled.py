"""Layers steered by a style w: `[B, W]`, or `[B, N, W]` with a style per pixel.

Activations are lists of pixels `[B or 1, N, C]`.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedDense
from jaxgen.ops.activations import activation
from jaxgen.ops.modulation import modulated_dense


class ModulatedDense(nn.Module):
    """Modulated fully connected layer (CIPS eq. 4): style s = affine(w) with bias 1."""

    features: int
    demodulate: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param('kernel', nn.initializers.normal(1.0), (channels, self.features))
        style = EqualizedDense(channels, bias_init=1.0, name='affine')(w)
        return modulated_dense(
            x,
            kernel * (1 / math.sqrt(channels)),
            style,
            demodulate=self.demodulate,
            dtype=self.dtype,
        )


class StyledDense(ModulatedDense):
    """ModFC, then scaled noise, bias and activation.

    `use_noise` adds the learned strength `noise_scale` (0 at first); the noise itself is given,
    `[B or 1, N, 1]`, or None for none.
    """

    use_noise: bool = False
    activation: str = 'lrelu'

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        y = super().__call__(x, w)
        if self.use_noise:
            scale = self.param('noise_scale', nn.initializers.zeros, ())
            if noise is not None:
                y = y + (scale * noise).astype(y.dtype)
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return activation(self.activation)(y + bias.astype(y.dtype)[None, None, :])


class ToRGB(ModulatedDense):
    """Features to colour: modulated without demodulation, plus bias. `[B, N, C]` to `[B, N, 3]`."""

    features: int = 3
    demodulate: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        y = super().__call__(x, w)
        return y + bias.astype(y.dtype)[None, None, :]
