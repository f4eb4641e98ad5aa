"""Styles mixed: pixel by pixel in CIPS, layer by layer in StyleGAN2 and StyleGAN3.

    python -m jaxgen.apps.style_mixing --workdir=runs/cips-demo --images=0,3 --mask=radial
    python -m jaxgen.apps.style_mixing --workdir=runs/stylegan2-demo --rows=0,1 --columns=2,3,4,5

CIPS: two images and a mask (--images, --mask, --only, --size). Every pixel has a style of its own,
(1 - m)·w_a + m·w_b, with m from 0 to 1 given by the mask: rings around the centre, a ramp from left
to right, or the luminance of a picture file, enlarged or reduced to fit. The activations are
modulated, not the weights, and pixels are drawn a part at a time: this takes no more memory than
one style for all.

StyleGAN2 and StyleGAN3: a table (--rows, --columns, --layers). Each row begins with an image, each
column with another; where they meet is the row's image with the column's styles in some layers:
coarse (the first four), middle (the next four), fine (the rest; of fewer than twelve layers, a
third each), or any FIRST-LAST.
"""

import pathlib
import sys
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from PIL import Image

from jaxgen import cli
from jaxgen.apps import style_table
from jaxgen.apps.command import ModelFlags, default_size
from jaxgen.apps.output import check_target, in_row, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGES = flags.DEFINE_string(
    'images', '0,1', 'Blend: which two images of the seed: a,b.', flag_values=_FLAGS
)
_MASK = flags.DEFINE_string(
    'mask',
    'radial',
    'Blend: radial, linear, or a picture file: black is a, white b.',
    flag_values=_FLAGS,
)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'Blend: WIDTHxHEIGHT or SIDE; default: the training frame, or its smallest multiple of 256 '
    'pixels a side.',
    flag_values=_FLAGS,
)
_ONLY = flags.DEFINE_bool(
    'only', False, 'Blend: alone, without a, b and the mask.', flag_values=_FLAGS
)
_ROWS = flags.DEFINE_string(
    'rows', '0,1', 'Table: images of the seed that keep the other layers.', flag_values=_FLAGS
)
_COLUMNS = flags.DEFINE_string(
    'columns', '2,3,4,5', 'Table: images of the seed that give styles.', flag_values=_FLAGS
)
_LAYERS = flags.DEFINE_list(
    'layers', ['coarse', 'middle', 'fine'], 'Table: which layers.', flag_values=_FLAGS
)
_OUT = flags.DEFINE_string('out', 'style_mixing.png', 'Picture.', flag_values=_FLAGS)


def radial(height: int, width: int) -> np.ndarray:
    """`[H, W]`: 1 in the centre, falling with the distance to 0 half the longer side away."""
    y, x = (np.abs(np.linspace(1 - n, n - 1, n)) / max(height, width) for n in (height, width))
    return np.clip(1 - np.hypot(y[:, None], x), 0, 1).astype(np.float32)


def linear(height: int, width: int) -> np.ndarray:
    """`[H, W]`: from 0 on the left to 1 on the right."""
    return np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))


SHAPES = {'radial': radial, 'linear': linear}


def read_mask(path: str | pathlib.Path) -> Image.Image:
    """The luminance of a picture file.

    Raises:
      UserError: no such file, or not a picture.
    """
    try:
        with Image.open(pathlib.Path(path).expanduser()) as picture:
            return picture.convert('L')
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, 'strerror', None) or 'not a picture that can be read'
        raise UserError(
            f'--mask must be radial, linear or a picture file, got {str(path)!r}: {reason}'
        ) from error


def fit_mask(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """`[H, W]`, 0 (black) to 1 (white)."""
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float32) / 255


def blend(
    run: 'Run', w: 'jax.Array', mask: np.ndarray, *, noise: 'jax.Array | None' = None
) -> np.ndarray:
    """`[H, W, 3]` around [-1, 1] in the styles `w [2, W]`: the first where `mask [H, W]` is 0."""
    height, width = mask.shape
    m = mask.reshape(-1, 1).astype(np.float32)
    weights = np.concatenate([1 - m, m], axis=-1)
    coords = run.generator.points(height, width)
    return run.render(coords, w[None], weights=weights, noise=noise).reshape(height, width, -1)


def _image_numbers(flag: flags.FlagHolder[str], count: int | None = None) -> list[int]:
    numbers = cli.parse_numbers(flag.value, count or flag.value.count(',') + 1, f'--{flag.name}')
    if any(n != int(n) or not 0 <= n <= 2**20 for n in numbers):
        how_many = 'two numbers' if count else 'numbers'
        raise UserError(f'--{flag.name} must be {how_many} from 0, e.g. 0,3, got {flag.value!r}')
    return [int(n) for n in numbers]


def _refuse(run: 'Run', use: str, *others: flags.FlagHolder) -> None:
    """UserError for flags that are not of what a generator of this kind does."""
    for flag in others:
        if flag.present:
            kind = type(run.generator).__name__
            raise UserError(f'--{flag.name} does not go with a {kind}, whose styles mix {use}')


def main() -> None:
    """Renders the blend, and both images beside it; or the table."""
    _MODEL.check()
    numbers = _image_numbers(_IMAGES, 2)
    rows, columns = _image_numbers(_ROWS), _image_numbers(_COLUMNS)
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    picture = None if _MASK.value in SHAPES else read_mask(_MASK.value)
    target = check_target(_OUT.value)
    run = _MODEL.load_styled()
    if hasattr(run.generator, 'points'):
        _refuse(run, 'pixel by pixel', _ROWS, _COLUMNS, _LAYERS)
        _write_blend(run, target, numbers, picture, size)
    else:
        _refuse(run, 'layer by layer', _IMAGES, _MASK, _ONLY, _SIZE)
        _write_table(run, target, rows, columns)


def _write_table(run: 'Run', target: pathlib.Path, rows: list[int], columns: list[int]) -> None:
    layers = style_table.parse_layers(_LAYERS.value, run.generator.num_ws)
    _, w = run.styles([*rows, *columns], **_MODEL.drawing())
    noise = _MODEL.noise(run, [*rows, *columns])
    count = len(rows)
    picture = style_table.table(
        run,
        w[:count],
        w[count:],
        layers,
        captions=tuple(f'images {", ".join(map(str, n))}' for n in (rows, columns)),
        noise=None if noise is None else (noise[:count], noise[count:]),
    )
    save_picture(target, picture)
    print(f'{len(layers)} × {count} rows of {len(columns)} mixes in {target}')


def _write_blend(
    run: 'Run',
    target: pathlib.Path,
    numbers: list[int],
    picture: Image.Image | None,
    size: tuple[int, int] | None,
) -> None:
    from jaxgen.training.workdir import to_uint8

    height, width = size or default_size(run.generator.frame)
    mask = fit_mask(picture, height, width) if picture else SHAPES[_MASK.value](height, width)
    _, w = run.styles(numbers, **_MODEL.drawing())
    noise = _MODEL.noise(run, numbers)
    blended = to_uint8(blend(run, w, mask, noise=None if noise is None else noise[:1]))
    if not _ONLY.value:
        coords = run.generator.points(height, width)
        a, b = to_uint8(run.render(coords, w, noise=noise)).reshape(2, height, width, -1)
        share = np.repeat(to_uint8(2 * mask[..., None] - 1), 3, axis=-1)
        captions = f'image {numbers[0]}', 'blend', f'image {numbers[1]}', 'share of the latter'
        blended = in_row([a, blended, b, share], captions)
    save_picture(target, blended)
    print(f'{width} × {height} pixels in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
