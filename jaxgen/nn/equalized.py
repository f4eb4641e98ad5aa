"""Layers with equalised learning rate (Karras et al. 2018, section 4.1).

A kernel is stored with unit variance and scaled at run time by lr_multiplier/√fan_in, so that one
Adam step moves every layer by the same share. `dtype` is that of the matmul and of the result;
None keeps the wider of input's and parameters'.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.ops.activations import activation


class EqualizedDense(nn.Module):
    """y = act(x · kernel·m/√in + bias·m), m = lr_multiplier; `[..., in]` to `[..., features]`."""

    features: int
    use_bias: bool = True
    bias_init: float = 0.0
    lr_multiplier: float = 1.0
    activation: str = 'linear'
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        init = nn.initializers.normal(1 / self.lr_multiplier)
        kernel = self.param('kernel', init, (fan_in, self.features))
        kernel = kernel * (self.lr_multiplier / math.sqrt(fan_in))
        dtype = self.dtype or jnp.result_type(x, kernel)
        y = x.astype(dtype) @ kernel.astype(dtype)
        if self.use_bias:
            bias = self.param('bias', nn.initializers.constant(self.bias_init), (self.features,))
            bias = (bias * self.lr_multiplier).astype(dtype)
            y = y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
        return activation(self.activation)(y)


class EqualizedConv(nn.Module):
    """Convolution `[B, H, W, in]` to `[B, H', W', features]`, scaled by 1/√(in·kernel_size²)."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    activation: str = 'linear'
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        side, channels = self.kernel_size, x.shape[-1]
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, self.features)
        )
        kernel = kernel * (1 / math.sqrt(channels * side**2))
        dtype = self.dtype or jnp.result_type(x, kernel)
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        if side == 1 and self.stride == 1:
            y = x @ kernel[0, 0]
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=((self.padding, self.padding),) * 2,
                dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            )
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
            y = y + bias.astype(dtype)[None, None, None, :]
        return activation(self.activation)(y)
