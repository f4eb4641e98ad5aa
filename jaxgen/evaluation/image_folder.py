"""A folder of images as a data set: for images that jaxgen didn't make.

All files below the folder that end as pictures do, in the order of their names, must be RGB of one
size: a metric of resized or converted images would be another metric.
"""

import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.data import images
from jaxgen.errors import UserError

_PREPARE = 'python -m jaxgen.data.prepare --source=FOLDER --name=NAME --size=SIDE makes a data set'


class ImageFolder(Sequence):
    """Examples {'image': uint8 [H, W, 3]}.

    Attributes:
      name, image_shape, num_classes: as `jaxgen.data.sources.Source` has them.
    """

    num_classes = 0

    def __init__(self, folder: str | pathlib.Path) -> None:
        root = pathlib.Path(folder).expanduser()
        self.name = str(folder)
        if not root.is_dir():
            raise UserError(f'{self.name!r} is no folder')
        self._paths = sorted(
            path for path in root.rglob('*') if path.suffix.lower() in images.SUFFIXES
        )
        if not self._paths:
            raise UserError(
                f'{self.name!r} holds no images: looked for {", ".join(images.SUFFIXES)}'
            )
        self._size = _size(self._paths[0])
        for path in self._paths[1:]:
            if (size := _size(path)) != self._size:
                raise UserError(
                    f'images must be of one size: {self._paths[0].name} is {_times(self._size)}, '
                    f'{path.name} is {_times(size)}; {_PREPARE} of one size'
                )
        self.image_shape = (self._size[1], self._size[0], 3)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self._paths[index]
        try:
            picture = images.decode(path.read_bytes())
        except (images.CorruptImage, OSError) as error:
            raise UserError(f'{str(path)!r} is damaged: {error}') from error
        if picture.size != self._size:  # an orientation in its EXIF block
            raise UserError(
                f'images must be of one size: {path.name} is {_times(picture.size)} as it is shown,'
                f' others are {_times(self._size)}'
            )
        return {'image': np.asarray(picture)}

    def fingerprint_parts(self) -> Iterator[bytes]:
        """What identifies the pixels: the bytes of the files, in order, as hashes."""
        for path in self._paths:
            with path.open('rb') as file:
                yield hashlib.file_digest(file, 'sha256').digest()


def _size(path: pathlib.Path) -> tuple[int, int]:
    """(width, height), from the file's head."""
    try:
        with Image.open(path, formats=images.FORMATS) as picture:
            size, mode = picture.size, picture.mode
    # PIL raises nearly anything on hostile bytes.
    except Exception as error:
        raise UserError(
            f'{str(path)!r} is no readable image: {type(error).__name__}: {error}'
        ) from error
    if mode != 'RGB':
        kind = {'L': 'grey', '1': 'black and white', 'I;16': 'grey', 'P': 'of a palette'}
        raise UserError(
            f'images must be RGB, {str(path)!r} is {kind.get(mode, mode)}: convert it; {_PREPARE}'
        )
    return size


def _times(size: tuple[int, int]) -> str:
    return f'{size[0]}×{size[1]}'
