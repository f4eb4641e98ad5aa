"""Foveated synthesis: many pixels where the eye looks, few elsewhere, the rest filled in.

    python -m jaxgen.apps.foveated --workdir=runs/cips-demo --gaze=0.2,-0.1 --share=0.1 --panels

The generator is evaluated at the chosen pixels alone, which lie on the grid of the picture: there
the result is that of the full render. Between them colours are linear over triangles (CIPS,
foveated rendering in section 4).
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, default_size, define_image
from jaxgen.apps.output import check_target, in_row, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGE = define_image(_FLAGS)
_GAZE = flags.DEFINE_string(
    'gaze', '0,0', 'x,y of the gaze, from -1 to 1; 1,1 is the lower right.', flag_values=_FLAGS
)
_SHARE = flags.DEFINE_float('share', 0.1, 'Share of the pixels to evaluate.', flag_values=_FLAGS)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'WIDTHxHEIGHT or SIDE; default: the training frame, or its smallest multiple of 256 pixels a '
    'side.',
    flag_values=_FLAGS,
)
_PANELS = flags.DEFINE_bool(
    'panels', False, 'Full render, evaluated pixels and result side by side.', flag_values=_FLAGS
)
_FULL = flags.DEFINE_bool(
    'full', True, 'Also render all pixels, to compare the time.', flag_values=_FLAGS
)
_OUT = flags.DEFINE_string('out', 'foveated.png', 'Picture.', flag_values=_FLAGS)

NOISE_SIDE = 64


def choose_pixels(
    size: tuple[int, int],
    gaze: tuple[float, float] = (0.0, 0.0),
    *,
    share: float = 0.1,
    seed: int = 0,
) -> np.ndarray:
    """The pixels to evaluate, `[M]` positions in raster order, ascending.

    All pixels within a radius r of the gaze; beyond it their distance from each other grows as the
    distance d from the gaze does (as acuity falls): a density of (r/d)², spread evenly by a
    threshold of blue noise. The border has its own, of density r/d a line, and all four corners, so
    that triangles reach everywhere.

    Args:
      size: (height, width).
      gaze: (x, y), -1 to 1 over the picture.
      share: of the pixels, in (0, 1]; the border comes on top.
      seed: of the blue noise.
    """
    density = _density(size, gaze, share)
    rows, columns = (np.arange(side) % NOISE_SIDE for side in size)
    chosen = blue_noise(seed)[np.ix_(rows, columns)] < density
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        steps = np.floor(np.cumsum(np.sqrt(density[side])))
        chosen[side] |= np.diff(steps, prepend=-1) > 0
    chosen[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    return np.flatnonzero(chosen)


def _density(size: tuple[int, int], gaze: tuple[float, float], share: float) -> np.ndarray:
    """min(1, (r/d)²), with the r whose mean is `share`."""
    x, y = (
        np.abs(np.arange(side) - (place + 1) / 2 * (side - 1))
        for side, place in zip(size[::-1], gaze, strict=True)
    )
    squared = np.maximum(y[:, None] ** 2 + x**2, 1e-9)
    low, high = 0.0, float(squared.max())
    for _ in range(60):
        middle = (low + high) / 2
        too_many = np.minimum(1, middle / squared).mean() > share
        low, high = (low, middle) if too_many else (middle, high)
    return np.minimum(1, high / squared)


def blue_noise(seed: int, side: int = NOISE_SIDE) -> np.ndarray:
    """`[side, side]` thresholds, each of the `side`² values in (0, 1) once, on a torus.

    Those below any level are spread evenly: each next place is the one where those before it, each
    with a field of 1/distance², are fewest.
    """
    offset = np.minimum(np.arange(side), side - np.arange(side))
    field = 1 / (offset[:, None] ** 2 + offset**2 + 0.5)
    # The first places, and ties, by chance.
    crowding = 0.02 * np.random.default_rng(seed).random((side, side))
    thresholds = np.empty((side, side))
    for rank in range(side**2):
        place = np.unravel_index(np.argmin(crowding), crowding.shape)
        thresholds[place] = (rank + 0.5) / side**2
        crowding += np.roll(field, place, (0, 1))
        crowding[place] = np.inf
    return thresholds


@dataclasses.dataclass(frozen=True)
class Filling:
    """How a picture follows from some of its pixels; made once for a gaze, good for any picture.

    Attributes:
      size: (height, width).
      known: `[M]` positions of the pixels that are there, in raster order.
      missing: `[L]` positions of the others.
      corners: `[L, 3]` which known pixels are the triangle around each.
      weights: `[L, 3]` barycentric.
    """

    size: tuple[int, int]
    known: np.ndarray
    missing: np.ndarray
    corners: np.ndarray
    weights: np.ndarray

    def __call__(self, colours: np.ndarray) -> np.ndarray:
        """`[M, C]` to `[H, W, C]`."""
        picture = np.empty((self.size[0] * self.size[1], colours.shape[-1]), colours.dtype)
        picture[self.known] = colours
        picture[self.missing] = np.einsum('lk,lkc->lc', self.weights, colours[self.corners])
        return picture.reshape(*self.size, -1)


def fill_in(known: np.ndarray, size: tuple[int, int]) -> Filling:
    """Linear interpolation over the Delaunay triangles of `known [M]`, nearest outside of them."""
    from scipy.ndimage import binary_dilation
    from scipy.spatial import Delaunay, cKDTree

    absent = np.ones(size, bool)
    absent.reshape(-1)[known] = False
    missing = np.flatnonzero(absent)
    if not missing.size:
        return Filling(size, known, missing, np.empty((0, 3), int), np.empty((0, 3), np.float32))
    # Only pixels beside a missing one: the others, most of the fovea, are corners of nothing.
    beside = np.flatnonzero(binary_dilation(absent, np.ones((3, 3))).reshape(-1)[known])
    places = np.stack(np.divmod(known[beside], size[1]), axis=-1)
    wanted = np.stack(np.divmod(missing, size[1]), axis=-1)
    triangles = Delaunay(places).simplices
    number = _covering_triangles(places[triangles], size)[missing]
    corners = beside[triangles[number]]
    areas = _areas(places[triangles[number]], wanted).astype(np.float32)
    with np.errstate(invalid='ignore'):
        weights = areas / areas.sum(axis=-1, keepdims=True)
    outside = number < 0
    if outside.any():
        corners[outside] = beside[cKDTree(places).query(wanted[outside])[1]][:, None]
        weights[outside] = 1 / 3
    return Filling(size, known, missing, corners, weights)


def _areas(triangles: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`[T, 3]`: twice the signed area from a place `[T, 2]` to the side opposite each corner."""
    sides = np.roll(triangles, -2, axis=1) - np.roll(triangles, -1, axis=1)
    to_place = places[:, None] - np.roll(triangles, -1, axis=1)
    return sides[..., 0] * to_place[..., 1] - sides[..., 1] * to_place[..., 0]


