"""A trained run, ready to draw from: what `sample` and the apps start with."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.objectives.adversarial import Adversarial
from jaxgen.objectives.sampling import make_sampler
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.workdir import read_config

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Run:
    """A checkpoint with the objective that made it. `variables` are the generator's."""

    config: ConfigDict
    objective: Adversarial
    plan: JitPlan
    step: int
    variables: PyTree

    def sample(
        self,
        count: int,
        seed: int = 0,
        *,
        truncation: float = 1.0,
        label: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """`[count, H, W, C]` around [-1, 1]; `size`: (height, width); `label`: a class, or all."""
        classes = self.config.model.num_classes
        if label is not None and not 0 <= label < classes:
            allowed = (
                f'from 0 to {classes - 1}' if classes else 'left out: the model has no classes'
            )
            raise UserError(f'label must be {allowed}, got {label}')
        labels = None
        if classes:
            labels = np.arange(count) % classes if label is None else np.full(count, label)
        height, width = size or self.objective.generator.frame
        # One image at a time where images are large; small ones share a batch.
        batch = max(1, min(count, 2**22 // (height * width)))
        sampler = make_sampler(
            self.objective, self.plan.mesh, batch, truncation=truncation, size=size
        )
        return sampler(self.variables, count, seed, labels)


def restore(workdir: str | pathlib.Path, *, ema: bool = True) -> Run:
    """The newest checkpoint of `workdir`, on all devices of this machine.

    Raises:
      UserError: no run, or no checkpoint yet.
    """
    config = read_config(workdir)
    plan = JitPlan(make_mesh())
    objective = tasks.make_objective(config)
    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    folder, found = pathlib.Path(workdir).expanduser() / 'checkpoints', None
    if folder.is_dir():
        checkpoints = Checkpoints(folder)
        found = checkpoints.restore_latest(shapes, plan.state_sharding())
        checkpoints.close()
    if found is None:
        raise UserError(f'workdir {str(workdir)!r} has no checkpoint yet')
    step, state = found
    return Run(config, objective, plan, step, objective.sampling_variables(state, ema=ema))
