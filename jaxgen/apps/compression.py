"""Lossless compression of a picture with a model's own likelihood, and back.

    python -m jaxgen.apps.compression --workdir=RUN --label=3 --input=three.png --out=three.jxc
    python -m jaxgen.apps.compression --workdir=RUN --input=three.jxc --out=again.png

The code of the sub-pixels takes −log2 p of the picture, to two bits: as many bits as the model's
bits per dimension say. A header of 20 bytes comes on top. With fewer than 256 levels a picture may
hold bytes that are no level of the model; what is below the levels then costs its plain bits, and
the picture still comes back byte for byte.

Coder and decoder compute the same numbers bit for bit on the same machine with the same weights and
the same versions. The file holds check sums of the weights and of the picture: anything else is an
error, never a wrong picture.
"""

import pathlib
import struct
import sys
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.arithmetic_coder import Decoder, Encoder, table, uniform
from jaxgen.apps.likelihood_command import LikelihoodFlags, pixels_of, read_picture
from jaxgen.apps.output import check_target, replacing, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.objectives.autoregressive_coding import Walk
    from jaxgen.training.restore import LikelihoodRun

_FLAGS = flags.FlagValues()
_MODEL = LikelihoodFlags(_FLAGS)
_INPUT = flags.DEFINE_string(
    'input', None, 'A picture, or a .jxc file to decompress.', flag_values=_FLAGS
)
_OUT = flags.DEFINE_string(
    'out', None, 'The .jxc file, or the picture: .png, .tif or .webp.', flag_values=_FLAGS
)

SUFFIX = '.jxc'
LOSSLESS = ('.png', '.tif', '.tiff', '.webp')
_MAGIC = b'JXC1'
# Magic, check sums of weights and picture, height, width, colours, label + 1, whether exact.
_HEADER = struct.Struct('>4sIIHHBHB')


class Compressed(NamedTuple):
    """A file; the length of its code in bits, without the header; −log2 p of the picture."""

    data: bytes
    bits: int
    information: float


def representatives(levels: int) -> np.ndarray:
    """The byte `[L]` that each level is shown as: evenly from 0 to 255."""
    return np.rint(np.arange(levels) * (255 / (levels - 1))).astype(np.uint8)


