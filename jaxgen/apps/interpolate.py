"""Latent interpolation: from image to image and back to the first, as a grid or a video.

    python -m jaxgen.apps.interpolate --workdir=runs/cips-demo --num=4 --out=grid.png
    python -m jaxgen.apps.interpolate --workdir=runs/cips-demo --num=6 --space=z --out=loop.gif

Any generator with styles will do: CIPS at any --size, StyleGAN2 and StyleGAN3 at their own, shown
in a video with each pixel repeated up to 256 a side.

In w the path is straight, or with --smooth one closed curve without corners. In z it follows great
circles: the mapping network normalises z, so that only its direction counts, and a straight line
would take the same way at an uneven speed, fastest half-way.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, default_size
from jaxgen.apps.drawing import draw
from jaxgen.apps.output import (
    PICTURES,
    VIDEOS,
    check_target,
    enlarge,
    save_picture,
    save_video,
)
from jaxgen.errors import UserError

if TYPE_CHECKING:
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
_SMOOTH = flags.DEFINE_bool(
    'smooth', False, 'In w: a cubic spline, not straight lines.', flag_values=_FLAGS
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
    'WIDTHxHEIGHT or SIDE of an image, for CIPS; default: the training frame, in a video its '
    'smallest multiple of 256 pixels a side.',
    flag_values=_FLAGS,
)
_OUT = flags.DEFINE_string(
    'out', 'interpolate.png', 'Picture (a grid), or .mp4 or .gif.', flag_values=_FLAGS
)


def lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """`[T, …]`: on the straight line from a `[…]` (t = 0) to b (t = 1)."""
    return a + np.asarray(t).reshape(-1, *(1,) * np.ndim(a)) * (b - a)


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
    """Latents from each of `keys [K, …]` to the next, and back to the first if `close`.

    Returns:
      `[legs, steps, …]`: a leg holds its start, and not its end, which is the next one's start.
    """
    between = {'w': lerp, 'z': slerp}[space]
    ends = np.roll(keys, -1, axis=0)
    legs = len(keys) if close else len(keys) - 1
    t = np.arange(steps) / steps
    return np.stack([between(keys[i], ends[i], t) for i in range(legs)]).astype(np.float32)


def spline(keys: np.ndarray, steps: int) -> np.ndarray:
    """`[K, steps, …]` as of `path`, on the closed cubic spline through `keys [K, …]`.

    Its first and second derivatives are continuous at the keys too.
    """
    before, after = np.roll(keys, 1, axis=0), np.roll(keys, -1, axis=0)
    # Second derivatives m of the spline: m[i-1] + 4 m[i] + m[i+1] = 6 (before - 2 key + after), a
    # circulant system.
    turn = 2 * np.pi * np.arange(len(keys)) / len(keys)
    system = (4 + 2 * np.cos(turn)).reshape(-1, *(1,) * (keys.ndim - 1))
    right = np.fft.fft(6 * (before - 2 * keys + after), axis=0)
    here = np.fft.ifft(right / system, axis=0).real
    there = np.roll(here, -1, axis=0)
    t = (np.arange(steps) / steps).reshape(-1, *(1,) * (keys.ndim - 1))
    s = 1 - t
    start, end, here, there = (x[:, None] for x in (keys, after, here, there))
    bend = (s**3 - s)[None] * here + (t**3 - t)[None] * there
    return (s[None] * start + t[None] * end + bend / 6).astype(np.float32)


def _styles(run: 'Run', steps: int) -> np.ndarray:
    """`[legs, steps, …]` of the flags."""
    z, w = run.styles(range(_NUM.value), **_MODEL.drawing())
    if _SPACE.value == 'w':
        return (spline if _SMOOTH.value else path)(np.asarray(w), steps)
    zs = path(np.asarray(z, np.float64), steps, space='z')
    label = _MODEL.label.value
    labels = np.full(zs.shape[0] * steps, label) if run.generator.num_classes else None
    styles = run.mapping(zs.reshape(-1, zs.shape[-1]), labels, truncation=_MODEL.truncation.value)
    return np.asarray(styles).reshape(*zs.shape[:2], *styles.shape[1:])


def main() -> None:
    """Renders the grid or the video."""
    _MODEL.check()
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    target = check_target(_OUT.value, PICTURES + VIDEOS)
    video = target.suffix.lower() in VIDEOS
    if _SMOOTH.value and _SPACE.value != 'w':
        raise UserError('--smooth is for --space=w: great circles have corners')
    run = _MODEL.load_styled()
    from jaxgen.training.workdir import to_uint8

    if run.generator.num_classes and _SPACE.value == 'z' and _MODEL.label.value is None:
        raise UserError('in z all images must be of one class: give --label, or --space=w')
    any_size = hasattr(run.generator, 'points')
    size = size or (
        default_size(run.generator.frame) if video and any_size else run.generator.frame
    )
    w = _styles(run, _STEPS.value or (45 if video else 8))
    noise = _MODEL.noise(run, [0])
    if video:
        images = draw(run, w.reshape(-1, *w.shape[2:]), size, noise=noise)
        frames = (to_uint8(image) if any_size else enlarge(to_uint8(image)) for image in images)
        save_video(target, frames, fps=_FPS.value)
        print(f'{w.shape[0] * w.shape[1]} frames of {size[1]} × {size[0]} pixels in {target}')
        return
    # A row shows its end, too: the start of the next.
    rows = np.concatenate([w, np.roll(w[:, :1], -1, axis=0)], axis=1)
    images = to_uint8(np.stack(list(draw(run, rows.reshape(-1, *w.shape[2:]), size, noise=noise))))
    grid = images.reshape(*rows.shape[:2], *size, -1).transpose(0, 2, 1, 3, 4)
    save_picture(target, grid.reshape(rows.shape[0] * size[0], rows.shape[1] * size[1], -1))
    print(f'{rows.shape[0]} rows of {rows.shape[1]} images in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
