"""The whole ring of a generator trained on a cylinder, and a video that goes round it.

    python -m jaxgen.apps.panorama --workdir=runs/panorama --out=ring.png --video=ring.gif

The columns of the picture lie around the ring (CIPS, section 4.5): the one after the last is the
first. Every frame of the video is cut out of that one render.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, default_size, define_image
from jaxgen.apps.output import VIDEOS, check_target, save_picture, save_video
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGE = define_image(_FLAGS)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'WIDTHxHEIGHT of the whole ring; default: that of the training, or its smallest multiple of '
    '256 pixels a side.',
    flag_values=_FLAGS,
)
_OUT = flags.DEFINE_string('out', 'panorama.png', 'Picture of the ring.', flag_values=_FLAGS)
_VIDEO = flags.DEFINE_string('video', None, 'A .gif or .mp4, one turn.', flag_values=_FLAGS)
_VIEW = flags.DEFINE_integer(
    'view', None, 'Columns in sight; default: 2 × height.', lower_bound=1, flag_values=_FLAGS
)
_SECONDS = flags.DEFINE_float('seconds', 8.0, 'Duration of a turn, 0.1 to 600.', flag_values=_FLAGS)

FPS = 25


def render_ring(
    run: 'Run', w: 'jax.Array', size: tuple[int, int], *, noise: 'jax.Array | None' = None
) -> np.ndarray:
    """`[H, W, 3]` around [-1, 1]: all W columns of the ring in the style w `[1, W]`."""
    height, width = size
    return run.render(run.generator.points(height, width), w, noise=noise).reshape(*size, -1)


def steps_between_columns(ring: np.ndarray) -> np.ndarray:
    """`[W]`: root of the mean squared difference from column i to the next; the last: the seam."""
    differences = np.roll(ring, -1, axis=1) - ring
    return np.sqrt(np.mean(np.square(differences), axis=(0, 2)))


def turn(ring: np.ndarray, frames: int, view: int) -> Iterator[np.ndarray]:
    """`frames` views `[H, view, C]` once around the ring `[H, W, C]`, moved by whole pixels."""
    width = ring.shape[1]
    for i in range(frames):
        columns = i * width // frames + np.arange(view)
        yield ring[:, columns % width]


def main() -> None:
    """Renders the ring, measures the seam, and goes round."""
    _MODEL.check()
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    if not 0.1 <= _SECONDS.value <= 600:
        raise UserError(f'--seconds must be from 0.1 to 600, got {_SECONDS.value}')
    target = check_target(_OUT.value)
    video = check_target(_VIDEO.value, VIDEOS, flag='--video') if _VIDEO.value is not None else None
    run = _MODEL.load_cips(cylindrical=True)
    from jaxgen.training.workdir import to_uint8

    size = size or default_size(run.generator.frame)
    _, w = run.styles([_IMAGE.value], **_MODEL.drawing())
    ring = render_ring(run, w, size, noise=_MODEL.noise(run, [_IMAGE.value]))
    picture = to_uint8(ring)
    save_picture(target, picture)
    steps = steps_between_columns(ring)
    print(f'{size[1]} × {size[0]} pixels in {target}')
    print(
        f'from the last column to the first {steps[-1]:.4f}; between the others '
        f'{np.median(steps[:-1] if len(steps) > 1 else steps):.4f} in the median, '
        f'{steps[:-1].max(initial=0):.4f} at most'
    )
    if video:
        frames = min(size[1], max(1, round(FPS * _SECONDS.value)))
        view = _VIEW.value or min(size[1], 2 * size[0])
        save_video(video, turn(picture, frames, view), fps=frames / _SECONDS.value)
        print(f'{frames} frames in {video}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
