"""Drawing any number of images, in batches spread over all devices.

Image i of seed s is a function of (s, i) alone: asking for more keeps those that were there.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.errors import UserError
from jaxgen.objectives.rendering import make_render

PyTree = Any
Sampler = Callable[..., np.ndarray]


def image_keys(seed: int | jax.Array, slot: jax.Array) -> jax.Array:
    """The keys `[B]` of images number `slot [B]` of a seed."""
    root = jax.random.key(seed)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(slot)


def latents(keys: jax.Array, width: int) -> jax.Array:
    """z ~ N(0, I) `[B, width]` of images with these keys `[B]`."""
    return jax.vmap(lambda key: jax.random.normal(key, (width,)))(keys)


def takes_noise_keys(generator: nn.Module) -> bool:
    """Whether `generator` draws noise of its own for each image, from keys `[B]`."""
    return getattr(generator, 'noise', 'none') == 'random'


def sample_images(
    generator: nn.Module,
    variables: PyTree,
    keys: jax.Array,
    label: jax.Array | None = None,
    *,
    truncation: float | jax.Array = 1.0,
    size: tuple[int, int] | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Images `[B, H, W, C]` of a generator with `mapping` and `synthesize` from `[B]` keys.

    Args:
      truncation: ψ in W; 1 is off.
      size: (height, width), any where the generator renders pixel by pixel; default: its frame.
      mesh: splits the pixels over these devices, or the images where they are made as a whole.

    Raises:
      UserError: a size that the generator does not have.
    """
    z = latents(keys, generator.latent)
    w = generator.apply(variables, z, label, truncation=truncation, method='mapping')
    noise = keys if takes_noise_keys(generator) else None
    height, width = size or generator.frame
    if hasattr(generator, 'points'):
        pixels = generator.points(height, width)
        rgb = make_render(generator, mesh)(variables, pixels, (w, noise))
        return rgb.reshape(-1, height, width, rgb.shape[-1])
    check_frame(generator, (height, width))
    options = {} if noise is None else {'noise': noise}
    return synthesize_whole(generator, variables, w, options, mesh=mesh)


def check_frame(generator: nn.Module, size: tuple[int, int]) -> None:
    """UserError unless `size` (height, width) is that of a generator with one size only."""
    if tuple(size) != tuple(generator.frame):
        rows, columns = generator.frame
        height, width = size
        raise UserError(f'size must be {columns}x{rows} for this model, got {width}x{height}')


def synthesize_whole(
    generator: nn.Module,
    variables: PyTree,
    w: jax.Array,
    options: dict[str, jax.Array],
    *,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Images `[B, H, W, C]` of a generator that makes them as a whole, in the styles `w [B, …]`.

    `options` go to its `synthesize`. `mesh` splits the images where their number allows it.
    """
    if mesh is not None and w.shape[0] % mesh.size == 0:
        spread = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        w = jax.lax.with_sharding_constraint(w, spread)
    return generator.apply(variables, w, method='synthesize', **options)


def draw_at_once(
    generator: nn.Module,
    variables: PyTree,
    w: Any,
    frame: tuple[int, int],
    *,
    noise: Any = None,
    **options: jax.Array,
) -> jax.Array:
    """Images `[B, *frame, C]` of any generator in one pass, neither tiled nor split over devices.

    Args:
      w: as `generator.synthesize` takes it, or a renderer of pixels its `__call__`.
      frame: (height, width); of a generator of whole images its own.
      noise: keys `[B]`, or maps, where the generator takes any.
      options: others of `synthesize`, of a generator of whole images.
    """
    if not hasattr(generator, 'points'):
        options |= {} if noise is None else {'noise': noise}
        return generator.apply(variables, w, method='synthesize', **options)
    points = generator.points(*frame)[None]
    colours = generator.apply(variables, points, w, noise=noise)
    return colours.reshape(-1, *frame, colours.shape[-1])


def make_sampler(sample: Callable[..., jax.Array], mesh: Mesh, batch: int) -> Sampler:
    """A function `sampler(variables, count, seed, label=None) -> float32 [count, H, W, C]`.

    Args:
      sample: `(variables, keys [B], label [B] | None) -> [B, H, W, C]`, e.g. an objective's.
      batch: images at a time over all devices.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def draw(
        variables: PyTree, seed: jax.Array, slot: jax.Array, label: jax.Array | None
    ) -> jax.Array:
        return sample(variables, image_keys(seed, slot), label)

    compiled = jax.jit(draw, out_shardings=everywhere)

    def sampler(
        variables: PyTree, count: int, seed: int = 0, label: np.ndarray | None = None
    ) -> np.ndarray:
        images = []
        for start in range(0, count, batch):
            slot = np.arange(start, start + batch, dtype=np.int32)
            chosen = None if label is None else np.asarray(label, np.int32)[slot % count]
            images.append(np.asarray(compiled(variables, np.int32(seed), slot, chosen)))
        return np.concatenate(images)[:count]

    return sampler
