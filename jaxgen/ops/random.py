"""Randomness per example and per coordinate, whatever the number of devices.

The key of example i of the global batch is `fold_in(step_key, i)`: the same on 1 or 8 devices.
"""

import jax
import jax.numpy as jnp


def per_example_keys(key: jax.Array, slot: jax.Array) -> jax.Array:
    """`[B]` keys from one key and the examples' global indices `slot [B]`."""
    return jax.vmap(lambda s: jax.random.fold_in(key, s))(slot)


def normal_per_example(key: jax.Array, slot: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, *shape]` standard normal numbers, row b a function of `key` and `slot[b]` alone."""
    return jax.vmap(lambda k: jax.random.normal(k, shape))(per_example_keys(key, slot))


def normal_at(key: jax.Array, coords: jax.Array) -> jax.Array:
    """`[N]` standard normal numbers, each a function of `key` and the coordinate's bits alone.

    So noise does not depend on which other pixels are rendered with it. `coords` is `[N, 2]`.
    """
    bits = jax.lax.bitcast_convert_type(coords.astype(jnp.float32), jnp.uint32)

    def one(xy: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, xy[0]), xy[1]))

    return jax.vmap(one)(bits)
