"""Rows of numbers, image after image, kept on disk: as moments, or one by one.

A pass over 50,000 images may take an hour. So what has been collected is saved about every minute,
under a name that is the hash of everything that the rows depend on, and a pass goes on where the
last one stopped. A finished collection is the cache: asking again reads it. Files appear whole, by
one rename. Of several processes the first one alone touches them.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxgen.errors import UserError
from jaxgen.metrics import stats
from jaxgen.training.workdir import make_writable

MOMENTS, ROWS = 'moments', 'rows'
SECONDS = 60.0  # between two saves, of one process
IMAGES = 8192  # of several, which must save at the same image

Want = tuple[str, str]  # a field of the rows, and MOMENTS or ROWS
Collected = Mapping[Want, stats.Moments | np.ndarray]


class Stream(NamedTuple):
    """Numbers of images.

    Attributes:
      name: for the progress bar.
      fingerprint: of everything that the rows are a function of.
      count: how many images.
      rows: from a start to arrays `[batch, width]` by field, of images start, start + 1, …; what is
        in rows past `count` doesn't matter.
    """

    name: str
    fingerprint: str
    count: int
    rows: Callable[[int], Mapping[str, jax.Array]]


def fingerprint(*parts: object) -> str:
    """A hash of strings, numbers, bytes and iterables of bytes."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Iterator):
            for piece in part:
                total.update(piece)
        else:
            total.update(part if isinstance(part, bytes) else repr(part).encode())
        total.update(b'\0')
    return total.hexdigest()[:32]


def tree_digest(tree: object) -> str:
    """A hash of a tree of arrays, with their names."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape} '.encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:32]


def open_store(folder: str | pathlib.Path, flag: str) -> pathlib.Path:
    """The folder, made and tried; UserError that names the flag where it can't be written."""
    path = pathlib.Path(folder).expanduser()
    try:
        make_writable(path)
    except OSError as error:
        raise UserError(f'{str(path)!r} is not writable ({error.strerror}): see {flag}') from error
    return path


def collect(
    stream: Stream, wants: Iterable[Want], store: pathlib.Path, mesh: Mesh, *, progress: bool = True
) -> Collected:
    """What is wanted of all rows of a stream. The first process gets it, the others nothing."""
    kept = [_Kept(stream, want, store, mesh) for want in dict.fromkeys(wants)]
    try:
        # Those that stopped at one image share a pass.
        for start in sorted({item.done for item in kept if item.done < stream.count}):
            together = [item for item in kept if item.done == start]
            _pass(stream, together, start, progress=progress)
    except OSError as error:
        raise UserError(f'{str(store)!r} cannot be written: {error.strerror}') from error
    if jax.process_index():
        return {}
    return {item.want: item.result() for item in kept}


def forget(stream: Stream, wants: Iterable[Want], store: pathlib.Path) -> None:
    """Removes what `collect` keeps of a stream."""
    if jax.process_index() == 0:
        for want in wants:
            for path in store.glob(f'{_key(stream, want)}.*'):
                path.unlink(missing_ok=True)


def _pass(stream: Stream, kept: list['_Kept'], start: int, *, progress: bool) -> None:
    first = jax.process_index() == 0
    bar = tqdm(
        total=stream.count,
        initial=start,
        desc=stream.name,
        unit='image',
        dynamic_ncols=True,
        disable=None if first and progress else True,
    )
    with bar:
        saved = (time.monotonic(), start)
        while start < stream.count:
            rows = stream.rows(start)
            count = min(len(next(iter(rows.values()))), stream.count - start)
            for item in kept:
                item.add(rows[item.want[0]], start, count)
            start += count
            bar.update(count)
            late = time.monotonic() - saved[0] > SECONDS
            if jax.process_count() > 1:
                late = start - saved[1] >= IMAGES
            if late or start == stream.count:
                for item in kept:
                    item.save(start)
                saved = (time.monotonic(), start)


