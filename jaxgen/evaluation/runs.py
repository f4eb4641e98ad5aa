"""Metrics of a run's checkpoints, or of a folder of images: opens, measures, writes down.

A result is a line of `metrics.jsonl`: `step`, `time`, the figures by name, and under `protocol`
what they depend on: the metric's protocol, hashes of the model's and the networks' weights, the
reals, the seed, the git revision. Of all checkpoints, those that have their line already (by the
same weights, against a reference of the same name) are not measured again.
"""

import csv
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgen.data.prepare import default_data_dir
from jaxgen.data.sources import open_source
from jaxgen.errors import UserError
from jaxgen.evaluation import streams
from jaxgen.evaluation.collect import ROWS, collect, open_store, tree_digest
from jaxgen.evaluation.image_folder import ImageFolder
from jaxgen.evaluation.images import of_model, of_source
from jaxgen.evaluation.measure import Result, Sets, measure
from jaxgen.evaluation.protocols import Metric
from jaxgen.parallel.mesh import make_mesh
from jaxgen.training.checkpoint import saved_steps
from jaxgen.training.restore import BEST, NEWEST, LikelihoodRun, Run, restore

ALL = 'all'


class Options(NamedTuple):
    """Of the command line.

    Attributes:
      reference: a folder or the name of a data set; None: the data set of the run.
      split: of the data set; None: the run's, or 'train'.
      cache: folder for statistics of reals; None: `evaluation` in the data folder.
      out: file for results; None: the run's metrics.jsonl.
      weights: files of networks, by kind.
    """

    reference: str | None = None
    split: str | None = None
    cache: str | None = None
    out: str | None = None
    ema: bool = True
    seed: int = 0
    batch: int = 0
    weights: Mapping[str, str | None] = {}
    progress: bool = True


def evaluate_run(
    workdir: str, metrics: Sequence[Metric], checkpoint: str, options: Options
) -> list[Result]:
    """Metrics of checkpoints: 'newest', 'all', 'best' (see `config.best`) or the number of a step.

    Raises:
      UserError: no such run or checkpoint, or as `measure`.
    """
    results = []
    for which in _checkpoints(workdir, checkpoint):
        run = restore(workdir, ema=options.ema, checkpoint=which)
        check_batch(options.batch, run.mesh.size)
        reals, held_out = _data(run, options)
        labels = reals() if reals and getattr(run.generator, 'num_classes', 0) else None
        sets = Sets(
            images=of_model(run, seed=options.seed, labels=labels, batch=options.batch),
            reals=reals,
            held_out=held_out,
            run=run,
            mesh=run.mesh,
            batch=options.batch,
            seed=options.seed,
            weights=options.weights,
        )
        out = pathlib.Path(options.out or pathlib.Path(workdir).expanduser() / 'metrics.jsonl')
        told = f'{workdir}, ' + (f'step {run.step}' if run.step is not None else 'imported')
        digest, step = tree_digest(run.variables), run.step or 0
        book = Book(out, told, step, digest, options, known=checkpoint == ALL)
        scratch = open_store(pathlib.Path(workdir).expanduser() / 'evaluation', '--workdir')
        results += _measure(metrics, sets, scratch, book, options)
    return results


def evaluate_images(folder: str, metrics: Sequence[Metric], options: Options) -> list[Result]:
    """Metrics of the images of a folder.

    Raises:
      UserError: no images, damaged ones, or as `measure`.
    """
    mesh = make_mesh()
    check_batch(options.batch, mesh.size)
    images = of_source(ImageFolder(folder), mesh, batch=options.batch)
    reals = None
    if options.reference is not None:
        reals = _opener(options.reference, options.split or 'train', images.shape[0])
    sets = Sets(
        images=images,
        reals=reals,
        held_out=None,
        run=None,
        mesh=mesh,
        batch=options.batch,
        seed=options.seed,
        weights=options.weights,
    )
    book = Book(
        pathlib.Path(options.out) if options.out else None, folder, 0, images.fingerprint, options
    )
    scratch = open_store(open_cache(options) / 'unfinished', '--cache')
    return _measure(metrics, sets, scratch, book, options)


def score_examples(workdir: str, path: str, checkpoint: str, options: Options) -> float | None:
    """Writes bits per dimension of every image of the reference as a table; returns their mean.

    The columns are `index`, `label` where the set has classes, and `bits_per_dim`. The first
    process writes it, and the others return None.
    """
    target = pathlib.Path(path).expanduser()
    if not target.parent.is_dir():
        raise UserError(f'--per_example={path!r} is in no folder that exists')
    (which,) = _checkpoints(workdir, checkpoint)[-1:]
    run = restore(workdir, ema=options.ema, checkpoint=which)
    reals, held_out = _data(run, options)
    source = (held_out or reals)()
    stream = streams.scores(run, source)
    found = collect(stream, [('score', ROWS)], open_cache(options), run.mesh)
    if jax.process_index():
        return None
    scores = np.asarray(found['score', ROWS][:, 0], np.float64)
    columns: dict[str, Sequence] = {'index': range(len(scores))}
    if source.num_classes:
        columns['label'] = source.labels()
    columns['bits_per_dim'] = [f'{score:.6f}' for score in scores]
    temporary = target.with_name(f'.{target.name}.{os.getpid()}')
    with temporary.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    temporary.replace(target)
    return float(scores.mean())


