"""Processes a folder or zip of images in units that are kept, so that a killed run can go on.

Conventions. The *name* of an image is its path, with '/', below the folders that all images share:
a folder and the zip of it are the same source. Images are grouped by the hash of their names into
units of about 64. Each unit becomes one file in the work folder, a zip of PNGs with a report, which
is renamed into place when it is complete and named by a digest of all that determines its content.
So a changed image or setting costs the units that it touches, and no others.

Zip files are read in place. Nothing is extracted, so the paths in them need no trust.

Worker processes import this module: it needs neither tfds nor jax.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import lzma
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import tqdm

from jaxgen.data import images
from jaxgen.errors import UserError

_FORMAT = 1  # of a unit: raise it when images.py gives other pixels for the same file
_UNIT_IMAGES = 64
_MAX_FILE_BYTES = 1 << 30

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Look:
    """What determines the pixels: size (width, height), crop and grey as in `images`."""

    size: tuple[int, int]
    crop: str
    grey: bool


@dataclasses.dataclass(frozen=True)
class Unit:
    """Images that are processed together; `digest` names their file."""

    digest: str
    names: tuple[str, ...]

    def path(self, work: str) -> str:
        return os.path.join(work, f'{self.digest}.zip')


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder or a zip file; the path of every image in it begins with `prefix`."""

    path: str
    is_zip: bool
    prefix: str = ''

    def read(self, name: str) -> bytes:
        """The bytes of one image. Raises CorruptImage where the zip entry is damaged."""
        path = self.prefix + name
        if not self.is_zip:
            path = os.path.join(self.path, path)
            _check_length(os.path.getsize(path))
            return Path(path).read_bytes()
        archive = _open_zip(self.path, os.stat(self.path).st_mtime_ns)
        _check_length(archive.getinfo(path).file_size)
        try:
            return archive.read(path)
        except (
            zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError
        ) as error:  # fmt: skip
            raise images.CorruptImage(f'{type(error).__name__}: {error}') from error


def _check_length(length: int) -> None:
    if length > _MAX_FILE_BYTES:
        raise images.CorruptImage(f'{length} bytes are more than the {_MAX_FILE_BYTES} allowed')


@functools.lru_cache(maxsize=1)
def _open_zip(path: str, mtime_ns: int) -> zipfile.ZipFile:
    del mtime_ns  # part of the key: a new file at the old path is opened anew
    return zipfile.ZipFile(path)


def list_images(path: str) -> tuple[Source, dict[str, int]]:
    """Finds the images of a folder or zip file: the source, and {name: bytes} sorted by name.

    Taken is what has an ending of `images.SUFFIXES`, at any depth; not hidden files, __MACOSX and
    linked folders. Raises UserError where there is none.
    """
    if os.path.isdir(path):
        source, files = Source(os.path.abspath(path), False), _list_folder(path)
    elif os.path.exists(path):
        source, files = Source(os.path.abspath(path), True), _list_zip(path)
    else:
        raise UserError(f'--source={path} does not exist; allowed is a folder or a zip file')
    found = {name: files[name] for name in sorted(files) if _is_image(name)}
    if not found:
        lmdb = any(name.endswith('data.mdb') for name in files)
        hint = '; it holds an LMDB: export the images from it first' if lmdb else ''
        endings = ', '.join(images.SUFFIXES)
        raise UserError(f'--source={path} has no images ({endings}) in {len(files)} files{hint}')
    prefix = _shared_folders([name.split('/')[:-1] for name in found])
    found = {name.removeprefix(prefix): size for name, size in found.items()}
    return dataclasses.replace(source, prefix=prefix), found


def _shared_folders(paths: Sequence[Sequence[str]]) -> str:
    pairs = zip(min(paths), max(paths), strict=False)  # what these two share, all between them do
    return ''.join(f'{a}/' for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _list_folder(root: str) -> dict[str, int]:
    def fail(error: OSError) -> None:
        raise error  # or os.walk would leave out a folder that it may not read

    files = {}
    for folder, below, names in os.walk(root, onerror=fail):
        below[:] = [name for name in below if not name.startswith('.')]
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path):  # not a dangling link or a pipe
                files[os.path.relpath(path, root)] = os.path.getsize(path)
    return files


def _list_zip(path: str) -> dict[str, int]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except zipfile.BadZipFile:
        raise UserError(f'--source={path} is neither a folder nor a readable zip file') from None
    if any(info.flag_bits & 1 for info in members):
        raise UserError(f'--source={path} is encrypted; allowed is a zip without a password')
    return {info.filename: info.file_size for info in members}


def _is_image(name: str) -> bool:
    hidden = any(part.startswith('.') or part == '__MACOSX' for part in name.split('/'))
    return not hidden and name.lower().endswith(images.SUFFIXES)


