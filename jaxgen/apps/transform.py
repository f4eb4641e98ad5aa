"""What moves and what sticks: a generator's image under motions of its input, and along w.

    python -m jaxgen.apps.transform --workdir=runs/stylegan3-demo --out=transform.gif
    python -m jaxgen.apps.transform --workdir=runs/stylegan3-demo --beside=runs/stylegan2-demo

Motions, each of which ends where it began:

translation   the input moves to the right and to the left by --shift sides of the image
rotation      the input turns once around the middle
walk          w goes around a small circle through the image's own, out of the way by --reach of the
              distance to two other images

The first two need an input that can be moved: StyleGAN3's, or that of a StyleGAN2 with Fourier
features in place of the learned constant (configs/stylegan3.py:config_b). --beside adds a second
model, e.g. a StyleGAN2 of the same size, in the motions that it has. Below each image stands its
middle row over time, downwards: detail that belongs to things draws slanted or waving lines there,
detail that sticks to the pixels draws vertical ones ('Alias-Free GANs', Fig. 1). A picture in place
of a video shows a few of the images, the middle row over time, and the mean of all images, in which
only what sticks stays sharp.
"""

import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, define_image
from jaxgen.apps.drawing import draw
from jaxgen.apps.motion import MOTIONS, OF_INPUT, can_move, path_of
from jaxgen.apps.output import (
    PICTURES,
    VIDEOS,
    check_target,
    enlarge,
    joined,
    save_picture,
    save_video,
    stacked,
)
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

SHOWN = 6  # images in a picture

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGE = define_image(_FLAGS)
_BESIDE = flags.DEFINE_string(
    'beside', None, 'Folder of another run, or weights file.', flag_values=_FLAGS
)
_MOTION = flags.DEFINE_list(
    'motion', None, f'Some of {", ".join(MOTIONS)}; default: all there are.', flag_values=_FLAGS
)
_SHIFT = flags.DEFINE_float(
    'shift', 0.125, 'Of a translation.', lower_bound=0, upper_bound=1, flag_values=_FLAGS
)
_REACH = flags.DEFINE_float(
    'reach', 0.2, 'Of a walk.', lower_bound=0, upper_bound=10, flag_values=_FLAGS
)
_FRAMES = flags.DEFINE_integer(
    'frames', 60, 'Images of each motion.', lower_bound=2, upper_bound=10_000, flag_values=_FLAGS
)
_FPS = flags.DEFINE_integer(
    'fps', 25, 'Of a video.', lower_bound=1, upper_bound=100, flag_values=_FLAGS
)
_OUT = flags.DEFINE_string('out', 'transform.gif', '.mp4, .gif, or a picture.', flag_values=_FLAGS)


class Panel(NamedTuple):
    """A model in one motion: what it is called, and its images `[F, H, W, C]`, uint8."""

    caption: str
    images: np.ndarray


def panel(
    run: 'Run',
    motion: str,
    w: np.ndarray,
    count: int,
    *,
    shift: float,
    reach: float,
    noise: 'jax.Array | None' = None,
) -> Panel:
    """A model in one of `MOTIONS`; `w [3, …]`: the image's styles, and two more for a walk."""
    from jaxgen.training.workdir import to_uint8

    styles, transform = path_of(motion, w, count, shift=shift, reach=reach)
    images = [to_uint8(x) for x in draw(run, styles, noise=noise, transform=transform)]
    name = type(run.generator).__name__.removesuffix('Generator')
    return Panel(f'{name}: {motion}', np.stack(images))


