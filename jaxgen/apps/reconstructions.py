"""Reconstructions of held-out images by auto-encoders (arXiv 1606.05328, section 3.3, figure 6).

    python -m jaxgen.apps.reconstructions --workdir=RUN --beside=MSE_RUN --num=4

Each row is an image, its reconstruction by the auto-encoder of --beside, where one is given, and
several images drawn by the one of --workdir from the same code with different noise.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.likelihood_command import LikelihoodFlags, define_count, grid, held_out, shown
from jaxgen.apps.output import check_target, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.training.restore import LikelihoodRun

_FLAGS = flags.FlagValues()
_MODEL = LikelihoodFlags(_FLAGS, label=False)
_BESIDE = flags.DEFINE_string(
    'beside', None, 'Folder of another auto-encoder, of the same images.', flag_values=_FLAGS
)
_ROWS = define_count(_FLAGS, 'rows', 6, 'How many held-out images.')
_NUM = define_count(_FLAGS, 'num', 4, 'Reconstructions of each.')
_OUT = flags.DEFINE_string('out', 'reconstructions.png', 'Picture.', flag_values=_FLAGS)


def reconstruct(
    run: 'LikelihoodRun',
    images: np.ndarray,
    num: int = 1,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> np.ndarray:
    """`[B, num, H, W, C]` around [-1, 1]: `num` reconstructions of images `[B, H, W, C]`."""
    from jaxgen.apps.code_interpolation import decode, encode

    codes = encode(run, images).repeat(num, axis=0)
    slots = np.arange(len(codes))
    drawn = decode(run, codes, slots, seed=seed, temperature=temperature)
    return drawn.reshape(len(images), num, *drawn.shape[1:])


def main() -> None:
    """Draws the rows."""
    _MODEL.check()
    target = check_target(_OUT.value)
    run = _MODEL.load_autoencoder()
    beside = None if _BESIDE.value is None else _MODEL.load_autoencoder(_BESIDE.value)
    images, _ = held_out(run, _ROWS.value, _MODEL.seed.value)
    parts = [images[:, None]]
    if beside is not None:
        if (*beside.frame, beside.generator.colours) != images.shape[1:]:
            raise UserError(f'--beside={_BESIDE.value!r} is of images of another size')
        parts.append(reconstruct(beside, images))
    # A decoder by squared error has nothing to draw.
    several = 1 if run.objective.measured == 'squared_error' else _NUM.value
    drawing = dict(seed=_MODEL.seed.value, temperature=_MODEL.temperature.value)
    parts.append(reconstruct(run, images, several, **drawing))
    save_picture(target, grid(shown(np.concatenate(parts, axis=1))))
    print(f'{len(images)} images with {several} reconstructions each in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
