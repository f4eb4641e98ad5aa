"""Layers with equalised learning rate (Karras et al. 2018, section 4.1).

A kernel is stored with unit variance and scaled at run time by lr_multiplier/√fan_in, so that one
Adam step moves every layer by the same share. `dtype` is that of the matmul and of the result;
None keeps the wider of input's and parameters'.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.ops.activations import activation, bias_act
from jaxgen.ops.convolution import conv2d_resample
from jaxgen.ops.upfirdn2d import setup_filter


class EqualizedDense(nn.Module):
    """y = act(x · kernel·m/√in + bias·m), m = lr_multiplier; `[..., in]` to `[..., features]`.

    `kernel_scale` is the deviation of the used kernel at the start, times √in; `bias_init` may be
    one number for each feature.
    """

    features: int
    use_bias: bool = True
    bias_init: float | tuple[float, ...] = 0.0
    lr_multiplier: float = 1.0
    activation: str = 'linear'
    dtype: jnp.dtype | None = None
    kernel_scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        init = nn.initializers.normal(self.kernel_scale / self.lr_multiplier)
        kernel = self.param('kernel', init, (fan_in, self.features))
        kernel = kernel * (self.lr_multiplier / math.sqrt(fan_in))
        dtype = self.dtype or jnp.result_type(x, kernel)
        y = x.astype(dtype) @ kernel.astype(dtype)
        if self.use_bias:
            start = jnp.asarray(self.bias_init)
            bias = self.param('bias', nn.initializers.constant(start), (self.features,))
            bias = (bias * self.lr_multiplier).astype(dtype)
            y = y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
        return activation(self.activation)(y)


class EqualizedConv(nn.Module):
    """Convolution `[B, H, W, in]` to `[B, H', W', features]`, scaled by 1/√(in·kernel_size²).

    Images keep their size, unless they are made `up` times larger before or `down` times smaller
    after the convolution, through `resample_filter`. `clamp` limits the result's magnitude.
    """

    features: int
    kernel_size: int = 3
    up: int = 1
    down: int = 1
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    use_bias: bool = True
    activation: str = 'linear'
    clamp: float | None = None
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        side, channels = self.kernel_size, x.shape[-1]
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, self.features)
        )
        kernel = kernel * (1 / math.sqrt(channels * side**2))
        dtype = self.dtype or jnp.result_type(x, kernel)
        y = conv2d_resample(
            x.astype(dtype),
            kernel.astype(dtype),
            setup_filter(self.resample_filter),
            up=self.up,
            down=self.down,
            padding=side // 2,
            # As published: a true convolution where it upsamples.
            flip_kernel=self.up > 1,
        )
        bias = None
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return bias_act(y, bias, kind=self.activation, limit=self.clamp)
