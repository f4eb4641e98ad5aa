"""Files that apps write: checked before the work, complete or not there at all.

Pictures are uint8 `[H, W, 1 or 3]`.
"""

import contextlib
import itertools
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgen.errors import UserError

PICTURES = ('.png', '.jpg', '.jpeg', '.webp', '.tif', '.tiff')
VIDEOS = ('.mp4', '.gif')


def check_target(
    path: str, suffixes: Sequence[str] = PICTURES, *, flag: str = '--out'
) -> pathlib.Path:
    """`path` as a Path, with its folder made; UserError if a file of that name can't be written."""
    target = pathlib.Path(path).expanduser()
    if target.suffix.lower() not in suffixes:
        raise UserError(f'{flag} must end in one of {", ".join(suffixes)}, got {path!r}')
    if target.suffix.lower() == '.mp4':
        _ffmpeg()
    try:
        if target.is_dir():
            raise UserError(f'{flag}={path!r} is a folder')
        target.parent.mkdir(parents=True, exist_ok=True)
        probe = target.with_name(f'.write-test-{os.getpid()}')
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f'{flag}={path!r} is not writable: {error.strerror}') from error
    return target


@contextlib.contextmanager
def replacing(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `target` to write to; it gets `target`'s name if the block ends well."""
    temporary = target.with_name(f'.{target.stem}.{os.getpid()}{target.suffix}')
    try:
        yield temporary
        temporary.replace(target)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        # Pillow: ValueError for a picture too large for its format.
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'{str(target)!r} could not be written: {reason}') from error
    finally:
        temporary.unlink(missing_ok=True)


def save_picture(target: pathlib.Path, picture: np.ndarray) -> None:
    """Writes a picture in the format of the name."""
    with replacing(target) as path:
        _to_pillow(picture).save(path)


def save_arrays(target: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz."""
    with replacing(target) as path:
        np.savez(path, **arrays)


def save_video(target: pathlib.Path, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Writes frames as they come, in a closed loop: .gif by Pillow, .mp4 by imageio-ffmpeg.

    Raises:
      UserError: .mp4 without imageio-ffmpeg.
    """
    save = _save_gif if target.suffix.lower() == '.gif' else _save_mp4
    with replacing(target) as path:
        save(path, frames, fps)


def enlarge(picture: np.ndarray, least: int = 256) -> np.ndarray:
    """A picture with each pixel repeated, so that no side has fewer than `least`."""
    factor = max(1, -(-least // min(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def joined(pictures: Sequence[np.ndarray], *, axis: int = 1, gap: int = 2) -> np.ndarray:
    """Pictures of one size side by side (axis 1) or below each other (0), white between them."""
    blank = np.full_like(np.take(pictures[0], np.zeros(gap, int), axis=axis), 255)
    parts = [part for picture in pictures for part in (blank, picture)]
    return np.concatenate(parts[1:], axis=axis)


def in_row(pictures: Sequence[np.ndarray], captions: Sequence[str], gap: int = 8) -> np.ndarray:
    """Pictures of one height side by side on white, each below its caption."""
    height = pictures[0].shape[0]
    widths = [picture.shape[1] for picture in pictures]
    band = 2 * gap + max(12, height // 20)
    canvas = Image.new('RGB', (sum(widths) + gap * (len(widths) + 1), height + band + gap), 'white')
    pen, left = ImageDraw.Draw(canvas), gap
    for picture, caption, width in zip(pictures, captions, widths, strict=True):
        canvas.paste(_to_pillow(picture), (left, band))
        font = _fitting_font(caption, width, band - 2 * gap)
        pen.text((left + width / 2, band / 2), caption, 'black', font, anchor='mm')
        left += width + gap
    return np.asarray(canvas)


def stacked(pictures: Sequence[np.ndarray], captions: Sequence[str], gap: int = 8) -> np.ndarray:
    """Pictures of one width below each other on white, each below its caption."""
    width = pictures[0].shape[1]
    band = 2 * gap + 14
    heights = [picture.shape[0] for picture in pictures]
    size = (width + 2 * gap, sum(heights) + band * len(pictures) + gap)
    canvas = Image.new('RGB', size, 'white')
    pen, top = ImageDraw.Draw(canvas), 0
    for picture, caption, height in zip(pictures, captions, heights, strict=True):
        font = _fitting_font(caption, width, band - 2 * gap)
        pen.text((gap, top + band / 2), caption, 'black', font, anchor='lm')
        canvas.paste(_to_pillow(picture), (gap, top + band))
        top += band + height
    return np.asarray(canvas)


def _fitting_font(text: str, width: int, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    while font.getlength(text) > width and size > 6:
        size -= 1
        font = ImageFont.load_default(size)
    return font


def _to_pillow(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def _save_gif(path: pathlib.Path, frames: Iterable[np.ndarray], fps: float) -> None:
    pictures = (_to_pillow(frame) for frame in frames)
    first = next(pictures)
    # GIF counts in hundredths of a second, and browsers slow down anything below two.
    duration = 10 * max(2, round(100 / fps))
    first.save(path, save_all=True, append_images=pictures, duration=duration, loop=0)


def _save_mp4(path: pathlib.Path, frames: Iterable[np.ndarray], fps: float) -> None:
    frames = map(_with_even_sides, frames)
    first = next(frames)
    # imageio-ffmpeg's own writer runs Python between fork and exec, which a process with JAX's
    # threads must not.
    command = [_ffmpeg(), '-y', '-loglevel', 'error', '-f', 'rawvideo', '-pix_fmt', 'rgb24']
    command += ['-s', f'{first.shape[1]}x{first.shape[0]}', '-r', str(fps), '-i', '-']
    command += ['-c:v', 'libx264', '-crf', '18', '-pix_fmt', 'yuv420p', str(path)]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as process:
            try:
                for frame in itertools.chain([first], frames):
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg has ended, and says why
        if process.returncode:
            log.seek(0)
            raise OSError(f'ffmpeg: {log.read().decode(errors="replace").strip()[-200:]}')


def _with_even_sides(frame: np.ndarray) -> np.ndarray:
    """H.264 stores colour at half the resolution: the last row or column is repeated."""
    return np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode='edge')


def _ffmpeg() -> str:
    """The program."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "an .mp4 needs the extra 'video' (pip install imageio-ffmpeg); a .gif does not"
        ) from error
