"""Turns a folder or zip of images into a prepared tfds data set, without TensorFlow:

    python -m jaxgen.data.prepare --source=FOLDER|ZIP --name=NAME --size=256

Conventions. Every PNG, JPEG and WebP file below the source becomes a PNG of one size (`images` says
how) in DATA_DIR/NAME/1.0.0. Records lie in the order of the hash of their names, so that a slice of
the set is a random subset, and the same one every time.

A run that was killed goes on where it stopped when the same command is given again: what is done
is kept in DATA_DIR/NAME/.work (see `units`). The set itself appears whole, by one rename at the
end, and .work goes; until then the images take their space twice.
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from jaxgen.data import images, units
from jaxgen.errors import UserError

_VERSION = '1.0.0'  # ImageFolder.VERSION, here without the seconds that importing tfds takes
_SHARD_BYTES = 256 << 20  # tfds holds a whole shard in memory while writing it
_MAX_SIDE = 16384
_RESERVED = ('photographs', 'downloads')  # the embedded sets; tfds's own folder


def default_data_dir() -> str:
    """The root of all prepared sets where none is given."""
    return os.environ.get('JAXGEN_DATA_DIR') or os.path.join('~', 'tensorflow_datasets')


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The sorted top-level folders of the names. Raises UserError where an image is in none."""
    for name in names:
        if '/' not in name:
            raise UserError(
                f'--labels takes the class from the sub-folder, but {name!r} is in none below the '
                'folder that all images share'
            )
    classes = sorted({name.split('/')[0] for name in names})
    for name in classes:
        if not name.isprintable():  # tfds stores one class a line, in UTF-8
            raise UserError(f'--labels: {name!r} is no name for a class; allowed is printable text')
    return tuple(classes)


def split_counts(total: int, test_fraction: float) -> dict[str, int]:
    """The number of images of each split; the test split is taken from the front."""
    test = round(total * test_fraction)
    if not test_fraction:
        return {'train': total}
    if not 0 < test < total:
        raise UserError(
            f'--test_fraction={test_fraction} of {total} images gives {test} for the test split; '
            'allowed is what leaves at least one in each split'
        )
    return {'test': test, 'train': total - test}


def prepare(
    *,
    source: str,
    name: str,
    size: tuple[int, int],
    data_dir: str,
    labels: bool = False,
    crop: str = 'center',
    on_corrupt: str = 'skip',
    workers: int = 1,
    test_fraction: float = 0.0,
    grey: bool = False,
    overwrite: bool = False,
) -> None:
    """Prepares a set and says what it did; arguments as on the command line, size (width, height).

    Raises UserError for what the user can mend.
    """
    opened, files = units.list_images(source)
    classes = class_names(list(files)) if labels else ()
    split_counts(len(files), test_fraction)
    settings = {
        'size': f'{size[0]}x{size[1]}',
        'crop': crop,
        'grey': grey,
        'labels': labels,
        'test_fraction': test_fraction,
        'files': len(files),
        'source': units.digest(list(files.items())),
    }
    root = os.path.join(data_dir, name)
    target, work = os.path.join(root, _VERSION), os.path.join(root, '.work')
    if os.path.exists(target) and not overwrite:
        _compare(target, settings)
        shutil.rmtree(work, ignore_errors=True)  # left by a kill after the final rename
        print(f'{name} is already prepared with these settings, in {target}')
    else:
        look = units.Look(size, crop, grey)
        _check_name(name)
        print(f'{len(files)} images in {source}')
        with _lock(root, name):
            os.makedirs(work, exist_ok=True)
            groups = units.make_units(files, look)
            reports = units.process(
                opened, groups, look, work=work, workers=workers, skip_corrupt=on_corrupt == 'skip'
            )
            _write(name, data_dir, groups, reports, classes, settings, look)
            shutil.rmtree(work)
    print(f'train with: {_flags(name, data_dir, labels, test_fraction)}')


def _check_name(name: str) -> None:
    from jaxgen.data import image_folder  # tfds takes seconds to import: after other mistakes

    if image_folder.catalogued(name):
        raise UserError(f'--name={name} is a set of the tfds catalogue; choose another name')


def _write(
    name: str,
    data_dir: str,
    groups: Sequence[units.Unit],
    reports: Sequence[units.Report],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    look: units.Look,
) -> None:
    """Assembles the processed units to the set, in place of one that may be there."""
    from jaxgen.data import image_folder

    root = os.path.join(data_dir, name)
    work, target = os.path.join(root, '.work'), os.path.join(root, _VERSION)
    records = [
        image_folder.Record(unit.path(work), str(index), _label(unit.names[index], classes))
        for unit, report in zip(groups, reports, strict=True)
        for index in report['good']
    ]
    if not records:
        raise UserError(f'none of the {settings["files"]} images of --name={name} is readable')
    skipped = sorted(name for report in reports for name in report['corrupt'])
    splits = _shard(records, settings['test_fraction'], sum(r['bytes'] for r in reports))
    for old in [Path(target), *Path(root).glob('incomplete.*')]:  # the latter: tfds's, when killed
        shutil.rmtree(old, ignore_errors=True)
    with tqdm.tqdm(total=len(records), desc='write', unit=' images') as bar:
        image_folder.ImageFolder(
            name=name,
            data_dir=data_dir,
            shape=(look.size[1], look.size[0], 1 if look.grey else 3),
            class_names=classes,
            splits=splits,
            metadata={'prepare': settings, 'skipped': skipped},
            on_record=bar.update,
        ).write(scratch=work)
    counts = {split: sum(map(len, shards)) for split, shards in splits.items()}
    print(f'{name} is prepared in {target}')
    print(_summary(counts, settings, classes, reports, skipped))


