"""What the training loop adds to the bare step: data, metrics, progress. Aim: under 2 %.

    python experiments/speed/loop.py [--json] [--quick] [--clock=cpu]

The loop runs the demo on its real data. After every stretch of steps it stops (where it would
evaluate), and the bare compiled phases do the same steps on the same batches; so both are measured
in turns. 'other' is the bare step.
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile
from typing import Any

import jax
import numpy as np
import timing
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.objectives.base import train_step
from jaxgen.training import loop


class Turns:
    """The loop's `evaluate`: takes the time, then runs as many bare steps."""

    def __init__(self, config: ConfigDict, objective: Any, plan: Any, data: Any, now: Any) -> None:
        self.config, self.plan, self.data, self.now = config, plan, data, now
        self.key = jax.random.key(1)
        self.state = plan.compile_init(objective.init_state)(jax.random.key(0))
        self.phases = loop.compile_phases(objective, plan, self.state, data.batches.at(0), self.key)
        self.resumed: float | None = None
        self.looped: list[float] = []
        self.bare: list[float] = []
        self.step = 0

    def __call__(self, state: Any) -> dict[str, float]:
        """Called every `evaluate_every` steps; nothing is to be reported to the loop."""
        jax.block_until_ready(state)
        stopped = self.now()
        first, self.step = self.step, self.step + self.config.evaluate_every
        batches = [
            self.plan.put_batch(self.data.batches.at(step)) for step in range(first, self.step)
        ]
        jax.block_until_ready(batches)
        began = self.now()
        for step, batch in zip(range(first, self.step), batches, strict=True):
            self.state, _ = train_step(self.phases, step, self.state, batch, self.key)
        jax.block_until_ready(self.state)
        # The first stretch is a warm-up, and the loop's own includes compilation.
        if self.resumed is not None:
            self.bare.append(self.now() - began)
            self.looped.append(stopped - self.resumed)
        self.resumed = self.now()
        return {}


def measure(config: ConfigDict, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    # Between two logs, nothing else is written: pictures and evaluations are not the loop's cost.
    config.update(sample_every=0, checkpoint_every=config.steps)
    plan, data = tasks.make_plan(config, jax.devices()[:1]), tasks.open_data(config)
    objective = tasks.make_objective(config, plan.layout)
    turns = Turns(config, objective, plan, data, timing.CLOCKS[options.clock])
    picture = np.zeros((1, *tasks.image_shape(config)), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        loop.train(config, pathlib.Path(folder), objective, plan, data, lambda _: picture, turns)
    looped, bare = np.array(turns.looped), np.array(turns.bare)
    images = config.evaluate_every * config.batch_size
    return {
        'measured': f'{config.data.name} {config.model.size}²: loop, img/s (other: bare step)',
        'jaxgen': float(images / np.median(looped)),
        'other': float(images / np.median(bare)),
        'ratio': float(np.median(bare / looped)),
    }


def main() -> None:
    """Measures and prints."""
    options = timing.parser(__doc__).parse_args()
    config = timing.get_config('smoke' if options.quick else 'demo')
    stretch, stretches = (2, 3) if options.quick else (48, 8)
    if options.quick:
        config.loss.r1_every = 0
    config.update(
        steps=stretch * stretches,
        evaluate_every=stretch,
        log_every=stretch // 2,
    )
    # The loop talks to the screen; the table is for whoever reads our output.
    with contextlib.redirect_stdout(sys.stderr):
        row = measure(config, options)
    timing.report([row], options.json)


if __name__ == '__main__':
    main()
