"""The training loop: the same for every objective and for one or many devices and hosts.

A batch is a function of the step, and so is all randomness, so going on after an interruption
needs the state alone.
"""

import concurrent.futures
import contextlib
import dataclasses
import math
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxgen.errors import NonFiniteLoss
from jaxgen.objectives.base import Batch, Metrics, Objective, Phase, merge, train_step
from jaxgen.parallel.plan import Plan
from jaxgen.tasks import Data
from jaxgen.training import workdir as run_folder
from jaxgen.training.checkpoint import ALL, BestCheckpoint, Checkpoints
from jaxgen.training.warm_start import warm_start

PyTree = Any
# What stands on the progress bar, of what an objective measures in each step.
SHOWN = (
    'loss/generator',
    'loss/discriminator',
    'bits_per_dim/train',
    'squared_error/train',
)


def train(
    config: ConfigDict,
    folder: pathlib.Path,
    objective: Objective,
    plan: Plan,
    data: Data,
    sample: Callable[[PyTree], np.ndarray],
    evaluate: Callable[[PyTree], dict[str, float]],
    measure: Callable[[int, PyTree], dict[str, float]] = lambda step, state: {},
) -> PyTree:
    """Runs `config.steps` steps, going on from the newest checkpoint in `folder`.

    Args:
      sample: from a state to the images `[N, H, W, C]` of a sample grid.
      evaluate: from a state to metrics by name, every `config.evaluate_every` steps.
      measure: from step and state to more, every `config.evaluate.metrics_every` steps.

    Returns:
      The final state. SIGTERM and ctrl-C save and return early.

    Raises:
      NonFiniteLoss: with the step and the last good checkpoint.
    """
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    keep, keep_period = config.checkpoints_to_keep, config.checkpoint_keep_period
    checkpoints = Checkpoints(folder / ALL, keep=keep, keep_period=keep_period)
    start, state = _restore_or_init(config, objective, plan, data, checkpoints, init_key)
    journal = Journal(config, folder, checkpoints, start)
    meta = {'config': run_folder.flatten(config)}
    best = BestCheckpoint(folder, config.evaluate.best, meta)
    batches = data.batches.iterate(start, threads=config.data.threads)
    with closing(checkpoints), closing(journal), closing(batches), _stop_requests() as stop:
        if start < config.steps:
            phases = compile_phases(objective, plan, state, data.batches.at(start), run_key)
            journal.start()
        for step in range(start + 1, config.steps + 1):
            batch = plan.put_batch(next(batches))
            state, metrics = train_step(phases, step - 1, state, batch, run_key)
            journal.step(step, metrics)
            stopping, done = _stop_agreed(stop, step), step == config.steps
            last = stopping or done
            if last or _due(step, config.log_every):
                journal.log(step)
            # Asked to stop, a machine may have seconds left: the state is what must be saved.
            if not stopping and (done or _due(step, config.sample_every)):
                journal.picture(step, sample(state))
            if not stopping:
                measured = evaluate(state) if done or _due(step, config.evaluate_every) else {}
                if done or _due(step, config.evaluate.metrics_every):
                    measured = measured | measure(step, state)
                journal.scalars(step, measured)
                best.offer(step, state, measured)
            if last or _due(step, config.checkpoint_every):
                journal.check(step, state)
                checkpoints.save(step, state, meta)
            if last:
                break
        checkpoints.wait()
        journal.finish(interrupted=stop.is_set())
        return state


def _restore_or_init(
    config: ConfigDict,
    objective: Objective,
    plan: Plan,
    data: Data,
    checkpoints: Checkpoints,
    key: jax.Array,
) -> tuple[int, PyTree]:
    shapes = jax.eval_shape(objective.init_state, key)
    found = checkpoints.restore_latest(shapes, plan.state_sharding())
    if found is None:
        batch = plan.put_batch(data.batches.at(0))
        state = plan.compile_init(objective.init_state)(key, batch)
        if config.init_from:
            state, line = warm_start(state, config, plan)
            _say(line)
        return 0, state
    step, state = found
    _say(f'going on from the checkpoint of step {step}')
    return step, state


def compile_phases(
    objective: Objective, plan: Plan, state: PyTree, batch: Batch, key: jax.Array
) -> list[Phase]:
    """The objective's phases, compiled ahead of the first step and side by side."""
    _say('compiling the training step …')
    began = time.perf_counter()
    batch = plan.put_batch(batch)

    # Traced one after the other: side by side, what phases share lands in one or the other, and the
    # compilation cache does not know them again.
    phases = objective.phases()
    lowered = [plan.compile_step(phase.update).lower(state, batch, key) for phase in phases]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        updates = list(pool.map(lambda phase: phase.compile(), lowered))
    _say(f'compiled in {time.perf_counter() - began:.1f} s')
    return [dataclasses.replace(p, update=u) for p, u in zip(phases, updates, strict=True)]


