"""Metrics of `jaxgen.evaluate` in the course of a training, at steps of their own.

`config.evaluate.metrics` names them. Everything that does not depend on the state is made once:
networks, statistics of the reals, what is compiled for them.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.evaluation.collect import open_store
from jaxgen.evaluation.images import of_model
from jaxgen.evaluation.measure import Sets, measure
from jaxgen.evaluation.protocols import parse
from jaxgen.evaluation.runs import Options, open_cache
from jaxgen.objectives.base import Objective
from jaxgen.parallel.plan import Plan
from jaxgen.tasks import Data
from jaxgen.training.restore import of_objective

PyTree = Any
ALWAYS = ('swd', 'bits_per_dim/held_out', 'squared_error/held_out')


def make_measure(
    config: ConfigDict, objective: Objective, plan: Plan, data: Data, folder: pathlib.Path
) -> Callable[[int, PyTree], dict[str, float]]:
    """`measure(step, state)`: the metrics of `config.evaluate.metrics`, of which there may be none.

    Raises:
      UserError: names that are none, or an interval without names or names without one.
    """
    names, every = config.evaluate.metrics, config.evaluate.metrics_every
    if every < 0 or bool(names) != bool(every):
        raise UserError(
            'evaluate.metrics and evaluate.metrics_every (1 or more) go together, got '
            f'{names!r} and {every}'
        )
    metrics, known = parse(names) if names else [], {}
    check_best(config.evaluate.best, [metric.name for metric in metrics])
    if not metrics:
        return lambda step, state: {}
    cache = open_cache(Options())
    scratch = open_store(folder / 'evaluation', '--workdir')

    def at(step: int, state: PyTree) -> dict[str, float]:
        variables = objective.sampling_variables(state)
        run = of_objective(objective, variables, str(folder), plan.mesh, step, config)
        labels = data.train if getattr(run.generator, 'num_classes', 0) else None
        sets = Sets(
            images=of_model(run, seed=config.seed, labels=labels),
            reals=lambda: data.train,
            held_out=lambda: data.held_out,
            run=run,
            mesh=plan.mesh,
            seed=config.seed,
        )
        results = measure(metrics, sets, cache, scratch, progress=False, known=known)
        return _to_all({name: x for result in results for name, x in result.values.items()})

    return at


def check_best(best: str, names: Sequence[str]) -> None:
    """UserError for a metric to choose by that is none of `names` and of those always measured."""
    name = best.removeprefix('+')
    if name and name not in ALWAYS and not name.startswith(tuple(names) or (' ',)):
        raise UserError(
            f'evaluate.best must be of {", ".join((*ALWAYS, *names))}, with + before it where more '
            f'is better, got {best!r}'
        )


def _to_all(values: dict[str, float]) -> dict[str, float]:
    """What the first process has measured, on every process: they must agree on the best."""
    if jax.process_count() == 1:
        return values
    names = sorted(values)
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(names))))
    text = np.zeros((count, 64), np.uint8)
    figures = np.zeros(count, np.float32)
    for i, name in enumerate(names):
        text[i, : len(name)] = list(name.encode())
        figures[i] = values[name]
    text, figures = multihost_utils.broadcast_one_to_all((text, figures))
    keys = [bytes(row).rstrip(b'\0').decode() for row in text]
    return dict(zip(keys, map(float, figures), strict=True))