def _covering_triangles(
    triangles: np.ndarray, size: tuple[int, int], at_once: int = 2**20
) -> np.ndarray:
    """`[H·W]`: the number of a triangle `[T, 3, 2]` that each pixel lies in, -1 for none.

    In whole numbers, so exact at the edges. (SciPy's `find_simplex` first solves a system of
    equations for each triangle, which threads of BLAS made ten times slower than it need be.)
    """
    covering = np.full(size[0] * size[1], -1)
    low, high = triangles.min(axis=1), triangles.max(axis=1)
    counts = np.prod(high - low + 1, axis=1)
    # A part of the triangles at a time, with about `at_once` pixels in their bounding boxes.
    parts = np.cumsum(counts) // at_once
    for part in np.split(np.arange(len(triangles)), np.flatnonzero(np.diff(parts)) + 1):
        owner = np.repeat(part, counts[part])
        within = np.arange(len(owner)) - np.repeat(
            np.cumsum(counts[part]) - counts[part], counts[part]
        )
        columns = (high - low)[owner, 1] + 1
        places = low[owner] + np.stack([within // columns, within % columns], axis=-1)
        areas = _areas(triangles[owner], places)
        inside = ((areas >= 0).all(axis=1) | (areas <= 0).all(axis=1)) & areas.any(axis=1)
        covering[places[inside] @ (size[1], 1)] = owner[inside]
    return covering


def render(
    run: 'Run', w: 'jax.Array', filling: Filling, *, noise: 'jax.Array | None' = None
) -> np.ndarray:
    """`[H, W, 3]` around [-1, 1] in the style w `[1, W]`: some pixels drawn, the rest filled in."""
    return filling(_evaluate(run, w, filling.known, filling.size, noise))


def _evaluate(
    run: 'Run',
    w: 'jax.Array',
    known: np.ndarray,
    size: tuple[int, int],
    noise: 'jax.Array | None',
) -> np.ndarray:
    """Colours `[M, 3]` of the pixels `known [M]`."""
    return run.render(np.asarray(run.generator.points(*size))[known], w, noise=noise)[0]


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Result and seconds of a second call: the first one compiles."""
    function(*arguments)
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def _panels(full: np.ndarray, picture: np.ndarray, filling: Filling) -> np.ndarray:
    points = np.full((full.shape[0] * full.shape[1], 3), 255, np.uint8)
    points[filling.known] = full.reshape(-1, 3)[filling.known]
    share = len(filling.known) / len(points)
    return in_row(
        [full, points.reshape(full.shape), picture],
        ['all pixels', f'{share:.1%} of them', 'filled in'],
    )


def _arguments() -> tuple[tuple[float, float], tuple[int, int] | None, pathlib.Path]:
    """Gaze, size and target, before anything slow."""
    _MODEL.check()
    gaze = tuple(cli.parse_numbers(_GAZE.value, 2, '--gaze'))
    if max(map(abs, gaze)) > 1:
        raise UserError(f'--gaze must lie from -1 to 1, got {_GAZE.value!r}')
    if not 0 < _SHARE.value <= 1:
        raise UserError(f'--share must be above 0 and at most 1, got {_SHARE.value}')
    if _PANELS.value and not _FULL.value:
        raise UserError('--panels shows the full render: leave out --nofull')
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    if size and min(size) < 2:
        raise UserError(f'--size must be at least 2x2, got {_SIZE.value!r}')
    return gaze, size, check_target(_OUT.value)


def main() -> None:
    """Renders both ways and says what each took."""
    gaze, size, target = _arguments()
    run = _MODEL.load_cips()
    from jaxgen.training.workdir import to_uint8

    size = size or default_size(run.generator.frame)
    _, w = run.styles([_IMAGE.value], **_MODEL.drawing())
    noise = _MODEL.noise(run, [_IMAGE.value])
    start = time.perf_counter()
    filling = fill_in(choose_pixels(size, gaze, share=_SHARE.value, seed=_MODEL.seed.value), size)
    prepared = time.perf_counter() - start
    colours, evaluated = _timed(_evaluate, run, w, filling.known, size, noise)
    picture, filled = _timed(filling, colours)
    count, pixels = len(filling.known), size[0] * size[1]
    print(f'{count} of {pixels} pixels evaluated, {count / pixels:.1%}')
    print(
        f'evaluation {evaluated:.3f} s, filling in {filled:.3f} s '
        f'(once for the gaze: points and triangles {prepared:.3f} s)'
    )
    picture = to_uint8(picture)
    if _FULL.value:
        full, seconds = _timed(_evaluate, run, w, np.arange(pixels), size, noise)
        print(
            f'full render {seconds:.3f} s: the evaluation took {evaluated / seconds:.1%} of it, '
            f'with filling in {(evaluated + filled) / seconds:.1%}'
        )
        if _PANELS.value:
            picture = _panels(to_uint8(full.reshape(*size, -1)), picture, filling)
    save_picture(target, picture)
    print(f'{size[1]} × {size[0]} pixels in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
