"""The non-saturating logistic loss (Goodfellow et al. 2014), written with softplus.

    -log σ(d) = softplus(-d)        -log(1 - σ(d)) = softplus(d)

Scores are `[B]`; every loss is the mean over them, so the mean over devices is the whole mean.
"""

import jax
import jax.numpy as jnp


def discriminator_logistic(real: jax.Array, fake: jax.Array) -> jax.Array:
    """mean softplus(-real) + mean softplus(fake), a scalar."""
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def generator_non_saturating(fake: jax.Array) -> jax.Array:
    """mean softplus(-fake), a scalar."""
    return jnp.mean(jax.nn.softplus(-fake))
