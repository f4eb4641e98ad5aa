"""Evaluators: a metric over samples of a state and a data set's held-out images."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.pipeline import real_images
from jaxgen.data.sources import Source
from jaxgen.errors import UserError
from jaxgen.metrics.swd import sliced_wasserstein
from jaxgen.objectives.base import Objective
from jaxgen.objectives.sampling import make_sampler
from jaxgen.parallel.plan import Plan
from jaxgen.tasks import Data

PyTree = Any


class SlicedWasserstein:
    """`swd` between samples and held-out images; `swd_real` between two disjoint sets of real ones.

    All three sets have the same number of images; the same key throughout a run, so that numbers
    of different steps compare.
    """

    def __init__(self, held_out: Source, images: int, seed: int = 0) -> None:
        if len(held_out) < 2 * images:
            raise UserError(
                f'evaluate.images must be at most half of the {len(held_out)} held-out images of '
                f'{held_out.name!r}, got {images}'
            )
        self._source, self._images, self._seed = held_out, images, seed
        self._key = jax.random.key(seed)
        self._real: np.ndarray | None = None
        self._real_distance = 0.0

    def __call__(self, sample: Callable[[int], np.ndarray]) -> dict[str, float]:
        """{'swd', 'swd_real'} for `sample(count) -> [count, H, W, C]`."""
        distance = jax.jit(sliced_wasserstein)
        if self._real is None:
            both = real_images(self._source, 2 * self._images, seed=self._seed)
            self._real, other = both[: self._images], both[self._images :]
            self._real_distance = float(distance(self._real, other, self._key))
        fake = sample(self._images)
        return {
            'swd': float(distance(fake, self._real, self._key)),
            'swd_real': self._real_distance,
        }


def make_evaluate(
    config: ConfigDict, objective: Objective, plan: Plan, data: Data
) -> Callable[[PyTree], dict[str, float]]:
    """From a state to the metrics of `config.evaluate`, with averaged parameters."""
    distance = SlicedWasserstein(data.held_out, config.evaluate.images, config.seed)
    draw = make_sample(config, objective, plan, seed=config.seed + 1)

    def evaluate(state: PyTree) -> dict[str, float]:
        return distance(lambda count: draw(state, count))

    return evaluate


def make_sample(
    config: ConfigDict, objective: Objective, plan: Plan, *, seed: int = 0
) -> Callable[..., np.ndarray]:
    """`sample(state, count=config.samples)`: images of always the same latents.

    Every class in turn, where the model has classes.
    """
    sampler = make_sampler(objective, plan.mesh, config.batch_size)
    classes = config.model.num_classes

    def sample(state: PyTree, count: int = config.samples) -> np.ndarray:
        label = np.arange(count) % classes if classes else None
        return sampler(objective.sampling_variables(state), count, seed, label)

    return sample