def _key(stream: Stream, want: Want) -> str:
    return fingerprint(stream.fingerprint, stream.count, *want)


class _Kept:
    """One collection on disk: KEY.npz of moments; KEY.npy of rows, KEY.part and KEY.json before."""

    def __init__(self, stream: Stream, want: Want, store: pathlib.Path, mesh: Mesh) -> None:
        self.want, self._count, self._mesh = want, stream.count, mesh
        self._path = store / f'{_key(stream, want)}.{"npz" if want[1] == MOMENTS else "npy"}'
        self._part, self._state = (self._path.with_suffix(end) for end in ('.part', '.json'))
        self._moments: stats.Moments | None = None
        self._sums: stats.Sums | None = None
        self._rows: np.ndarray | None = None
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._gather = jax.jit(lambda rows: rows, out_shardings=self._everywhere)
        done = self._find() if jax.process_index() == 0 else 0
        if jax.process_count() > 1:
            done = int(multihost_utils.broadcast_one_to_all(np.int32(done)))
        self.done = done

    def add(self, rows: jax.Array, start: int, count: int) -> None:
        if self.want[1] == MOMENTS:
            if self._sums is None:
                self._sums = stats.start(rows.shape[1], mesh=self._mesh)
            real = jnp.arange(len(rows)) < count
            self._sums = stats.add(self._sums, rows, real, mesh=self._mesh)
            return
        rows = np.asarray(self._gather(rows))
        if jax.process_index():
            return
        if self._rows is None:
            self._rows = self._open(rows)
        self._rows[start : start + count] = rows[:count]

    def save(self, done: int) -> None:
        """Puts on disk what there is of the first `done` images."""
        self.done = done
        if self.want[1] == MOMENTS:
            more = stats.finish(self._sums, mesh=self._mesh)
            self._sums = None
            self._moments = more if self._moments is None else stats.merge(self._moments, more)
            if jax.process_index() == 0:
                _replace(self._path, lambda file: np.savez(file, **self._moments._asdict()))
        elif jax.process_index() == 0:
            self._rows.flush()
            if done == self._count:
                self._rows = None
                self._part.replace(self._path)
                self._state.unlink(missing_ok=True)
            else:
                text = json.dumps({'done': done}).encode()
                _replace(self._state, lambda file: file.write(text))

    def result(self) -> stats.Moments | np.ndarray:
        if self.want[1] == MOMENTS:
            return self._moments
        return np.load(self._path, mmap_mode='r')

    def _find(self) -> int:
        """How many images are on disk already."""
        if self.want[1] == MOMENTS:
            with contextlib.suppress(FileNotFoundError), _damaged(self._path):
                with np.load(self._path, allow_pickle=False) as file:
                    found = {name: file[name] for name in stats.Moments._fields}
                self._moments = stats.Moments(**found | {'count': int(found['count'])})
            return self._moments.count if self._moments else 0
        with contextlib.suppress(FileNotFoundError), _damaged(self._path):
            if len(np.load(self._path, mmap_mode='r', allow_pickle=False)) == self._count:
                return self._count
        with contextlib.suppress(FileNotFoundError), _damaged(self._part):
            done = int(json.loads(self._state.read_text())['done'])
            rows = np.lib.format.open_memmap(self._part, mode='r+')
            if len(rows) == self._count:
                self._rows = rows
                return done
        return 0

    def _open(self, rows: np.ndarray) -> np.ndarray:
        shape = (self._count, *rows.shape[1:])
        return np.lib.format.open_memmap(self._part, mode='w+', dtype=rows.dtype, shape=shape)


@contextlib.contextmanager
def _damaged(path: pathlib.Path) -> Iterator[None]:
    """A file that can't be read is as good as none."""
    try:
        yield
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        tqdm.write(f'{path} is damaged and is made again: {type(error).__name__}')


def _replace(path: pathlib.Path, write: Callable) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    with temporary.open('wb') as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
