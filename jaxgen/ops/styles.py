"""Styles as vectors: mixing two of them over the layers, and their distribution in W."""

import jax
import jax.numpy as jnp
import numpy as np


def draw_cuts(keys: jax.Array, num_ws: int, probability: float) -> jax.Array:
    """`[B]` cuts from `[B]` keys: uniform from 1 to num_ws - 1, or num_ws for no mixing.

    Style mixing (StyleGAN, 1812.04948, section 3.1). Each example has its own cut; the published
    code draws one for the batch of a GPU.
    """

    def one(key: jax.Array) -> jax.Array:
        place, chance = jax.random.split(key)
        cut = jax.random.randint(place, (), 1, num_ws)
        return jnp.where(jax.random.uniform(chance) < probability, cut, num_ws)

    return jax.vmap(one)(keys)


def mix_styles(w: jax.Array, other: jax.Array, cuts: jax.Array) -> jax.Array:
    """`w` before the cut and `other` from there on, both `[B, num_ws, style]`; cuts `[B]`."""
    first = np.arange(w.shape[1])[None, :] < cuts[:, None]
    return jnp.where(first[:, :, None], w, other)


def style_statistics(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean `[style]` of `w [N, style]`, and the root mean square distance to it, a scalar.

    The unit of noise when an image is projected to W (StyleGAN2, 1912.04958, appendix D).
    """
    mean = jnp.mean(w, axis=0)
    return mean, jnp.sqrt(jnp.mean(jnp.sum(jnp.square(w - mean[None]), axis=1)))
