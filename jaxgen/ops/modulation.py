"""Modulated layers: a linear map whose input channels are scaled by a style.

    paper (StyleGAN2 eqs. 1, 3; CIPS eq. 4):  W'_ij = s_i W_ij,   W''_ij = W'_ij/√(Σ_i W'_ij² + ε)
    form 'weights':      y = x W''                            one [C, D] matrix per style
    form 'activations':  y = ((x·s) W) · rsqrt(s² W² + ε)     the weights are shared

Both are the same function. Per-sample weights touch each activation once, so they are faster with
many pixels per style; scaling activations needs no [B, C, D] copies and takes a style per pixel.
Kernels are [in, out], already scaled for equalised learning rate, or [k, k, in, out] of a
convolution, where the sums over i also go over the taps.
"""

import jax
import jax.numpy as jnp

from jaxgen.ops.convolution import conv2d_resample
from jaxgen.ops.upfirdn2d import Filter, Padding

FORMS = ('weights', 'activations')


def modulated_dense(
    x: jax.Array,
    kernel: jax.Array,
    style: jax.Array,
    *,
    demodulate: bool = True,
    eps: float = 1e-8,
    form: str | None = None,
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Modulates, multiplies and demodulates.

    Args:
      x: `[B or 1, N, C]` activations; a leading 1 is shared by all styles.
      kernel: `[C, D]`.
      style: `[B, C]`, or `[B, N, C]` for a style per pixel.
      demodulate: restores unit variance of the output under the assumption of unit-variance input.
      form: 'weights' or 'activations'; by default the shape decides: 'weights' if style is per
        sample and there are at least as many pixels as channels.
      dtype: of the large matmul and the result; styles and demodulation stay in the kernel's.

    Returns:
      `[B, N, D]`.
    """
    dtype = dtype or jnp.result_type(x, kernel)
    if form is None:
        form = 'weights' if style.ndim == 2 and x.shape[1] >= x.shape[2] else 'activations'
    if form not in FORMS:
        raise ValueError(f'form must be one of {FORMS}, got {form!r}')
    if form == 'weights' and style.ndim != 2:
        raise ValueError("form 'weights' takes one style per sample, got a style per pixel")

    if demodulate:
        scale = jax.lax.rsqrt(jnp.square(style) @ jnp.square(kernel) + eps)
    if form == 'weights':
        weights = style[:, :, None] * kernel[None]
        if demodulate:
            weights = weights * scale[:, None, :]
        x, weights = x.astype(dtype), weights.astype(dtype)
        if x.shape[0] == 1:
            return jnp.einsum('nc,bcd->bnd', x[0], weights)
        return jnp.einsum('bnc,bcd->bnd', x, weights)
    if style.ndim == 2:
        style = style[:, None, :]
        scale = scale[:, None, :] if demodulate else None
    y = (x.astype(dtype) * style.astype(dtype)) @ kernel.astype(dtype)
    return y * scale.astype(dtype) if demodulate else y


def modulated_conv2d(
    x: jax.Array,
    kernel: jax.Array,
    style: jax.Array,
    *,
    demodulate: bool = True,
    input_gain: jax.Array | None = None,
    eps: float = 1e-8,
    f: Filter = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    flip_kernel: bool = False,
    flip: bool = False,
    form: str | None = None,
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Modulates, convolves with resampling, and demodulates.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[k, k, C, D]`.
      style: `[B, C]`.
      input_gain: scales the input without taking part in the demodulation (StyleGAN3); a scalar,
        `[C]` or `[B, C]`.
      f, up, down, padding, flip_kernel, flip: see `ops.convolution.conv2d_resample`.
      form: 'weights' or 'activations'; by default 'weights' for 1×1 kernels if there are at least
        as many pixels as channels.
      dtype: of the convolution and the result; styles and demodulation stay in the kernel's.

    Returns:
      `[B, H', W', D]`.
    """
    dtype = dtype or jnp.result_type(x, kernel)
    if form is None:
        pixels = x.shape[1] * x.shape[2]
        many = kernel.shape[:2] == (1, 1) and pixels >= x.shape[3]
        form = 'weights' if many else 'activations'
    if form not in FORMS:
        raise ValueError(f'form must be one of {FORMS}, got {form!r}')
    resample = dict(f=f, up=up, down=down, padding=padding, flip_kernel=flip_kernel, flip=flip)

    if demodulate:
        scale = jax.lax.rsqrt(jnp.square(style) @ jnp.square(kernel).sum((0, 1)) + eps)
    if input_gain is not None:
        gain = jnp.asarray(input_gain)
        style = style * (gain if gain.ndim == 2 else gain.reshape(1, -1))
    if form == 'weights':
        weights = style[:, None, None, :, None] * kernel[None]
        if demodulate:
            weights = weights * scale[:, None, None, None, :]
        return conv2d_resample(x.astype(dtype), weights.astype(dtype), **resample)
    x = x.astype(dtype) * style.astype(dtype)[:, None, None, :]
    y = conv2d_resample(x, kernel.astype(dtype), **resample)
    return y * scale.astype(dtype)[:, None, None, :] if demodulate else y


def normalize_modulation(kernel: jax.Array, style: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Kernel and style as StyleGAN3 demodulates them (its appendix): neither has a scale.

    Each output channel of `kernel [k, k, C, D]` gets a mean square of 1, and so does `style [B, C]`
    over channels *and* batch. Demodulation undoes the latter but for its ε.
    """
    kernel = kernel * jax.lax.rsqrt(jnp.mean(jnp.square(kernel), (0, 1, 2), keepdims=True))
    return kernel, style * jax.lax.rsqrt(jnp.mean(jnp.square(style)))
