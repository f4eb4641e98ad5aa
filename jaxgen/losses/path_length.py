"""Path length regularisation (StyleGAN2, 1912.04958, section 3.2): a step in W moves the image by
a fixed amount, in whatever direction.

    a = ‖Jᵀ y‖, J = ∂image/∂w, y normal noise;   penalty = (a - mean)²,   mean ← running mean of a
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def path_lengths(
    synthesize: Callable[[jax.Array], jax.Array], w: jax.Array, noise: jax.Array
) -> jax.Array:
    """Path length `[B]` of each example, by one reverse pass; differentiable once more.

    Args:
      synthesize: from `w` to images `[B, H, W, C]`, without anything random.
      w: `[B, ..., style]`, with an axis of layers if they have styles of their own: then the
        root of the mean over them of the squared norms.
      noise: `[B, H, W, C]`, standard normal; scaled here by 1/√(HW), so that lengths do not
        depend on the resolution.
    """
    image, pull_back = jax.vjp(synthesize, w)
    noise = noise / math.sqrt(image.shape[1] * image.shape[2])
    (gradient,) = pull_back(noise.astype(image.dtype))
    gradient = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    squares = jnp.sum(jnp.square(gradient), axis=-1)
    return jnp.sqrt(jnp.mean(squares.reshape(squares.shape[0], -1), axis=1))


def path_length_penalty(
    lengths: jax.Array,
    mean: jax.Array,
    decay: float = 0.01,
    *,
    over_devices: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> tuple[jax.Array, jax.Array]:
    """Penalty `[B]`, and the running mean after it, for the state.

    Args:
      lengths: `[B]`. mean: scalar, 0 at the start of a run.
      decay: what one batch adds to the running mean.
      over_devices: the mean over devices that hold other parts of the batch (`lax.pmean`; the
        gradient goes through it): the running mean is then one and the same on all of them.

    The penalty is against the new mean and differentiates through this batch's part of it, as
    published; the mean that is returned carries no gradient.
    """
    mean = mean + decay * (over_devices(jnp.mean(lengths)) - mean)
    return jnp.square(lengths - mean), jax.lax.stop_gradient(mean)


def shrink_batch(batch: PyTree, shrink: int = 2) -> PyTree:
    """Every `shrink`-th example of arrays `[B, ...]`: the penalty takes memory for two passes.

    Not the first ones, as in the published code: examples stay on the devices that hold them.
    """
    return jax.tree.map(lambda x: x[::shrink], batch)
