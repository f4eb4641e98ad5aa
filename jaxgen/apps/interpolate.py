"""Latent interpolation: from image to image and back to the first, as a grid or a video.

    python -m jaxgen.apps.interpolate --workdir=runs/cips-demo --num=4 --out=grid.png
    python -m jaxgen.apps.interpolate --workdir=runs/cips-demo --num=6 --space=z --out=loop.gif

In w the path is straight. In z it follows great circles: the mapping network normalises z, so that
only its direction counts, and a straight line would take the same way at an uneven speed, fastest
half-way.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, default_size
from jaxgen.apps.output import PICTURES, VIDEOS, check_target, save_picture, save_video
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_SPACE = flags.DEFINE_enum('space', 'w', ['z', 'w'], 'Which latents.', flag_values=_FLAGS)
_NUM = flags.DEFINE_integer(
    'num',
    4,
    'How many images to go through.',
    lower_bound=2,
    upper_bound=10_000,
    flag_values=_FLAGS,
)
_STEPS = flags.DEFINE_integer(
    'steps',
    None,
    'From one to the next; default: 8 in a picture, 45 in a video.',
    lower_bound=1,
    upper_bound=10_000,
    flag_values=_FLAGS,
)
_FPS = flags.DEFINE_integer(
    'fps', 25, 'Of a video.', lower_bound=1, upper_bound=100, flag_values=_FLAGS
)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'WIDTHxHEIGHT or SIDE of an image; default: the training frame, in a video its smallest '
    'multiple of 256 pixels a side.',
    flag_values=_FLAGS,
)
_OUT = flags.DEFINE_string(
    'out', 'interpolate.png', 'Picture (a grid), or .mp4 or .gif.', flag_values=_FLAGS
)

PIXELS_AT_ONCE = 65_536


def lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """`[T, W]`: on the straight line from a `[W]` (t = 0) to b (t = 1)."""
    return a + np.asarray(t)[:, None] * (b - a)


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """`[T, W]`: directions on the great circle from a `[W]` to b, at constant angular speed.

    Lengths go from that of a to that of b. Opposite directions, whose circle is undefined, raise
    ValueError.
    """
    t = np.asarray(t)[:, None]
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    a, b = a / lengths[0], b / lengths[1]
    # The part of b that is perpendicular to a: exact for small angles too.
    across = b - np.dot(a, b) * a
    angle = np.arctan2(np.linalg.norm(across), np.dot(a, b))
    if np.pi - angle < 1e-6:
        raise ValueError('a and b are opposite: no great circle is shortest')
    across = across / max(np.linalg.norm(across), np.finfo(across.dtype).tiny)
    direction = np.cos(t * angle) * a + np.sin(t * angle) * across
    return direction * (lengths[0] + t * (lengths[1] - lengths[0]))


def path(keys: np.ndarray, steps: int, *, space: str = 'w', close: bool = True) -> np.ndarray:
    """Latents from each of `keys [K, W]` to the next, and back to the first if `close`.

    Returns:
      `[legs, steps, W]`: a leg holds its start, and not its end, which is the next one's start.
    """
    between = {'w': lerp, 'z': slerp}[space]
    ends = np.roll(keys, -1, axis=0)
    legs = len(keys) if close else len(keys) - 1
    t = np.arange(steps) / steps
    return np.stack([between(keys[i], ends[i], t) for i in range(legs)]).astype(np.float32)


def draw(
    run: 'Run',
    w: 'jax.Array',
    size: tuple[int, int],
    *,
    noise: 'jax.Array | None' = None,
) -> Iterator[np.ndarray]:
    """Images `[H, W, 3]` around [-1, 1] in the styles `w [F, W]`, one by one.

    `noise`: `[1]` keys of all of them, for a generator with noise='random'.
    """
    height, width = size
    coords = run.generator.points(height, width)
    at_once = max(1, min(len(w), PIXELS_AT_ONCE // (height * width)))
    for start in range(0, len(w), at_once):
        # The last batch is filled up, so that there is one shape to compile.
        number = np.minimum(np.arange(start, start + at_once), len(w) - 1)
        keys = None if noise is None else noise[np.zeros(at_once, np.int32)]
        images = run.render(coords, w[number], noise=keys)
        yield from images.reshape(at_once, height, width, -1)[: len(w) - start]


def _styles(run: 'Run', steps: int) -> np.ndarray:
    """`[legs, steps, W]` of the flags."""
    z, w = run.styles(range(_NUM.value), **_MODEL.drawing())
    if _SPACE.value == 'w':
        return path(np.asarray(w), steps)
    zs = path(np.asarray(z, np.float64), steps, space='z')
    label = _MODEL.label.value
    labels = np.full(zs.shape[0] * steps, label) if run.generator.num_classes else None
    styles = run.mapping(zs.reshape(-1, zs.shape[-1]), labels, truncation=_MODEL.truncation.value)
    return np.asarray(styles).reshape(*zs.shape[:2], -1)


def main() -> None:
    """Renders the grid or the video."""
    _MODEL.check()
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    target = check_target(_OUT.value, PICTURES + VIDEOS)
    video = target.suffix.lower() in VIDEOS
    run = _MODEL.load_cips()
    from jaxgen.training.workdir import to_uint8

    if run.generator.num_classes and _SPACE.value == 'z' and _MODEL.label.value is None:
        raise UserError('in z all images must be of one class: give --label, or --space=w')
    size = size or (default_size(run.generator.frame) if video else run.generator.frame)
    w = _styles(run, _STEPS.value or (45 if video else 8))
    noise = _MODEL.noise(run, [0])
    if video:
        frames = draw(run, w.reshape(-1, w.shape[-1]), size, noise=noise)
        save_video(target, map(to_uint8, frames), fps=_FPS.value)
        print(f'{w.shape[0] * w.shape[1]} frames of {size[1]} × {size[0]} pixels in {target}')
        return
    # A row shows its end, too: the start of the next.
    rows = np.concatenate([w, np.roll(w[:, :1], -1, axis=0)], axis=1)
    images = to_uint8(np.stack(list(draw(run, rows.reshape(-1, w.shape[-1]), size, noise=noise))))
    grid = images.reshape(*rows.shape[:2], *size, -1).transpose(0, 2, 1, 3, 4)
    save_picture(target, grid.reshape(rows.shape[0] * size[0], rows.shape[1] * size[1], -1))
    print(f'{rows.shape[0]} rows of {rows.shape[1]} images in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
