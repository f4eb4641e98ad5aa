"""Modulated dense layers: a linear map whose input channels are scaled by a style.

    paper (StyleGAN2 eqs. 1, 3; CIPS eq. 4):  W'_ij = s_i W_ij,   W''_ij = W'_ij/√(Σ_i W'_ij² + ε)
    form 'weights':      y = x W''                            one [C, D] matrix per style
    form 'activations':  y = ((x·s) W) · rsqrt(s² W² + ε)     the weights are shared

Both are the same function. Per-sample weights touch each activation once, so they are faster with
many pixels per style; scaling activations needs no [B, C, D] copies and takes a style per pixel.
Kernels are [in, out], already scaled for equalised learning rate.
"""

import jax
import jax.numpy as jnp

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
