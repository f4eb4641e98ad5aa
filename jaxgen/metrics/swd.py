"""Sliced Wasserstein distance between two sets of images, as the CIPS demo measures itself.

After Karras et al., 'Progressive Growing of GANs' (2018), section 5, with the conventions below.

Images are `[N, H, W, C]` floats in [-1, 1], any C, any H and W of at least 7 (the patch).

1. Laplacian pyramid. Filter: [1, 4, 6, 4, 1] / 16 along each axis; borders reflected without
   repeating the edge pixel. Down: filter, then keep every second pixel from the first one. Up:
   zeros between the pixels, filter times 2 along each axis. A level is the image minus the
   up-sampled next one; the last level is the low-pass rest. Levels go on while the shorter side
   stays at 16 or more, so 32x32 has two (sides 32 and 16) and anything below 32 has one.
2. Patches: `patches_per_image` of `patch` x `patch` x C at distinct random places, the same places
   in every image of both sets (all places where there are fewer). So the distance does not depend
   on the order of the images, and equal sets are at distance exactly 0.
3. Projections: `projections` random unit vectors for each level, the same for both sets.
4. For each vector the projected values of each set are sorted; the distance of a level is the mean
   of |sorted a - sorted b| over values and vectors (the exact 1-Wasserstein distance between two
   sets of the same size). The result is the mean over the levels.

Everything random comes from `key`. The unit is that of a projected patch: a shift of every pixel
by d moves the last level by about d * sqrt(2 / pi) (for C = 1) and no other.

Beside PGGAN's own numbers: those normalise each patch channel to mean 0 and deviation 1, place
patches anew in every image, use 128 patches, 4 x 128 vectors, and report 1000 times the distance.
Nothing is normalised here, so brightness and contrast count.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

_FILTER = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_SMALLEST_SIDE = 16
_VECTORS_AT_ONCE = 16  # bounds the memory: 2 x 16 x patches x images values are alive at a time


def sliced_wasserstein(
    a: jax.Array,
    b: jax.Array,
    key: jax.Array,
    *,
    patches_per_image: int = 32,
    projections: int = 64,
    patch: int = 7,
) -> jax.Array:
    """Mean over the Laplacian levels of the sliced Wasserstein distance.

    Args:
      a: `[N, H, W, C]` floats in [-1, 1].
      b: the other set, of the same shape.
      key: decides patch places and projections; equal keys make results comparable.
      patches_per_image: places of patches, or all of them where there are fewer.
      projections: number of random vectors for each level.
      patch: side of a patch.

    Returns:
      A float32 scalar, 0 for equal sets. NaN if any drawn pixel is NaN.

    Raises:
      ValueError: shapes differ, are not images, or are smaller than a patch.
    """
    levels = sliced_wasserstein_by_level(
        a, b, key, patches_per_image=patches_per_image, projections=projections, patch=patch
    )
    return levels.mean()


def sliced_wasserstein_by_level(
    a: jax.Array,
    b: jax.Array,
    key: jax.Array,
    *,
    patches_per_image: int = 32,
    projections: int = 64,
    patch: int = 7,
) -> jax.Array:
    """As `sliced_wasserstein`, one value a level, `[levels]`, from fine to coarse."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f'both sets must have the same shape, got {a.shape} and {b.shape}')
    if a.ndim != 4 or 0 in a.shape:
        raise ValueError(f'images must be [N, H, W, C] and not empty, got {a.shape}')
    if not (jnp.issubdtype(a.dtype, jnp.floating) and jnp.issubdtype(b.dtype, jnp.floating)):
        raise ValueError(f'images must be floats in [-1, 1], got {a.dtype} and {b.dtype}')
    if patch < 1 or min(a.shape[1:3]) < max(patch, 3):
        raise ValueError(f'images must be at least {max(patch, 3)} pixels a side, got {a.shape}')
    if patches_per_image < 1 or projections < 1:
        raise ValueError(
            'patches_per_image and projections must be 1 or more, '
            f'got {patches_per_image} and {projections}'
        )
    place_key, vector_key = jax.random.split(key)
    sides = _sides(*a.shape[1:3])
    places = [
        _places(jax.random.fold_in(place_key, i), size, patches_per_image, patch)
        for i, size in enumerate(sides)
    ]
    vectors = _unit_vectors(vector_key, (len(sides), projections), patch, a.shape[3])
    return _distances(a, b, places, vectors)