def digest(*content: Any) -> str:
    """24 hexadecimal digits that stand for plain data."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode('utf-8', 'surrogatepass')).digest()[:8], 'big')


def make_units(files: Mapping[str, int], look: Look) -> list[Unit]:
    """Groups {name: bytes} by the leading bits of the hash; images and units are in its order.

    The number of groups is a power of two, so that it stays, and with it the other groups, when a
    few files come or go.
    """
    bits = max(0, round(math.log2(len(files) / _UNIT_IMAGES)))
    ordered = sorted(files, key=lambda name: (_hash(name), name))
    units = []
    for _, group in itertools.groupby(ordered, key=lambda name: _hash(name) >> (64 - bits)):
        names = tuple(group)
        content = [(name, files[name]) for name in names]
        units.append(Unit(digest(_FORMAT, dataclasses.astuple(look), content), names))
    return units


def process_unit(source: Source, unit: Unit, look: Look, work: str) -> Report:
    """Writes one unit's file and returns its report.

    The report: `good`, the indices of the images that the file holds; `corrupt`, {name: reason};
    and the totals `bytes`, `enlarged` and `squeezed` (to another aspect ratio).
    """
    report: Report = {'good': [], 'corrupt': {}, 'bytes': 0, 'enlarged': 0, 'squeezed': 0}
    partial = f'{unit.path(work)}.{os.getpid()}'
    with open(partial, 'wb') as file:
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
            for index, name in enumerate(unit.names):
                try:
                    image = images.decode(source.read(name), grey=look.grey)
                except images.CorruptImage as error:
                    report['corrupt'][name] = str(error)
                    continue
                left, top, right, bottom = images.crop_box(image.size, look.size)
                cut = (right - left, bottom - top)
                report['enlarged'] += cut[0] < look.size[0] or cut[1] < look.size[1]
                report['squeezed'] += look.crop == 'none' and cut != image.size
                data = images.encode_png(images.fit(image, look.size, crop=look.crop))
                report['bytes'] += len(data)
                report['good'].append(index)
                archive.writestr(str(index), data)
            archive.writestr('report', json.dumps(report))
        file.flush()
        os.fsync(file.fileno())  # or a power cut could leave the final name on half a file
    os.replace(partial, unit.path(work))
    return report


def _kept_report(unit: Unit, work: str) -> Report | None:
    try:
        with zipfile.ZipFile(unit.path(work)) as archive:
            return json.loads(archive.read('report'))
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError):
        return None


def process(
    source: Source,
    units: Sequence[Unit],
    look: Look,
    *,
    work: str,
    workers: int,
    skip_corrupt: bool,
) -> list[Report]:
    """Processes the units that the folder `work` lacks, and returns the reports of all.

    Anything else in `work` is deleted. Raises UserError at a corrupt image unless `skip_corrupt`;
    what is done stays done.
    """
    kept = {unit: _kept_report(unit, work) for unit in units}
    # The user may have mended a corrupt file since, and its size need not tell.
    reports = {
        unit: report
        for unit, report in kept.items()
        if report and (skip_corrupt or not report['corrupt'])
    }
    stale = set(os.listdir(work)) - {os.path.basename(unit.path(work)) for unit in reports}
    for name in stale:
        _remove(os.path.join(work, name))
    total = sum(len(unit.names) for unit in units)
    done = sum(len(unit.names) for unit in reports)
    if done:
        print(f'going on: {done} of {total} images are already processed')
    todo = [unit for unit in units if unit not in reports]
    with (
        tqdm.tqdm(total=total, initial=done, desc='resize', unit=' images') as bar,
        contextlib.closing(_run(source, todo, look, work, workers)) as results,
    ):
        for unit, report in results:
            reports[unit] = report
            for name, reason in report['corrupt'].items():
                if not skip_corrupt:
                    raise UserError(
                        f'corrupt image {name!r}: {reason}; mend it, remove it, or leave such '
                        'files out with --on_corrupt=skip (the images done so far are kept)'
                    )
                bar.write(f'skipped corrupt image {name!r}: {reason}', file=sys.stderr)
            bar.update(len(unit.names))
    return [reports[unit] for unit in units]


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def _run(
    source: Source, units: Sequence[Unit], look: Look, work: str, workers: int
) -> Iterator[tuple[Unit, Report]]:
    workers = min(workers, len(units))
    if workers <= 1:
        for unit in units:
            yield unit, process_unit(source, unit, look, work)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context('spawn'), initializer=_start_worker
    )
    try:
        futures = {pool.submit(process_unit, source, unit, look, work): unit for unit in units}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            f'one of --workers={workers} processes died, perhaps for lack of memory; the same '
            'command goes on where it stopped, with fewer workers if need be'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leaves Ctrl-C to the main process, and ends with that process even where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
