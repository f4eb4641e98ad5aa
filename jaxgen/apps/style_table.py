"""The table of style mixing: images whose coarse, middle or fine layers have another one's styles.

After 'A Style-Based Generator' (Karras et al. 2019), Fig. 3. Each row begins with an image, each
column with another; where they meet is the row's image with the column's styles in some layers.
For generators with a style for each layer, StyleGAN2 and StyleGAN3; `jaxgen.apps.style_mixing` is
the command. Layers count from 0, in the order of w.
"""

import re
from typing import TYPE_CHECKING

import numpy as np

from jaxgen.apps.drawing import draw
from jaxgen.apps.output import enlarge, joined, stacked
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

GROUPS = ('coarse', 'middle', 'fine')
# Two layers for each of the resolutions 4² and 8², then for 16² and 32², as in the paper.
LAYERS_OF_GROUP = 4
LEAST_SIDE = 96
GAP = 2


def groups(num_ws: int) -> dict[str, range]:
    """Layers by group: four coarse, four middle, the rest fine; of few layers, thirds."""
    share = min(LAYERS_OF_GROUP, -(-num_ws // 3))
    ends = (0, share, min(2 * share, num_ws), num_ws)
    return {name: range(*ends[i : i + 2]) for i, name in enumerate(GROUPS)}


def parse_layers(words: list[str], num_ws: int) -> dict[str, range]:
    """['coarse', '0-6'] to layers by name.

    Raises:
      UserError: neither a group nor FIRST-LAST of layers that there are.
    """
    known, chosen = groups(num_ws), {}
    for word in words:
        match = re.fullmatch(r'(\d+)(?:-(\d+))?', word)
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            known[word] = range(first, last + 1) if first <= last < num_ws else range(0)
        if not known.get(word):
            raise UserError(
                f'--layers must be some of {", ".join(GROUPS)} or FIRST-LAST within 0-{num_ws - 1} '
                f'with commas between, got {word!r}'
            )
        chosen[word] = known[word]
    return chosen


def mix(rows: 'jax.Array', columns: 'jax.Array', layers: range) -> np.ndarray:
    """`[R, C, num_ws, W]`: the styles `rows [R, num_ws, W]`, in `layers` those of `columns`."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    shape = (len(rows), len(columns), *rows.shape[1:])
    mixed = np.broadcast_to(rows[:, None], shape).copy()
    mixed[:, :, layers] = np.broadcast_to(columns[None], shape)[:, :, layers]
    return mixed


def table(
    run: 'Run',
    rows: 'jax.Array',
    columns: 'jax.Array',
    layers: dict[str, range],
    *,
    captions: tuple[str, str] = ('', ''),
    noise: tuple['jax.Array', 'jax.Array'] | None = None,
) -> np.ndarray:
    """The picture: the columns' images, and below them for each of `layers` the rows and mixes.

    Args:
      rows, columns: styles `[R, num_ws, W]` and `[C, num_ws, W]`.
      captions: what the rows' and the columns' images are called.
      noise: keys `[R]` and `[C]` of the rows' and the columns' images; a mix has those of its row.
    """
    count = len(columns)
    sources = np.concatenate([rows, columns])
    own = _draw(run, sources, None if noise is None else _joined(noise))
    left, above = own[: len(rows)], own[len(rows) :]
    pictures = [_line(np.full_like(left[0], 255), above)]
    titles = [f'across: {captions[1]}, down: {captions[0]}']
    keys = None if noise is None else noise[0][np.repeat(np.arange(len(rows)), count)]
    for name, chosen in layers.items():
        mixed = mix(rows, columns, chosen)
        images = _draw(run, mixed.reshape(-1, *mixed.shape[2:]), keys)
        images = images.reshape(len(rows), count, *images.shape[1:])
        block = [_line(*pair) for pair in zip(left, images, strict=True)]
        pictures.append(joined(block, axis=0, gap=GAP))
        given = f'layers {chosen[0]}-{chosen[-1]}' if len(chosen) > 1 else f'layer {chosen[0]}'
        titles.append(f'{name}: {given} from above' if name in GROUPS else f'{given} from above')
    return stacked(pictures, titles)


def _draw(run: 'Run', w: np.ndarray, noise: 'jax.Array | None') -> np.ndarray:
    from jaxgen.training.workdir import to_uint8

    return to_uint8(np.stack(list(draw(run, w, noise=noise))))


def _line(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """An image, a gap, and images beside it; `[H, W, C]` and `[N, H, W, C]`."""
    cells = [enlarge(image, LEAST_SIDE) for image in (first, *rest)]
    return joined([cells[0], joined(cells[1:], gap=GAP)], gap=3 * GAP)


def _joined(keys: tuple['jax.Array', 'jax.Array']) -> 'jax.Array':
    import jax.numpy as jnp

    return jnp.concatenate(keys)