def first_bytes(levels: int) -> np.ndarray:
    """The smallest byte `[L + 1]` of each level ⌊byte·L / 256⌋, and 256."""
    return -(-256 * np.arange(levels + 1) // levels)


def compress(run: 'LikelihoodRun', picture: np.ndarray, label: int | None = None) -> Compressed:
    """A picture uint8 `[H, W, C]` as the bytes of a file.

    Raises:
      UserError: a picture that the model can't have: other colours, a size that it does not take.
    """
    colours, levels = run.generator.colours, run.generator.levels
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != colours:
        raise UserError(
            f'a picture must be bytes [H, W, {colours}], got {picture.dtype} {picture.shape}'
        )
    image = picture.astype(np.int32) * levels // 256
    exact = bool((representatives(levels)[image] == picture).all())
    first, encoder, information = first_bytes(levels), Encoder(), [0.0]

    def choose(at: tuple[int, int, int], log_probs: np.ndarray) -> int:
        level = int(image[at])
        encoder.encode(level, table(log_probs))
        information[0] -= float(log_probs[level]) / np.log(2)
        if not exact and (width := int(first[level + 1] - first[level])) > 1:
            encoder.encode(int(picture[at] - first[level]), uniform(width))
            information[0] += np.log2(width)
        return level

    _walk(run, picture.shape[:2], label)(choose)
    code, bits = encoder.finish()
    sums = fingerprint(run), zlib.crc32(picture.tobytes())
    number = 0 if label is None else label + 1
    header = _HEADER.pack(_MAGIC, *sums, *picture.shape, number, exact)
    return Compressed(header + code, bits, information[0])


def decompress(run: 'LikelihoodRun', data: bytes) -> np.ndarray:
    """The picture uint8 `[H, W, C]` of a file's bytes.

    Raises:
      UserError: not such a file, a damaged one, or one of other weights or of another machine.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise UserError('not a file that this app made')
    _, weights, crc, *shape, number, exact = _HEADER.unpack(data[: _HEADER.size])
    if weights != fingerprint(run) or shape[2] != run.generator.colours:
        raise UserError(f'the file was made with other weights than those of {run.source!r}')
    levels = run.generator.levels
    first, shows = first_bytes(levels), representatives(levels)
    picture, decoder = np.zeros(shape, np.uint8), Decoder(data[_HEADER.size :])

    def choose(at: tuple[int, int, int], log_probs: np.ndarray) -> int:
        level = decoder.decode(table(log_probs))
        width = int(first[level + 1] - first[level])
        rest = decoder.decode(uniform(width)) if not exact and width > 1 else 0
        picture[at] = shows[level] if exact else first[level] + rest
        return level

    _walk(run, tuple(shape[:2]), number - 1 if number else None)(choose)
    if zlib.crc32(picture.tobytes()) != crc:
        raise UserError(
            'the file is damaged, or was made on another machine or with other versions: '
            'their numbers differ in the last bits'
        )
    return picture


def fingerprint(run: 'LikelihoodRun') -> int:
    """A check sum of the weights."""
    import jax

    found = 0
    for path, leaf in sorted(
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree.leaves_with_path(run.variables)
    ):
        found = zlib.crc32(np.asarray(leaf).tobytes(), zlib.crc32(path.encode(), found))
    return found


def _walk(run: 'LikelihoodRun', size: tuple[int, int], label: int | None) -> 'Walk':
    import jax

    from jaxgen.objectives.autoregressive_coding import Walk

    classes = run.objective.num_classes
    if (label is None) != (not classes) or (classes and label >= classes):
        allowed = f'from 0 to {classes - 1}' if classes else 'left out: the model has none'
        raise UserError(f'label must be {allowed}, got {label}')
    given = {} if label is None else {'label': np.array([label], np.int32)}
    # One image, one device: whatever this machine has, the sums are the same.
    variables = jax.device_put(jax.device_get(run.variables), jax.local_devices()[0])
    shape = jax.ShapeDtypeStruct((1, *size, run.generator.colours), 'int32')
    try:
        jax.eval_shape(lambda v, x: run.generator.apply(v, x, **given), variables, shape)
    except ValueError as error:
        raise UserError(f'a picture of {size[1]}×{size[0]}: {error}') from error
    return Walk(run.generator, variables, size, **given)


def _compress_file(target: pathlib.Path) -> None:
    picture = read_picture(_INPUT.value)
    run = _MODEL.load()
    colours = run.generator.colours
    wanted = {1: ('L', '1'), 3: ('RGB',)}.get(colours, ())
    if picture.mode not in wanted:
        raise UserError(
            f'--input={_INPUT.value!r} must be 8-bit with {colours} colours and without '
            f'transparency, got mode {picture.mode!r}'
        )
    label = _MODEL.condition(run, 1).get('label', [None])[0]
    label = None if label is None else int(label)
    pixels = pixels_of(picture, colours)
    made = compress(run, pixels, label)
    with replacing(target) as path:
        path.write_bytes(made.data)
    print(
        f'{made.bits} bits for −log2 p = {made.information:.2f} bits '
        f'({made.information / pixels.size:.3f} bits/dim), with the header {len(made.data)} bytes, '
        f'in {target}'
    )


def _decompress_file(target: pathlib.Path) -> None:
    try:
        data = pathlib.Path(_INPUT.value).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f'--input={_INPUT.value!r}: {error.strerror}') from error
    picture = decompress(_MODEL.load(), data)
    if target.suffix.lower() == '.webp':
        from PIL import Image

        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        with replacing(target) as path:
            image.save(path, lossless=True)
    else:
        save_picture(target, picture)
    print(f'{picture.shape[1]} × {picture.shape[0]} pixels in {target}')


def main() -> None:
    """Compresses, or decompresses a .jxc."""
    cli.require(input=_INPUT.value, out=_OUT.value)
    _MODEL.check()
    back = _INPUT.value.lower().endswith(SUFFIX)
    target = check_target(_OUT.value, LOSSLESS if back else (SUFFIX,))
    if back:
        _decompress_file(target)
    else:
        _compress_file(target)


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
