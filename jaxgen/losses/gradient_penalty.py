"""R1: the squared gradient of the discriminator at real images (Mescheder et al. 2018, eq. 9)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def r1(score: Callable[[Any], jax.Array], inputs: Any) -> jax.Array:
    """mean over the batch of ‖∂score_b/∂inputs_b‖².

    Args:
      score: from inputs to `[B]` scores.
      inputs: array `[B, ...]`, or a pytree of them (images and coordinates, where the
        discriminator takes both).

    Returns:
      A scalar, without the factor γ/2. The gradient of the *sum* of scores is taken, as published:
      with minibatch statistics a score also depends on its neighbours' inputs.
    """
    gradients = jax.grad(lambda x: jnp.sum(score(x).astype(jnp.float32)))(inputs)
    leaves = jax.tree.leaves(gradients)
    return sum(jnp.sum(jnp.square(g)) for g in leaves) / leaves[0].shape[0]