class Book:
    """Writes results down, and knows those that are there already."""

    def __init__(
        self,
        path: pathlib.Path | None,
        told: str,
        step: int,
        weights: str,
        options: Options,
        *,
        known: bool = False,
    ) -> None:
        self._path, self._told, self._step = path, told, step
        self._common = {
            'weights': weights,
            'ema': options.ema,
            'seed': options.seed,
            'reference': options.reference or 'of the run',
            'split': options.split or 'of the run',
            'devices': jax.device_count(),
            'revision': revision(),
        }
        self._lines = _read_lines(path) if known else []

    def known(self, metric: Metric) -> Mapping[str, Any] | None:
        """The line of a metric of these weights, if it was measured before."""
        same = ('weights', 'ema', 'seed', 'reference', 'split')
        wanted = {name: self._common[name] for name in same} | {'metric': metric.name}
        for line in self._lines:
            told = line.get('protocol', {})
            if line['step'] == self._step and wanted == {name: told.get(name) for name in wanted}:
                return line
        return None

    def write(self, result: Result) -> None:
        """Appends a line, and says it on the screen."""
        protocol = {'metric': result.metric.name, 'is': result.metric.line}
        line = {'step': self._step, 'time': time.time(), **result.values}
        line['protocol'] = protocol | self._common | {'networks': dict(result.networks)}
        self.say(result.values)
        if self._path is not None:
            try:
                with self._path.open('a') as file:
                    file.write(json.dumps(line, ensure_ascii=False) + '\n')
            except OSError as error:
                raise UserError(f'{str(self._path)!r}: {error.strerror}') from error

    def say(self, values: Mapping[str, float], how: str = '') -> None:
        """Figures on the screen."""
        figures = '  '.join(f'{name} {value:.5g}' for name, value in values.items())
        print(f'{self._told}: {figures}{how}', flush=True)


def open_cache(options: Options) -> pathlib.Path:
    """The folder that keeps statistics."""
    folder = options.cache or os.path.join(default_data_dir(), 'evaluation')
    return open_store(folder, '--cache')


def check_batch(batch: int, devices: int) -> None:
    """UserError for a batch that the devices do not divide."""
    if batch % devices:
        raise UserError(f'--batch must be a multiple of the {devices} devices, got {batch}')


def revision() -> str:
    """The git commit of this code, with + where files differ from it; '' outside a checkout."""
    here = pathlib.Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ['git', '-C', str(here), *command], capture_output=True, text=True, timeout=10
            )
            for command in (['rev-parse', 'HEAD'], ['status', '--porcelain', '-uno', '.'])
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    if commit.returncode:
        return ''
    return commit.stdout.strip() + '+' * bool(changes.stdout.strip())


def _measure(
    metrics: Sequence[Metric], sets: Sets, scratch: pathlib.Path, book: Book, options: Options
) -> list[Result]:
    missing = [metric for metric in metrics if book.known(metric) is None]
    if jax.process_count() > 1:
        # What the first process has read decides.
        flags = np.array([metric in missing for metric in metrics])
        flags = multihost_utils.broadcast_one_to_all(flags)
        missing = [metric for metric, flag in zip(metrics, flags, strict=True) if flag]
    if jax.process_index() == 0:
        for metric in metrics:
            if metric not in missing:
                line = book.known(metric)
                names = [name for name in line if name.startswith(metric.name)]
                book.say({name: line[name] for name in names}, '  (measured before)')
    if not missing:
        return []
    return measure(
        missing, sets, open_cache(options), scratch,
        on_result=book.write, progress=options.progress,
    )  # fmt: skip


def _checkpoints(workdir: str, checkpoint: str) -> list[str | int]:
    """What `restore` takes, the oldest first."""
    if checkpoint == ALL:
        return list(saved_steps(pathlib.Path(workdir).expanduser())) or [NEWEST]
    if checkpoint not in (NEWEST, BEST) and not checkpoint.isdecimal():
        raise UserError(
            f'--checkpoint must be newest, all, best or the number of a step, got {checkpoint!r}'
        )
    return [checkpoint]


def _data(
    run: Run | LikelihoodRun, options: Options
) -> tuple[Callable[[], Sequence] | None, Callable[[], Sequence] | None]:
    """What opens the reals, and the held-out images."""
    height = run.frame[0]
    if options.reference is not None:
        opener = _opener(options.reference, options.split or 'train', height)
        return opener, opener
    if run.config is None or 'data' not in run.config:
        return None, None
    data = run.config.data

    def open_split(split: str) -> Callable[[], Sequence]:
        return lambda: open_source(data.name, split, data_dir=data.dir or None, size_hint=height)

    return open_split(options.split or data.train_split), open_split(data.eval_split)


def open_held_out(run: Run | LikelihoodRun, options: Options) -> Sequence:
    """The held-out images of a run, or those of `options.reference`.

    Raises:
      UserError: there are none, or they are of another size than the model's.
    """
    _, opener = _data(run, options)
    if opener is None:
        raise UserError(f'{run.source!r} knows no data set: --reference=FOLDER or DATASET')
    source = opener()
    if tuple(source.image_shape[:2]) != tuple(run.frame):
        raise UserError(
            f'images must be {run.frame} (height, width), as the model makes them; '
            f'{source.name!r} has {tuple(source.image_shape[:2])}'
        )
    return source


def _opener(reference: str, split: str, size: int) -> Callable[[], Sequence]:
    if os.path.isdir(os.path.expanduser(reference)):
        return lambda: ImageFolder(reference)
    return lambda: open_source(reference, split, size_hint=size)


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    lines = []
    if path.is_file():
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # the last line of a process that was killed
                continue
            if isinstance(line, dict) and 'step' in line:
                lines.append(line)
    return lines