def middle_row(images: np.ndarray, height: int) -> np.ndarray:
    """`[height, W, C]`: the middle row of images `[F, H, W, C]`, time downwards."""
    rows = images[:, images.shape[1] // 2]
    return rows[np.arange(height) * len(rows) // height]


def film(panels: list[Panel]) -> Iterator[np.ndarray]:
    """The frames of the video: panels side by side, a mark at the time on each middle row."""
    tall = [enlarge(p.images[0]).shape[0] // 2 for p in panels]
    slices = [middle_row(p.images, height) for p, height in zip(panels, tall, strict=True)]
    count = len(panels[0].images)
    for i in range(count):
        columns = []
        for each, below in zip(panels, slices, strict=True):
            image = enlarge(each.images[i])
            rows = below[:, np.arange(image.shape[1]) * below.shape[1] // image.shape[1]].copy()
            rows[i * len(rows) // count] = 255
            columns.append(stacked([image, rows], [each.caption, 'middle row, time downwards']))
        yield np.concatenate(columns, axis=1)


def strips(panels: list[Panel]) -> np.ndarray:
    """The picture: for each panel a few images, the middle row over time, and the mean."""
    pictures, captions = [], []
    for each in panels:
        count, side = len(each.images), enlarge(each.images[0], 128).shape[0]
        chosen = each.images[np.arange(SHOWN) * count // SHOWN]
        mean = np.rint(each.images.mean(axis=0)).astype(np.uint8)
        rows = enlarge(middle_row(each.images, each.images.shape[1]), side)
        shown = [enlarge(picture, side) for picture in (*chosen, mean)]
        pictures.append(joined([*shown[:-1], rows, shown[-1]]))
        captions.append(f'{each.caption}: {SHOWN} of {count}, middle row over time, mean')
    return stacked(pictures, captions)


def _load_beside(run: 'Run') -> 'Run':
    """The model of --beside; UserError where it can't stand beside `run`."""
    from jaxgen.training.restore import from_weights, restore

    load = from_weights if pathlib.Path(_BESIDE.value).expanduser().is_file() else restore
    other = load(_BESIDE.value, ema=_MODEL.ema.value)
    if not hasattr(other, 'images'):
        raise UserError(f'--beside={_BESIDE.value!r} is a {type(other.generator).__name__}, '
                        'which has no styles')  # fmt: skip
    if other.generator.frame != run.generator.frame:
        sizes = ['{1}×{0}'.format(*r.generator.frame) for r in (other, run)]
        raise UserError(f'--beside={_BESIDE.value!r} has images of {sizes[0]}, must be {sizes[1]} '
                        f'as those of {run.source!r}')  # fmt: skip
    return other


def _panels(runs: list['Run'], wanted: list[str]) -> list[Panel]:
    """Every model in every motion that it has."""
    found = []
    for run in runs:
        for motion in MOTIONS:
            if motion not in wanted or (motion in OF_INPUT and not can_move(run)):
                continue
            numbers = range(_IMAGE.value, _IMAGE.value + 3)
            _, w = run.styles(numbers, **_MODEL.drawing())
            settings = dict(shift=_SHIFT.value, reach=_REACH.value)
            noise = _MODEL.noise(run, [_IMAGE.value])
            found.append(panel(run, motion, w, _FRAMES.value, noise=noise, **settings))
    return found


def main() -> None:
    """Draws all motions, and writes them side by side."""
    _MODEL.check()
    wanted = _MOTION.value or list(MOTIONS)
    for motion in wanted:
        if motion not in MOTIONS:
            raise UserError(f'--motion must be some of {", ".join(MOTIONS)}, got {motion!r}')
    target = check_target(_OUT.value, PICTURES + VIDEOS)
    run = _MODEL.load_styled()
    runs = [run] if _BESIDE.value is None else [run, _load_beside(run)]
    for motion in _MOTION.value or ():
        if motion in OF_INPUT and not any(map(can_move, runs)):
            raise UserError(
                f'--motion={motion} needs a StyleGAN3, or another input that can be moved; '
                f'{run.source!r} is a {type(run.generator).__name__}: leave --motion=walk'
            )
    panels = _panels(runs, wanted)
    if target.suffix.lower() in VIDEOS:
        save_video(target, film(panels), fps=_FPS.value)
    else:
        save_picture(target, strips(panels))
    print(f'{"; ".join(p.caption for p in panels)} in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
