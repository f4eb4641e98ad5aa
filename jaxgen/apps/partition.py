"""The regions into which leaky ReLUs cut the picture of a CIPS generator ("typical artifacts").

Where no pre-activation changes its sign, every layer is one affine map, so that colour is a fixed
affine function of the positional encoding. A picture is pieced together from such regions, and no
operation makes two neighbours agree: the paper's explanation of small parts that fit nothing
around them.
"""

from typing import TYPE_CHECKING

import numpy as np

from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

_POINTS_AT_ONCE = 8_192


def check(run: 'Run') -> None:
    """UserError where the generator's activation makes no regions: 'sin'."""
    if run.generator.activation == 'sin':
        raise UserError(f"{run.source!r} has activation 'sin': only leaky ReLUs make regions")


def partition(run: 'Run', w: 'jax.Array', size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The signs of all pre-activations over the picture of one style.

    Sine channels (half of those of 'sinrelu') have no regions and are left out, and so is noise,
    which would tell every pixel from its neighbours.

    Args:
      run: with a CIPS generator; see `jaxgen.training.restore.Run`.
      w: `[1, style]`.
      size: (height, width) of the grid over the whole frame or ring.

    Returns:
      With L styled layers: `image [H, W, 3]`; `crossings [L, H, W]`, how many channels change
      their sign from a pixel to the one to the right or to the one below; `colours [L, H, W, 3]`
      in [0, 1], equal within a region of the layer and near where few signs differ; `regions [L]`
      on this grid, of the layer alone, and `joint_regions [L]`, of it and all before.

    Raises:
      UserError: see `check`.
    """
    check(run)
    height, width = size
    image, patterns, channels = _signs(run, w, size)
    crossings, colours, regions, joint_regions = [], [], [], []
    joint = np.zeros(height * width, np.int64)
    for pattern, count in zip(patterns, channels, strict=True):
        crossings.append(_crossings(pattern.reshape(height, width, -1)))
        colours.append(_colours(pattern, count).reshape(height, width, 3))
        own, which = np.unique(pattern, axis=0, return_inverse=True)
        _, joint = np.unique(joint * len(own) + which.ravel(), return_inverse=True)
        regions.append(len(own))
        joint_regions.append(joint.max() + 1)
    return {
        'image': image.reshape(height, width, 3),
        'crossings': np.stack(crossings),
        'colours': np.stack(colours),
        'regions': np.array(regions),
        'joint_regions': np.array(joint_regions),
    }


def _signs(run, w, size):
    """Colours `[N, 3]`; of each styled layer the signs, packed `[N, C/8]`; how many they are."""
    import jax
    import jax.numpy as jnp

    from jaxgen.nn.styled import StyledDense

    model = run.generator.clone(noise='none', dtype=None, remat=False)
    halves = 2 if model.activation == 'sinrelu' else 1
    channels = [n // halves for n in (model.first_width, *np.repeat(model.block_widths, 2))]

    @jax.jit
    def draw(variables, coords):
        rgb, captured = model.apply(
            variables,
            coords[None],
            w,
            capture_intermediates=lambda module, _: isinstance(module, StyledDense),
            mutable=['intermediates'],
        )
        captured = captured['intermediates']
        blocks = [captured[f'block_{i}'] for i in range(len(model.block_widths))]
        layers = [captured['input']] + [b[f'layer_{i}'] for b in blocks for i in (0, 1)]
        # Leaky ReLU keeps the sign. The last of the captured values is after it.
        values = [layer['__call__'][-1][0] for layer in layers]
        return rgb[0], [
            jnp.packbits(x[:, :count] > 0, axis=-1)
            for x, count in zip(values, channels, strict=True)
        ]

    points = np.asarray(model.points(*size))
    parts = []
    for start in range(0, len(points), _POINTS_AT_ONCE):
        count = min(_POINTS_AT_ONCE, len(points) - start)
        missing = min(_POINTS_AT_ONCE, len(points)) - count
        tile = np.pad(points[start : start + count], ((0, missing), (0, 0)), 'edge')
        rgb, signs = jax.device_get(draw(run.variables, tile))
        parts.append((rgb[:count], [x[:count] for x in signs]))
    image, patterns = jax.tree.map(lambda *tiles: np.concatenate(tiles), *parts)
    return image, patterns, channels


def _crossings(pattern):
    changed = np.zeros_like(pattern)
    changed[:, :-1] |= pattern[:, :-1] ^ pattern[:, 1:]
    changed[:-1] |= pattern[:-1] ^ pattern[1:]
    return np.bitwise_count(changed).sum(axis=-1, dtype=np.int32)


def _colours(pattern, channels):
    # Each sign that changes moves the colour by a step of its own.
    steps = np.random.default_rng(0).normal(size=(channels, 3)).astype(np.float32)
    colours = np.unpackbits(pattern, axis=-1, count=channels) @ steps
    low, high = np.percentile(colours, (1, 99), axis=0)
    return np.clip((colours - low) / np.maximum(high - low, 1e-6), 0, 1).astype(np.float32)
