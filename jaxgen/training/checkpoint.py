"""Checkpoints of a run: written in the background, atomically; the newest few and every Nth kept.

Thin over orbax: a step's folder holds the state (`state`) and the step's config (`meta`).
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from jaxgen.errors import UserError

PyTree = Any
ALL, BEST = 'checkpoints', 'checkpoints-best'  # folders of a run


class Checkpoints:
    """The checkpoints of `directory`. Every process of a run makes one and calls it in step."""

    def __init__(
        self, directory: str | pathlib.Path, *, keep: int = 3, keep_period: int = 0
    ) -> None:
        self.directory = pathlib.Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_period or None, create=True
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """The steps that have a finished checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree, meta: dict[str, Any]) -> None:
        """Starts writing `state`; returns once its buffers may be reused."""
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
        )

    def restore(self, step: int, shapes: PyTree, sharding: Sharding) -> PyTree:
        """The state of `step`, laid out by `sharding`, whatever devices wrote it."""
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
        )
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )
        return restored.state

    def restore_latest(self, shapes: PyTree, sharding: Sharding) -> tuple[int, PyTree] | None:
        """The newest state that can be read, and its step; None where there is no checkpoint.

        A checkpoint that can't be read is named on the screen and moved aside, and the one before
        it is tried.

        Raises:
          UserError: a checkpoint is whole, but not one of `shapes`; or there are checkpoints, but
            none can be read.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self.restore(step, shapes, sharding)
            # Whatever orbax or tensorstore raises for damaged files: there is no common class.
            except Exception as error:
                self._check_model(step, shapes, error)
                self._set_aside(step, error)
        if steps:
            raise UserError(
                f'none of the checkpoints {steps} of {self.directory} can be read; the same '
                'command now starts from the beginning'
            )
        return None

    def restore_named(self, step: int, shapes: PyTree, sharding: Sharding) -> PyTree:
        """`restore`, of a step that was asked for by its number.

        Raises:
          UserError: the checkpoint is one of another model, or can't be read; it stays where it is.
        """
        try:
            return self.restore(step, shapes, sharding)
        except Exception as error:
            self._check_model(step, shapes, error)
            raise UserError(
                f'checkpoint {self.directory / str(step)} is damaged: {_reason(error)}; there are '
                f'those of the steps {self.steps()}'
            ) from error

    def _check_model(self, step: int, shapes: PyTree, error: Exception) -> None:
        """UserError for a checkpoint that is whole, but not one of `shapes`."""
        if difference := self._difference(step, shapes):
            raise UserError(
                f'checkpoint {self.directory / str(step)} is one of another model: {difference}'
            ) from error

    def _difference(self, step: int, shapes: PyTree) -> str | None:
        """The first array that a checkpoint and `shapes` do not share; None if it can't be told."""
        try:
            with ocp.StandardCheckpointer() as reader:
                saved = reader.metadata(self.directory / str(step) / 'state').item_metadata
            found, wanted = _shapes_by_name(saved.tree), _shapes_by_name(shapes)
        # As damaged as the rest.
        except Exception:
            return None
        for name in sorted(found.keys() | wanted.keys()):
            before, now = found.get(name, 'absent'), wanted.get(name, 'absent')
            if before != now:
                return f'{name} is {before} there and {now} here'
        return None

    def _set_aside(self, step: int, error: Exception) -> None:
        aside = self.directory.with_name(self.directory.name + '-damaged')
        print(
            f'checkpoint {self.directory / str(step)} is damaged and was moved to {aside}: '
            f'{_reason(error)}',
            flush=True,
        )
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            target = aside / str(step)
            while target.exists():
                target = target.with_name(target.name + '-again')
            (self.directory / str(step)).rename(target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f'checkpoint {step} set aside')
        self._manager.reload()

    def wait(self) -> None:
        """Returns when everything saved so far is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes writing and lets go of the directory."""
        self._manager.wait_until_finished()
        self._manager.close()


class BestCheckpoint:
    """Keeps the checkpoint with the best value of one metric, in `checkpoints-best` of a run.

    Attributes:
      metric: its name; '': nothing is kept. Less is better, but of names that begin with a +.
    """

    def __init__(self, workdir: pathlib.Path, metric: str, meta: dict[str, Any]) -> None:
        self._sign = -1 if metric.startswith('+') else 1
        self.metric, self._folder = metric.removeprefix('+'), workdir / BEST
        self._meta = meta
        self._record = workdir / f'{BEST}.json'
        self._value = math.inf
        if self.metric and self._record.is_file():
            known = json.loads(self._record.read_text())
            if known['metric'] == self.metric and saved_steps(workdir, best=True):
                self._value = self._sign * known['value']

    def offer(self, step: int, state: PyTree, values: Mapping[str, float]) -> None:
        """Saves `state` if the metric is among the values and better than ever."""
        if not self.metric or self.metric not in values:
            return
        value = values[self.metric]
        if not self._sign * value < self._value:
            return
        self._value = self._sign * value
        checkpoints = Checkpoints(self._folder, keep=1)
        checkpoints.save(step, state, self._meta)
        checkpoints.close()
        if jax.process_index() == 0:
            temporary = self._record.with_suffix('.tmp')
            told = {'metric': self.metric, 'value': value, 'step': step}
            temporary.write_text(json.dumps(told) + '\n')
            temporary.replace(self._record)


def newest_state(
    workdir: pathlib.Path,
    shapes: PyTree,
    sharding: Sharding,
    *,
    step: int | None = None,
    best: bool = False,
) -> tuple[int, PyTree] | None:
    """Step and state of a checkpoint of a run's folder; None if there is none yet.

    A folder without checkpoints is left as it is.

    Args:
      step: of the checkpoint; None: the newest.
      best: of those that `config.best` keeps.

    Raises:
      UserError: as `Checkpoints.restore_latest` and `restore_named`; or there is no checkpoint of
        that step.
    """
    steps = saved_steps(workdir, best=best)
    if step is not None and step not in steps:
        raise UserError(f'{str(workdir)!r} has checkpoints of the steps {steps}, not of {step}')
    if not steps:
        return None
    checkpoints = Checkpoints(workdir / (BEST if best else ALL))
    if step is None:
        found = checkpoints.restore_latest(shapes, sharding)
    else:
        found = step, checkpoints.restore_named(step, shapes, sharding)
    checkpoints.close()
    return found


def saved_steps(workdir: pathlib.Path, *, best: bool = False) -> list[int]:
    """The steps of a run that have a finished checkpoint, ascending; makes nothing."""
    folder = workdir / (BEST if best else ALL)
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _shapes_by_name(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """{'generator/params/input/kernel': (16, 8), …}, the same for dicts and dataclasses."""
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _reason(error: Exception) -> str:
    """An exception's kind, and its first line."""
    reason = (str(error).strip().splitlines() or [''])[0]
    return f'{type(error).__name__}: {reason[:200]}'