class Journal:
    """Progress on the screen, metrics and pictures on disk. Holds metrics on the device until they
    are logged, so that a step never waits for the host."""

    def __init__(
        self, config: ConfigDict, folder: pathlib.Path, checkpoints: Checkpoints, start: int
    ) -> None:
        self._config, self._folder, self._checkpoints = config, folder, checkpoints
        self._pending: list[tuple[int, Metrics]] = []
        self._start = start
        self.start()
        self._recorder = None
        if jax.process_index() == 0:
            run_folder.drop_metrics_after(folder, start)
            self._recorder = run_folder.Recorder(folder)
        self._bar = tqdm(
            total=config.steps,
            initial=start,
            unit='step',
            dynamic_ncols=True,
            smoothing=0.05,
            disable=None if jax.process_index() == 0 else True,
        )

    def start(self) -> None:
        """Starts the clocks: speed and time left do not count compilation."""
        self._since = self._started = (time.perf_counter(), self._start)

    def step(self, step: int, metrics: Metrics) -> None:
        """Takes a step's metrics, still on the device."""
        self._pending.append((step, metrics))
        self._bar.update()

    def check(self, step: int, state: PyTree = None) -> None:
        """Raises NonFiniteLoss if a step since the last `log`, or `state`, is not finite."""
        self._pending = [(s, jax.device_get(m)) for s, m in self._pending]
        for at, metrics in self._pending:
            bad = [name for name, value in merge([metrics]).items() if not math.isfinite(value)]
            if bad:
                raise self._not_finite(', '.join(bad), at)
        # An update may have become infinite after the last loss was taken.
        if not _all_finite(state):
            raise self._not_finite('the state', step)

    def _not_finite(self, what: str, step: int) -> NonFiniteLoss:
        steps = self._checkpoints.steps()
        good = (
            f'the last good checkpoint is {self._checkpoints.directory / str(steps[-1])}'
            if steps
            else 'there is no checkpoint yet'
        )
        return NonFiniteLoss(f'{what} is not finite at step {step}; {good}')

    def log(self, step: int) -> None:
        """Reads the metrics since the last call, writes their means."""
        self.check(step)
        if not self._pending:
            return
        now, (then, before) = time.perf_counter(), self._since
        values = merge(metrics for _, metrics in self._pending)
        if step > before:
            values['images_per_second'] = (step - before) * self._config.batch_size / (now - then)
        self._pending, self._since = [], (now, step)
        self.scalars(step, values, show=SHOWN)

    def scalars(self, step: int, values: dict[str, float], show: tuple[str, ...] = ()) -> None:
        """Writes metrics; `show` are those for the progress bar, all are printed if it is empty."""
        if self._recorder is None or not values:
            return
        self._recorder.scalars(step, values)
        shown = {name: values[name] for name in show or values if name in values}
        if 'images_per_second' in values:
            shown['img/s'] = values['images_per_second']
        line = '  '.join(f'{name} {value:.4g}' for name, value in shown.items())
        if show and not self._bar.disable:
            self._bar.set_postfix_str(line)
        else:
            seconds = (time.perf_counter() - self._started[0]) / max(step - self._started[1], 1)
            minutes = (self._config.steps - step) * seconds / 60
            _say(f'step {step}/{self._config.steps}  {line}  ({minutes:.1f} min left)')

    def picture(self, step: int, images: np.ndarray) -> None:
        """Writes a sample grid."""
        if self._recorder is not None:
            self._recorder.picture(step, images)

    def finish(self, *, interrupted: bool) -> None:
        """Says where everything is, or how to go on."""
        self._bar.close()
        if interrupted:
            _say(
                f'stopped on request at step {self._checkpoints.steps()[-1]}; everything is saved. '
                'The same command goes on from there.'
            )
        else:
            _say(
                f'done: {self._folder}/samples (sample grids), {self._folder}/metrics.jsonl, '
                f'{self._folder}/checkpoints'
            )

    def close(self) -> None:
        """Lets go of files and screen."""
        self._bar.close()
        if self._recorder is not None:
            self._recorder.close()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@jax.jit
def _all_finite(tree: PyTree) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in leaves]))


@contextlib.contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event set by SIGTERM or SIGINT; a second SIGINT kills as usual."""
    event = threading.Event()
    # On several hosts jax's own handler takes SIGTERM; see `_stop_agreed`.
    signals = [signal.SIGINT] + [signal.SIGTERM] * (jax.process_count() == 1)

    def request(signum: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    handlers = {number: signal.signal(number, request) for number in signals}
    try:
        yield event
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop_agreed(event: threading.Event, step: int) -> bool:
    """Whether to stop after `step`: on several hosts, the same step on all of them."""
    if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
        event.set()
        return True
    return jax.process_count() == 1 and event.is_set()


def _say(line: str) -> None:
    if jax.process_index() == 0:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