def _label(name: str, classes: Sequence[str]) -> int | None:
    return classes.index(name.split('/')[0]) if classes else None


def _shard(records: Sequence[Any], test_fraction: float, size: int) -> dict[str, list[list[Any]]]:
    """{split: shards}, the shards of equal length and about _SHARD_BYTES at most."""
    per_shard = max(1, _SHARD_BYTES * len(records) // size)
    splits, start = {}, 0
    for split, count in split_counts(len(records), test_fraction).items():
        number = -(-count // per_shard)
        ends = [start + count * i // number for i in range(number + 1)]
        splits[split] = [list(records[a:b]) for a, b in itertools.pairwise(ends)]
        start += count
    return splits


def _compare(target: str, settings: Mapping[str, Any]) -> None:
    """Raises UserError where the set in `target` was made with other settings."""
    try:
        there = json.loads(Path(target, 'metadata.json').read_text())['prepare']
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'{target} exists and was not made by this command; choose another --name or '
            '--data_dir, or replace it with --overwrite'
        ) from None
    differ = [
        f'{key}={there.get(key)} there and {settings[key]} now'
        for key in settings
        if there.get(key) != settings[key] and key != 'source'
    ]
    if not differ and there.get('source') != settings['source']:
        differ = ['the names or lengths of the source files']
    if differ:
        raise UserError(
            f'{target} is already prepared with other settings: {", ".join(differ)}; choose '
            'another --name, or replace it with --overwrite'
        )


@contextlib.contextmanager
def _lock(root: str, name: str) -> Iterator[None]:
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(root, '.lock'), 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'another process is preparing --name={name} in {root}') from None
        try:
            yield
        finally:
            os.unlink(file.name)


def _flags(name: str, data_dir: str, labels: bool, test_fraction: float) -> str:
    flags = [f'--config.data.name={name}']
    if os.path.abspath(data_dir) != os.path.abspath(os.path.expanduser(default_data_dir())):
        flags.append(f'--config.data.dir={data_dir}')
    if labels:
        flags.append('--config.data.label=True')
    if test_fraction:
        flags.append('--config.data.eval_split=test')
    return ' '.join(flags)


def _summary(
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    classes: Sequence[str],
    reports: Sequence[units.Report],
    skipped: Sequence[str],
) -> str:
    megabytes = sum(report['bytes'] for report in reports) / 1e6
    kind = 'grey' if settings['grey'] else 'RGB'
    parts = ', '.join(f'{split} {count}' for split, count in counts.items())
    lines = [
        f'{sum(counts.values())} images of {settings["size"]} {kind} ({parts}), {megabytes:.1f} MB',
        f'{len(skipped)} corrupt files skipped' + (', named in metadata.json' if skipped else ''),
    ]
    if classes:
        shown = ', '.join(classes[:10]) + (', …' if len(classes) > 10 else '')
        lines.append(f'{len(classes)} classes: {shown}')
    for key, what in (('enlarged', 'smaller, and enlarged'), ('squeezed', 'squeezed')):
        if number := sum(report[key] for report in reports):
            lines.append(f'note: {number} images were {what}')
    return '\n'.join(lines)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(message)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d{1,9})(?:x(\d{1,9}))?', text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= _MAX_SIDE for side in size):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no size; allowed is 256 or 512x384 (width x height), 1 to {_MAX_SIDE}'
        )
    return size


def _name(text: str) -> str:
    if not re.fullmatch('[a-z][a-z0-9_]{0,99}', text) or text in _RESERVED:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no name for a set; allowed are a-z, 0-9 and _, beginning with a letter, '
            f'except {", ".join(_RESERVED)}'
        )
    return text


def _fraction(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f'{text!r} is no fraction; allowed is 0 up to below 1')


def _count(text: str) -> int:
    if not re.fullmatch('[1-9][0-9]{0,3}', text):
        raise argparse.ArgumentTypeError(f'{text!r} is no number of processes, 1 to 9999')
    return int(text)


def _parse(argv: Sequence[str] | None) -> dict[str, Any]:
    parser = _Parser(prog='python -m jaxgen.data.prepare', allow_abbrev=False, description=__doc__,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add('--source', required=True, help='a folder or zip file of PNG, JPEG and WebP images')
    add('--name', required=True, type=_name, help='name of the new set: a-z, 0-9, _')
    add('--size', required=True, type=_size, help='256, or 512x384 (width x height)')
    add('--data_dir', default=default_data_dir(),
        help='root of all prepared sets; $JAXGEN_DATA_DIR or ~/tensorflow_datasets')  # fmt: skip
    add('--labels', action='store_true', help='the class of an image is its top-level sub-folder')
    add('--crop', choices=images.CROPS, default='center',
        help='center: cut to the aspect ratio first; none: squeeze the whole picture')  # fmt: skip
    add('--on_corrupt', choices=('skip', 'fail'), default='skip',
        help='what to do with a file that cannot be read; either names it')  # fmt: skip
    add('--workers', type=_count, default=len(os.sched_getaffinity(0)),
        help='number of processes; default: one per core')  # fmt: skip
    add('--test_fraction', type=_fraction, default=0.0, help='part of the images for a test split')
    add('--grey', action='store_true', help='one channel')
    add('--overwrite', action='store_true', help='replace a set of this name')
    options = vars(parser.parse_args(argv))
    return options | {'data_dir': os.path.expanduser(options['data_dir'])}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code: 0 done, 2 a mistake of the user's, in one line."""
    try:
        prepare(**_parse(argv))
        return 0
    except KeyboardInterrupt:
        print('stopped; the same command goes on from here', file=sys.stderr)
        return 130
    except (UserError, OSError) as error:  # OSError: no room on the disk, no permission
        print(f'jaxgen.data.prepare: {" ".join(str(error).split())}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
