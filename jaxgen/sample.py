"""Draws images from a trained run.

    python -m jaxgen.sample --workdir=runs/cips-demo --num=16 --truncation=0.7 --out=grid.png

--size=512x384 (width × height) draws any size; --individual writes one file per image into the
folder --out. CIPS renders in tiles, over all devices; a PixelCNN has its images spread over them.
"""

import pathlib
import sys

from absl import flags

from jaxgen import cli
from jaxgen.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_NUM = flags.DEFINE_integer('num', 16, 'How many images.', lower_bound=1)
_SEED = flags.DEFINE_integer(
    'seed', 0, 'Image i is a function of seed and i.', lower_bound=0, upper_bound=2**31 - 1
)
_TRUNCATION = flags.DEFINE_float('truncation', 1.0, 'For a GAN, ψ: 1 is off, 0 is the mean image.')
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1.0, 'For a PixelCNN: scales the noise of its draws.'
)
_LABEL = flags.DEFINE_integer(
    'label', None, 'Class, for a model with classes; default: each in turn.'
)
_SIZE = flags.DEFINE_string('size', None, 'WIDTHxHEIGHT or SIDE; default: that of the training.')
_OUT = flags.DEFINE_string('out', 'grid.png', 'Picture, or folder with --individual.')
_INDIVIDUAL = flags.DEFINE_bool('individual', False, 'One file per image.')
_EMA = flags.DEFINE_bool('ema', True, 'Averaged parameters.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'newest', 'newest, best, or a step.')


def main() -> None:
    """Restores a checkpoint and renders."""
    cli.require(workdir=_WORKDIR.value)
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    from jaxgen.training import workdir
    from jaxgen.training.restore import restore

    run = restore(_WORKDIR.value, ema=_EMA.value, checkpoint=_CHECKPOINT.value)
    images = run.sample(
        _NUM.value,
        _SEED.value,
        truncation=_TRUNCATION.value,
        temperature=_TEMPERATURE.value,
        label=_LABEL.value,
        size=size,
    )
    out = pathlib.Path(_OUT.value)
    try:
        if _INDIVIDUAL.value:
            out.mkdir(parents=True, exist_ok=True)
            for i, image in enumerate(images):
                workdir.save_png(out / f'{i:06d}.png', workdir.to_uint8(image))
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            workdir.save_png(out, workdir.tile_images(images))
    except (OSError, ValueError) as error:
        raise UserError(f'--out={_OUT.value!r}: {error}') from error
    of = f'step {run.step}' if run.step is not None else run.source
    print(f'{len(images)} images of {of} in {out}')


if __name__ == '__main__':
    sys.exit(cli.run(main))
