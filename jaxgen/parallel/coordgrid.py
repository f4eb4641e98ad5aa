"""Rendering lists of pixels over devices and in tiles: exact, because pixels are independent.

A `render(variables, pixels, w) -> [B, N, C]` gives the same colours whether it is called once or on
any pieces of the list. `pixels` are coordinates `[N, 2]`, or a pytree of arrays `[N, ...]` with
whatever else belongs to a pixel, e.g. the weights of its styles.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

Pixels = Any
Render = Callable[[Any, Pixels, Any], jax.Array]


def shard_pixels(render: Render, mesh: Mesh, axis: str | tuple[str, ...] = 'pixel') -> Render:
    """`render` with the list of pixels split over the devices of `axis`.

    Args:
      render: `(variables, pixels, w) -> [B, N, C]`, each pixel a function of its own row.
      mesh: any mesh that has `axis` (or all of several axes).

    Returns:
      The same function. N need not be divisible by the devices: the last pixel is repeated for
      the few that lack one and the result cut off. Differentiable from outside.
    """
    axes = (axis,) if isinstance(axis, str) else tuple(axis)
    count = math.prod(mesh.shape[name] for name in axes)

    def sharded(variables: Any, pixels: Pixels, w: Any) -> jax.Array:
        length = _length(pixels)
        pieces = jax.shard_map(
            render, mesh=mesh, in_specs=(P(), P(axes), P()), out_specs=P(None, axes)
        )
        return pieces(variables, _pad(pixels, -length % count), w)[:, :length]

    return sharded


def in_tiles(render: Render, *, tile: int = 65_536) -> Render:
    """`render` over a list of any length, at most `tile` pixels at a time.

    Memory is that of one tile beside the pixels `[N, ...]` and the result `[B, N, C]`.
    """

    def tiled(variables: Any, pixels: Pixels, w: Any) -> jax.Array:
        length = _length(pixels)
        if length <= tile:
            return render(variables, pixels, w)
        # Even pieces: a list just over one tile would otherwise cost two whole ones.
        pieces = -(-length // tile)
        pixels = _pad(pixels, -length % pieces)
        split = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), pixels)
        drawn = jax.lax.map(lambda p: render(variables, p, w), split)
        colours = drawn.transpose(1, 0, 2, 3).reshape(drawn.shape[1], -1, drawn.shape[-1])
        return colours[:, :length]

    return tiled


def _length(pixels: Pixels) -> int:
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(pixels)}
    if len(lengths) != 1:
        raise ValueError(f'all arrays of pixels must have the same length, got {sorted(lengths)}')
    return lengths.pop()


def _pad(pixels: Pixels, count: int) -> Pixels:
    """`pixels` with the last one repeated `count` times."""
    return jax.tree.map(
        lambda x: jnp.pad(x, ((0, count),) + ((0, 0),) * (x.ndim - 1), mode='edge'), pixels
    )
