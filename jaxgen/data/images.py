"""Image files to pictures of one size: pure functions over PIL.

Conventions. Sizes are (width, height), as in PIL. Nothing here opens a file: bytes in, bytes out.
Pictures are 8-bit, mode 'RGB' or 'L', and carry nothing but pixels (no EXIF, no colour profile).

How the kinds of files are read:
- EXIF orientation is applied to the pixels; an unreadable EXIF block is ignored.
- Transparency of any kind (alpha, a transparent palette entry or colour) is composited on white.
- 16 bits per channel become 8 by keeping the high byte, for grey as for colour.
- CMYK and YCCK JPEGs go through PIL's own conversion. Embedded colour profiles are ignored.
- Of an animation the first frame is taken.
- The content decides the format, not the file's ending.
"""

import contextlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps

FORMATS = ('PNG', 'JPEG', 'WEBP')
SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')
CROPS = ('center', 'none')

# Level 6, PIL's default, costs 2-3 times as long for files 5 % smaller.
_PNG_LEVEL = 3


class CorruptImage(Exception):
    """Bytes that are no readable image. The message is one line: the reason."""


def decode(data: bytes, *, grey: bool = False) -> Image.Image:
    """Decodes a PNG, JPEG or WebP file to an upright picture in mode 'RGB' (or 'L' where `grey`).

    Raises CorruptImage where the bytes are damaged, truncated, of another format, or declare more
    pixels than PIL's limit against decompression bombs (2 `Image.MAX_IMAGE_PIXELS`, 179 million).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
            with contextlib.suppress(Exception):  # a broken EXIF block makes no broken picture
                image = ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders raise nearly anything on hostile bytes
        reason = ' '.join(str(error).split()) or 'no reason given'
        if isinstance(error, Image.UnidentifiedImageError):
            reason = 'not a PNG, JPEG or WebP image'
        raise CorruptImage(f'{type(error).__name__}: {reason}') from error
    image = _composite_on_white(_to_8_bits(image)).convert('L' if grey else 'RGB')
    image.info.clear()
    return image


def crop_box(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred box of `size`'s aspect ratio in `source`: (left, top, right, bottom)."""
    width, height = source
    if width * size[1] > height * size[0]:
        crop = max(1, round(height * size[0] / size[1])), height
    else:
        crop = width, max(1, round(width * size[1] / size[0]))
    left, top = (width - crop[0]) // 2, (height - crop[1]) // 2
    return left, top, left + crop[0], top + crop[1]


def fit(image: Image.Image, size: tuple[int, int], *, crop: str = 'center') -> Image.Image:
    """Brings a picture to `size` by PIL's Lanczos filter; one of that size keeps its pixels.

    crop='center' first cuts to `crop_box`; crop='none' keeps the whole picture, squeezed where its
    aspect ratio is another one.
    """
    if crop not in CROPS:
        raise ValueError(f"crop must be one of {CROPS}, got '{crop}'")
    if crop == 'center':
        image = image.crop(crop_box(image.size, size))
    return image.resize(size, Image.Resampling.LANCZOS)


def encode_png(image: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _to_8_bits(image: Image.Image) -> Image.Image:
    # PIL takes the high byte of 16-bit colour, but clips 16-bit grey to 255 on conversion.
    if not image.mode.startswith('I'):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _composite_on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
