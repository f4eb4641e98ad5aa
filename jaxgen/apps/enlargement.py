"""Pieces of a large render beside the native one enlarged by Lanczos, pixel upon pixel."""

import itertools
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.apps.command import axes
from jaxgen.apps.output import in_row
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run


def comparison(
    run: 'Run',
    w: 'jax.Array',
    size: tuple[int, int],
    *,
    noise: 'jax.Array | None' = None,
    pieces: int = 3,
    side: int = 320,
) -> np.ndarray:
    """Pieces of the picture of this size, where the native render has most detail: uint8.

    A row for each: where it lies, the native render enlarged by Lanczos, the render.

    Raises:
      UserError: the picture is smaller than the native render.
    """
    from jaxgen.training.workdir import to_uint8

    height, width = run.generator.frame
    if size[0] < height or size[1] < width:
        raise UserError(
            f'--compare needs a --size of at least the native {width}x{height}, got '
            f'{size[1]}x{size[0]}'
        )
    native = run.render(run.generator.points(height, width), w, noise=noise)
    native = native.reshape(height, width, -1)
    xs, ys = axes(run, size)
    crop = min(side, size[0]), min(side, size[1])
    rows = []
    for top, left in _detailed_places(native, size, crop)[:pieces]:
        grid = np.meshgrid(xs[left : left + crop[1]], ys[top : top + crop[0]])
        drawn = run.render(np.stack(grid, axis=-1).reshape(-1, 2), w, noise=noise)
        enlarged = enlarge(native, size, (top, left), crop, ring=run.generator.cylindrical)
        pictures = [
            _outline(to_uint8(native), size, (top, left), crop),
            to_uint8(enlarged),
            to_uint8(drawn.reshape(*crop, -1)),
        ]
        captions = 'where it lies', f'native {width}x{height}, Lanczos', 'rendered'
        rows.append(in_row(pictures, captions))
    return np.concatenate(rows)


def _detailed_places(
    native: np.ndarray, size: tuple[int, int], crop: tuple[int, int]
) -> list[tuple[int, int]]:
    """(top, left) of pieces apart from each other, those with most differences of colour first."""
    grey = native.mean(axis=-1)
    slopes = np.square(np.diff(grey, axis=0, prepend=grey[:1]))
    slopes += np.square(np.diff(grey, axis=1, prepend=grey[:, :1]))
    scores = {}
    corners = [
        np.unique(np.linspace(0, n - c, 9).astype(int)) for n, c in zip(size, crop, strict=True)
    ]
    for top, left in itertools.product(*corners):
        rows, columns = (
            slice(at * m // n, max((at + c) * m // n, at * m // n + 1))
            for at, c, n, m in zip((top, left), crop, size, slopes.shape, strict=True)
        )
        scores[int(top), int(left)] = slopes[rows, columns].mean()
    places = []
    for top, left in sorted(scores, key=scores.get, reverse=True):
        if all(abs(top - y) >= crop[0] or abs(left - x) >= crop[1] for y, x in places):
            places.append((top, left))
    return places


def enlarge(
    native: np.ndarray,
    size: tuple[int, int],
    corner: tuple[int, int],
    crop: tuple[int, int],
    *,
    ring: bool = False,
) -> np.ndarray:
    """A piece of `native [h, w, C]` enlarged to `size` by Lanczos: it lies on the render exactly.

    Args:
      size: (height, width) of the whole picture, not smaller than `native`.
      corner, crop: (top, left) and (height, width) of the piece in it.
      ring: the columns lie around a ring.

    Returns:
      `[*crop, C]`, of the values' own range.
    """
    margin = 8 if ring else 0
    padded = np.pad(native, ((0, 0), (margin, margin), (0, 0)), mode='wrap')
    box = []
    for axis, around in ((1, ring), (0, False)):
        # Pixel i of n lies at i·(m-1)/(n-1) of m, on a ring at i·m/n; Pillow counts from the edge
        # of a pixel, half a pixel before its centre.
        n, m = size[axis], native.shape[axis]
        scale = m / n if around else (m - 1) / max(1, n - 1)
        start = corner[axis] * scale + 0.5 - 0.5 * scale + (margin if around else 0)
        box.append((start, start + crop[axis] * scale))
    (left, right), (top, bottom) = box
    channels = [
        Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize(
            crop[::-1], Image.Resampling.LANCZOS, (left, top, right, bottom)
        )
        for channel in np.moveaxis(padded, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _outline(
    native: np.ndarray, size: tuple[int, int], corner: tuple[int, int], crop: tuple[int, int]
) -> np.ndarray:
    """`native`, as high as the piece, with a frame around the piece."""
    scale = crop[0] / native.shape[0]
    shown = Image.fromarray(native).resize(
        (max(1, round(native.shape[1] * scale)), crop[0]), Image.Resampling.NEAREST
    )
    top, bottom = (shown.height * (corner[0] + n) / size[0] for n in (0, crop[0]))
    left, right = (shown.width * (corner[1] + n) / size[1] for n in (0, crop[1]))
    # At least seven pixels, to be seen.
    box = (min(left, shown.width - 8), min(top, shown.height - 8))
    box = (*box, max(right, box[0] + 7), max(bottom, box[1] + 7))
    ImageDraw.Draw(shown).rectangle(box, outline='red', width=2)
    return np.asarray(shown)
