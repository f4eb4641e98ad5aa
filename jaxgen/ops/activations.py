"""Activations of the papers. Channels last; every function keeps the shape of its input.

`leaky_relu` takes the slope at exactly 0, as the reference implementations do
(`jax.nn.leaky_relu` has gradient 1 there); only tests at 0 can tell.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

SQRT2 = math.sqrt(2)


def leaky_relu(x: jax.Array, slope: float = 0.2, gain: float = SQRT2) -> jax.Array:
    """Leaky ReLU times `gain`, which keeps the variance of a normal input near one (StyleGAN2)."""
    return jnp.where(x > 0, gain * x, gain * slope * x)


def sin(x: jax.Array) -> jax.Array:
    """Plain sine, gain 1 (the CIPS ablation with sine in every layer)."""
    return jnp.sin(x)


def sinrelu(x: jax.Array) -> jax.Array:
    """√2·[leaky ReLU of the even channels, sine of the odd ones], concatenated in that order."""
    return SQRT2 * jnp.concatenate(
        [leaky_relu(x[..., 0::2], gain=1.0), jnp.sin(x[..., 1::2])], axis=-1
    )


def linear(x: jax.Array) -> jax.Array:
    """The identity."""
    return x


_BY_NAME = {'lrelu': leaky_relu, 'sin': sin, 'sinrelu': sinrelu, 'linear': linear}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation called `name`: 'lrelu', 'sin', 'sinrelu' or 'linear'; else ValueError."""
    if name not in _BY_NAME:
        raise ValueError(f'activation must be one of {sorted(_BY_NAME)}, got {name!r}')
    return _BY_NAME[name]
