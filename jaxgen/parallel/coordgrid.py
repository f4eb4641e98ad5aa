"""Rendering coordinate lists over devices and in tiles: exact, because pixels are independent.

A `render(variables, coords [N, 2], w) -> [B, N, 3]` gives the same pixels whether it is called once
or on any pieces of the list.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

Render = Callable[[Any, jax.Array, Any], jax.Array]


def shard_pixels(render: Render, mesh: Mesh, axis: str | tuple[str, ...] = 'pixel') -> Render:
    """`render` with the coordinate list split over the devices of `axis`.

    Args:
      render: `(variables, coords [N, 2], w) -> [B, N, C]`, each pixel a function of its own row.
      mesh: any mesh that has `axis` (or all of several axes).

    Returns:
      The same function. N need not be divisible by the devices: the last coordinate is repeated for
      the few that lack one and the result cut off. Differentiable from outside.
    """
    axes = (axis,) if isinstance(axis, str) else tuple(axis)
    count = 1
    for name in axes:
        count *= mesh.shape[name]

    def sharded(variables: Any, coords: jax.Array, w: Any) -> jax.Array:
        length = coords.shape[0]
        coords = jnp.pad(coords, ((0, -length % count), (0, 0)), mode='edge')
        pieces = jax.shard_map(
            render, mesh=mesh, in_specs=(P(), P(axes), P()), out_specs=P(None, axes)
        )
        return pieces(variables, coords, w)[:, :length]

    return sharded


def in_tiles(render: Render, *, tile: int = 65_536) -> Render:
    """`render` over a list of any length, `tile` pixels at a time.

    Memory is that of one tile beside the coordinates `[N, 2]` and the result `[B, N, C]`.
    """

    def tiled(variables: Any, coords: jax.Array, w: Any) -> jax.Array:
        length = coords.shape[0]
        if length <= tile:
            return render(variables, coords, w)
        coords = jnp.pad(coords, ((0, -length % tile), (0, 0)), mode='edge')
        pieces = jax.lax.map(lambda c: render(variables, c, w), coords.reshape(-1, tile, 2))
        tiles, batch, _, channels = pieces.shape
        pixels = pieces.transpose(1, 0, 2, 3).reshape(batch, tiles * tile, channels)
        return pixels[:, :length]

    return tiled