def laplacian_pyramid(images: jax.Array) -> list[jax.Array]:
    """Levels `[N, H_l, W_l, C]` from fine to coarse; the last one is the low-pass rest."""
    levels = []
    for size in _sides(*images.shape[1:3])[:-1]:
        smaller = _filter(images)[:, ::2, ::2]
        levels.append(images - _up(smaller, size))
        images = smaller
    return [*levels, images]


def _sides(height: int, width: int) -> list[tuple[int, int]]:
    sides = [(height, width)]
    while min(sides[-1]) >= 2 * _SMALLEST_SIDE:
        sides.append(tuple((n + 1) // 2 for n in sides[-1]))
    return sides


def _filter(x: jax.Array) -> jax.Array:
    # Shifted sums: XLA runs them far faster on a CPU than a depthwise convolution.
    for axis in (1, 2):
        n = x.shape[axis]
        padded = jnp.pad(x, [(2, 2) if i == axis else (0, 0) for i in range(4)], mode='reflect')
        shifted = (jax.lax.slice_in_dim(padded, i, i + n, axis=axis) for i in range(5))
        x = sum(f * s for f, s in zip(_FILTER, shifted, strict=True))
    return x


def _up(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    spread = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 1, 1), (0, 1, 1), (0, 0, 0)))
    return 4 * _filter(spread[:, : size[0], : size[1]])


@partial(jax.jit, static_argnums=(1, 2, 3))
def _places(key, size, count, patch):
    """Distinct top left corners, `[count or all, 2]` int32."""
    rows, columns = (n - patch + 1 for n in size)
    flat = jax.random.choice(key, rows * columns, (min(count, rows * columns),), replace=False)
    return jnp.stack([flat // columns, flat % columns], axis=1)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _unit_vectors(key, count, patch, channels):
    """`[*count, patch, patch, channels]`."""
    vectors = jax.random.normal(key, (*count, patch, patch, channels), jnp.float32)
    return vectors / jnp.sqrt(jnp.sum(vectors**2, axis=(-3, -2, -1), keepdims=True))


@jax.jit
def _distances(a, b, places, vectors):
    both = jnp.concatenate([a.astype(jnp.float32), b.astype(jnp.float32)])
    levels = laplacian_pyramid(both)
    return jnp.stack(
        [_level_distance(*of_level) for of_level in zip(levels, places, vectors, strict=True)]
    )


def _level_distance(both, places, vectors):
    # Images last: a patch of all images is then one slice, and no gather is needed.
    images = jnp.moveaxis(both, 0, -1)
    count = vectors.shape[0]
    groups = -(-count // _VECTORS_AT_ONCE)
    # Zero vectors fill the last group; they add zeros to the sum.
    vectors = jnp.pad(vectors, ((0, groups * _VECTORS_AT_ONCE - count), (0, 0), (0, 0), (0, 0)))
    vectors = vectors.reshape(groups, _VECTORS_AT_ONCE, *vectors.shape[1:])

    def distance(group):
        values = _project(images, places, group)  # [G, places, both sets]
        p, q = (_sort(z.reshape(len(group), -1)) for z in jnp.split(values, 2, axis=-1))
        return jnp.abs(p - q).mean(axis=1).sum()

    return jax.lax.map(distance, vectors).sum() / count


def _project(images, places, vectors):
    """`[H, W, C, N]` and `[G, patch, patch, C]` -> values `[G, places, N]`."""
    patch, channels, count = vectors.shape[1], images.shape[2], images.shape[3]

    def one(place):
        corner = (place[0], place[1], 0, 0)
        window = jax.lax.dynamic_slice(images, corner, (patch, patch, channels, count))
        return jnp.einsum('gijc,ijcn->gn', vectors, window, precision=jax.lax.Precision.HIGHEST)

    return jnp.moveaxis(jax.lax.map(one, places), 0, 1)


def _sort(x):
    # A float32 and an int32 with the bits of the negative ones flipped have the same order, and
    # XLA sorts integers several times faster on a CPU: its float comparison is a total order.
    def flip(i):
        return jnp.where(i < 0, i ^ np.int32(0x7FFFFFFF), i)

    bits = flip(jax.lax.bitcast_convert_type(x, jnp.int32))
    bits = jax.lax.sort(bits, dimension=1, is_stable=False)
    return jax.lax.bitcast_convert_type(flip(bits), jnp.float32)
