"""Inputs of unit magnitude (StyleGAN3, 2106.12423, section 3.1)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.mapping import UpdateAverage, over_devices


def input_gain(
    module: nn.Module, x: jax.Array, decay: float, update_average: UpdateAverage = False
) -> jax.Array:
    """What brings `x` to a mean square of 1: a scalar, of a running mean without a gradient.

    The mean is `magnitude` in the collection 'stats' of `module`, inside whose compact method this
    is called. It moves before it is used; see `MappingNetwork` for `update_average`.
    """
    magnitude = module.variable('stats', 'magnitude', jnp.ones, ())
    if update_average and not module.is_initializing():
        wide = jax.lax.stop_gradient(x).astype(jnp.promote_types(x.dtype, jnp.float32))
        square = over_devices(jnp.mean(jnp.square(wide)), update_average)
        magnitude.value = square + decay * (magnitude.value - square)
    return jax.lax.rsqrt(magnitude.value)
