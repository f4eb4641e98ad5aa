"""Drawing any number of images from an objective, in batches spread over all devices.

Image i of seed s is a function of (s, i) alone: asking for more keeps those that were there.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.objectives.base import Objective

Sampler = Callable[..., np.ndarray]


def make_sampler(objective: Objective, mesh: Mesh, batch: int, **options: Any) -> Sampler:
    """A function `sampler(variables, count, seed, label=None) -> float32 [count, H, W, C]`.

    Args:
      batch: images at a time over all devices.
      options: of the objective's `sample`, e.g. `truncation=0.7`.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def draw(
        variables: Any, seed: jax.Array, slot: jax.Array, label: jax.Array | None
    ) -> jax.Array:
        root = jax.random.key(seed)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(slot)
        return objective.sample(variables, keys, label, mesh=mesh, **options)

    compiled = jax.jit(draw, out_shardings=everywhere)

    def sampler(
        variables: Any, count: int, seed: int = 0, label: np.ndarray | None = None
    ) -> np.ndarray:
        images = []
        for start in range(0, count, batch):
            slot = np.arange(start, start + batch, dtype=np.int32)
            chosen = None if label is None else np.asarray(label, np.int32)[slot % count]
            images.append(np.asarray(compiled(variables, np.int32(seed), slot, chosen)))
        return np.concatenate(images)[:count]

    return sampler
