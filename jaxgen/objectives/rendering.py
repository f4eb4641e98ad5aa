"""A CIPS generator at any list of pixels: in tiles, over all devices, with one style or several.

A pixel depends on its coordinate and its style alone, so a picture of any size is rendered in
constant memory, and any part of it equals that part of the whole.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from jaxgen.parallel.coordgrid import Render, in_tiles, shard_pixels

# Bounds the memory of rendering: 64k pixels of 1024 features are 256 MiB.
PIXELS_AT_ONCE = 65_536
# A style per pixel comes with w and, in each layer, a scale for every input and output channel.
BLENDED_PIXELS_AT_ONCE = PIXELS_AT_ONCE // 16


def make_render(
    generator: nn.Module, mesh: Mesh | None = None, *, pixels_at_once: int | None = None
) -> Render:
    """`render(variables, pixels, styles) -> [B, N, 3]` around [-1, 1].

    pixels: coordinates `[N, 2]`; or `(coordinates, weights [N, K])` to blend K styles: the style
    of pixel n is Σ_k weights[n, k] · w[:, k].

    styles: `(w, noise)` with w `[B, W]`, or `[B, K, W]` for a blend; noise is `[B]` keys for a
    generator with noise='random', else None.

    Args:
      mesh: splits the pixels over all of its devices.
      pixels_at_once: pixels times images on a device at a time; default: see this module's head.
    """

    def render(variables: dict, pixels: jax.Array | tuple, styles: tuple) -> jax.Array:
        blended = isinstance(pixels, tuple)
        limit = pixels_at_once or (BLENDED_PIXELS_AT_ONCE if blended else PIXELS_AT_ONCE)

        def draw(variables: dict, pixels: jax.Array | tuple, styles: tuple) -> jax.Array:
            w, noise = styles
            coords, weights = pixels if blended else (pixels, None)
            if blended:
                w = jnp.einsum('nk,bkw->bnw', weights, w)
            return generator.apply(variables, coords[None], w, noise=noise)

        tiled = in_tiles(draw, tile=max(1, limit // styles[0].shape[0]))
        if mesh is not None and mesh.size > 1:
            tiled = shard_pixels(tiled, mesh, mesh.axis_names)
        return tiled(variables, pixels, styles)

    return render
