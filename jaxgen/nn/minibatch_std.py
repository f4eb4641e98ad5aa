"""Minibatch standard deviation (Karras et al. 2018, section 3): more inputs of the last conv."""

import jax
import jax.numpy as jnp

GROUPINGS = ('contiguous', 'strided')


def minibatch_std(
    x: jax.Array, *, group: int = 4, features: int = 1, grouping: str = 'contiguous'
) -> jax.Array:
    """Appends the standard deviation over groups of examples, averaged over the rest.

    Args:
      x: `[B, H, W, C]`; B at most `group` or a multiple of it, C a multiple of `features`.
      group: number of examples compared with each other.
      grouping: 'contiguous' (neighbours in the batch: nothing to communicate when devices hold
        whole groups) or 'strided' (example i with i + k·B/group, as in the published code).

    Returns:
      `[B, H, W, C + features]`.

    Raises:
      ValueError: the batch does not divide into groups.
    """
    batch, height, width, channels = x.shape
    group = min(group, batch)
    if batch % group:
        raise ValueError(
            f'the batch must be at most minibatch_std_group={group} or a multiple, got {batch}'
        )
    contiguous = grouping == 'contiguous'
    lead = (batch // group, group) if contiguous else (group, batch // group)
    axis = 1 if contiguous else 0
    # float32 at least: a variance of bfloat16 values loses all its digits.
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = y.reshape(*lead, height, width, features, channels // features)
    y = jnp.sqrt(jnp.var(y, axis=axis) + 1e-8)
    y = y.mean(axis=(1, 2, 4))
    y = jnp.broadcast_to(jnp.expand_dims(y, axis), (*lead, features)).reshape(batch, 1, 1, features)
    y = jnp.broadcast_to(y.astype(x.dtype), (batch, height, width, features))
    return jnp.concatenate([x, y], axis=-1)
