"""A BigTIFF that is written tile by tile and can be gone on with after any interruption.

Until it is complete the file is called NAME.part. It is a TIFF at every moment: `tifffile` writes
the header with room for the place and the length of every tile, tiles are appended in raster order,
and a length other than zero says that the tile is there. What the picture is stands in its
ImageDescription, as JSON. (`tifffile` itself writes a file in one go; its `memmap` knows no tiles.)
"""

import contextlib
import fcntl
import json
import math
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxgen.apps.output import replacing
from jaxgen.errors import UserError

# TIFF's codes of unsigned integers.
_INTEGERS = {3: '<u2', 4: '<u4', 16: '<u8'}


class TiledTiff:
    """A picture of uint8 on its way to `target`; a context manager.

    Attributes:
      partial: the file until it is complete.
      rows, columns: of tiles; those at the right and lower border are filled up.
      done: how many tiles are there, in raster order.
    """

    def __init__(
        self,
        target: pathlib.Path,
        size: tuple[int, int],
        channels: int = 3,
        *,
        tile: int = 256,
        deflate: int = 6,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts the file, or goes on with it.

        Args:
          size: (height, width).
          channels: 1 (grey) or 3.
          tile: side of a tile, a multiple of 16.
          deflate: effort of the compression, 0 (none) to 9.
          description: what the picture is of, of plain JSON values. A started file of anything
            else is not gone on with.

        Raises:
          UserError: such a file; or one that another process is writing.
        """
        self.partial = target.with_name(target.name + '.part')
        self._target, self._deflate = target, deflate
        self._shape = (tile, tile, channels)
        self.rows, self.columns = (math.ceil(side / tile) for side in size)
        described = {'size': list(size), 'channels': channels, 'tile': tile, 'deflate': deflate}
        described = json.loads(json.dumps(described | dict(description or {})))
        with _as_user_error(self.partial):
            if not self.partial.exists():
                with replacing(self.partial) as path:
                    _write_header(path, size, self._shape, described)
            self._file = self.partial.open('r+b')
        try:
            self._lock()
            self._read_header(described)
        except BaseException:
            self._file.close()
            raise

    @property
    def tiles(self) -> int:
        """How many there are in all."""
        return self.rows * self.columns

    def append(self, tiles: Sequence[np.ndarray]) -> None:
        """The next tiles `[tile, tile, C]`; they are on the disk when this returns."""
        with ThreadPoolExecutor() as pool, _as_user_error(self.partial):
            encoded = list(pool.map(self._encode, tiles))
            first, last = self.done, self.done + len(encoded)
            # The offset of the next tile is known before its length.
            start = int(self._offsets[first])
            self._file.seek(start)
            self._file.write(b''.join(encoded))
            self._file.flush()
            # A power cut must not leave lengths of tiles that aren't there.
            os.fsync(self._file.fileno())
        lengths = [len(tile) for tile in encoded]
        ends = start + np.cumsum(lengths)
        self._offsets[first + 1 : last + 1] = ends[: self.tiles - first - 1]
        self._lengths[first:last] = lengths
        self.done = last

    def finish(self) -> None:
        """Gives the complete file its name."""
        if self.done < self.tiles:
            raise ValueError(f'{self.tiles - self.done} tiles are missing')
        with _as_user_error(self.partial):
            self._offsets.flush()
            self._lengths.flush()
            os.fsync(self._file.fileno())
            self.partial.replace(self._target)

    def close(self) -> None:
        """What is there can be gone on with."""
        self._offsets = self._lengths = None
        self._file.close()

    def __enter__(self) -> 'TiledTiff':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encode(self, tile: np.ndarray) -> bytes:
        if tile.shape != self._shape or tile.dtype != np.uint8:
            raise ValueError(f'a tile must be uint8 {self._shape}, got {tile.dtype} {tile.shape}')
        # TIFF's horizontal predictor: each pixel less the one on its left, modulo 256.
        differences = tile.copy()
        differences[:, 1:] -= tile[:, :-1]
        return zlib.compress(differences.tobytes(), self._deflate)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f'{str(self.partial)!r} is being written by another process') from error

    def _read_header(self, described: dict[str, Any]) -> None:
        import tifffile

        try:
            with tifffile.TiffFile(self.partial) as tiff:
                page = tiff.pages[0]
                found = json.loads(page.description)
                tags = [page.tags[name] for name in ('TileOffsets', 'TileByteCounts')]
                places = [(tag.valueoffset, _INTEGERS[int(tag.dtype)]) for tag in tags]
        except (tifffile.TiffFileError, IndexError, KeyError, ValueError) as error:
            raise UserError(
                f'{str(self.partial)!r} is in the way: it is no started picture; delete it'
            ) from error
        if found != described:
            changes = (
                f'{name}: {found.get(name)} before, {described.get(name)} now'
                for name in described | found
                if found.get(name) != described.get(name)
            )
            raise UserError(
                f'{str(self.partial)!r} is a started picture of something else '
                f'({"; ".join(changes)}): delete it, or choose another --out'
            )
        self._offsets, self._lengths = (
            np.memmap(self.partial, dtype, 'r+', offset, (self.tiles,)) for offset, dtype in places
        )
        missing = np.flatnonzero(np.asarray(self._lengths) == 0)
        self.done = int(missing[0]) if missing.size else self.tiles
        if missing.size:
            # Tiles whose lengths were not yet written down when the process was killed.
            self._file.truncate(int(self._offsets[self.done]))


def _write_header(
    path: pathlib.Path,
    size: tuple[int, int],
    tile: tuple[int, int, int],
    described: dict[str, Any],
) -> None:
    """A file without tiles, in which the first will follow the header."""
    import tifffile

    channels = tile[-1]
    count = math.ceil(size[0] / tile[0]) * math.ceil(size[1] / tile[1])
    with tifffile.TiffWriter(path, bigtiff=True, byteorder='<') as tiff:
        tiff.write(
            (b'' for _ in range(count)),
            shape=size if channels == 1 else (*size, channels),
            dtype='uint8',
            photometric='minisblack' if channels == 1 else 'rgb',
            tile=tile[:2],
            compression='zlib',
            predictor=True,
            description=json.dumps(described),
            metadata=None,
            software='jaxgen',
        )
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].tags['TileOffsets'].valueoffset
    with path.open('r+b') as file:
        start = -(-file.seek(0, os.SEEK_END) // 16) * 16
        file.truncate(start)
        file.seek(offset)
        file.write(start.to_bytes(8, 'little'))


@contextlib.contextmanager
def _as_user_error(path: pathlib.Path) -> Iterator[None]:
    """A full disk, or one that went away."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f'{str(path)!r}: {error.strerror or error}; what is there can be gone on with'
        ) from error
