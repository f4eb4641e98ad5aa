"""Evaluators: a metric of a state, or of its samples, on a data set's held-out images."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.data.pipeline import in_order, real_images
from jaxgen.data.sources import Source
from jaxgen.errors import UserError
from jaxgen.metrics import bits_per_dim
from jaxgen.metrics.swd import sliced_wasserstein
from jaxgen.objectives.base import Objective
from jaxgen.objectives.likelihood import Fit, Likelihood
from jaxgen.objectives.reconstruction import PixelCNNReconstruction, SquaredError
from jaxgen.objectives.sampling import image_keys, make_sampler
from jaxgen.parallel.plan import Plan
from jaxgen.tasks import Data

PyTree = Any


class SlicedWasserstein:
    """`swd` between samples and held-out images; `swd_real` between two disjoint sets of those.

    Every set has `images` images. A single pair is luck (on 32×32 crops it varies threefold), so
    both numbers are means over `pairs` pairs of disjoint held-out sets: `swd_real` within each
    pair, `swd` from the same samples to one set of each. Sets, patches and projections stay the
    same throughout a run, so that the numbers of different steps compare.

    `window`: compare only this many middle columns, of images and samples of different widths (a
    panorama's ring and the photographs that it learns from).
    """

    def __init__(
        self, held_out: Source, *, images: int, pairs: int, seed: int = 0, window: int | None = None
    ) -> None:
        needed = 2 * images * pairs
        if images < 1 or pairs < 1 or len(held_out) < needed:
            raise UserError(
                f'evaluate.images × evaluate.pairs × 2 must be at most the {len(held_out)} '
                f'held-out images of {held_out.name!r}, got {images} × {pairs} × 2'
            )
        self._source, self._images, self._pairs, self._seed = held_out, images, pairs, seed
        self._window = window
        self._key = jax.random.key(seed)
        self._distance = jax.jit(sliced_wasserstein)
        self._real: list[np.ndarray] = []
        self._real_distance = 0.0

    def __call__(self, sample: Callable[[int], np.ndarray]) -> dict[str, float]:
        """{'swd', 'swd_real'} for `sample(count) -> [count, H, W, C]`."""
        if not self._real:
            self._load()
        # As they are shown: the generator has no tanh and overshoots where a crop is bright.
        fake = np.clip(middle_columns(sample(self._images), self._window), -1, 1)
        distances = [self._distance(fake, real, self._key) for real in self._real]
        return {'swd': float(np.mean(distances)), 'swd_real': self._real_distance}

    def _load(self) -> None:
        count = self._images
        images = real_images(self._source, 2 * count * self._pairs, seed=self._seed)
        images = middle_columns(images, self._window)
        sets = images.reshape(2 * self._pairs, count, *images.shape[1:])
        pairs = zip(sets[0::2], sets[1::2], strict=True)
        self._real_distance = float(np.mean([self._distance(a, b, self._key) for a, b in pairs]))
        self._real = list(sets[0::2])


def middle_columns(images: np.ndarray, width: int | None) -> np.ndarray:
    """The middle `width` columns of `[N, H, W, C]`; None: all."""
    if width is None:
        return images
    left = (images.shape[2] - width) // 2
    return images[:, :, left : left + width]


class HeldOut:
    """The loss of every held-out image of the split, each once.

    The mean is over images, in float64, and not over batches: exact also where the last one is
    ragged.
    """

    def __init__(
        self, objective: Fit, held_out: Source, mesh: Mesh, *, batch: int, label: bool
    ) -> None:
        self._source, self._batch, self._label = held_out, batch, label
        self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._name = f'{objective.measured}/held_out'
        self._score = jax.jit(objective.score, out_shardings=self._everywhere)

    def scores(self, variables: PyTree) -> np.ndarray:
        """The loss of every image, float64 `[N]`, in the order of the split."""
        return self._of_every_image(self._score, variables)

    def __call__(self, variables: PyTree) -> dict[str, float]:
        """{'bits_per_dim/held_out'}, or whatever the objective measures."""
        return {self._name: float(np.mean(self.scores(variables)))}

    def _of_every_image(self, function: Callable[..., jax.Array], variables: PyTree) -> np.ndarray:
        parts = []
        for batch, count in in_order(self._source, self._batch, label=self._label):
            placed = jax.tree.map(self._place, batch)
            parts.append(np.asarray(function(variables, placed), np.float64)[:count])
        return np.concatenate(parts)

    def _place(self, rows: np.ndarray) -> jax.Array:
        # Every process has read the whole batch and keeps its own rows.
        return jax.make_array_from_callback(rows.shape, self._rows, lambda index: rows[index])


class BitsPerDim(HeldOut):
    """Bits per dimension of held-out images, divided in float64."""

    def __init__(
        self, objective: Likelihood, held_out: Source, mesh: Mesh, *, batch: int, label: bool
    ) -> None:
        super().__init__(objective, held_out, mesh, batch=batch, label=label)
        self._log_prob = jax.jit(objective.log_prob, out_shardings=self._everywhere)

    def log_probs(self, variables: PyTree) -> np.ndarray:
        """log p in nats of every image, float64 `[N]`, in the order of the split."""
        return self._of_every_image(self._log_prob, variables)

    def scores(self, variables: PyTree) -> np.ndarray:
        """Bits per dimension of every image, float64 `[N]`, in the order of the split."""
        dimensions = math.prod(self._source.image_shape)
        return bits_per_dim.from_probability(-self.log_probs(variables), dimensions)


def make_evaluate(
    config: ConfigDict, objective: Objective, plan: Plan, data: Data
) -> Callable[[PyTree], dict[str, float]]:
    """From a state to the metrics of `config.evaluate`, with averaged parameters.

    The likelihood where the objective has one; there the sliced Wasserstein distance, for which
    images must be drawn, is left out with `config.evaluate.images=0`.
    """
    if not config.evaluate_every:
        return lambda state: {}
    with_loss = isinstance(objective, Fit)
    metrics = []
    if with_loss:
        evaluator = BitsPerDim if isinstance(objective, Likelihood) else HeldOut
        held_out = evaluator(
            objective,
            data.held_out,
            plan.mesh,
            batch=config.batch_size,
            label=config.data.label,
        )
        metrics.append(lambda state: held_out(objective.sampling_variables(state)))
    if config.evaluate.images or not with_loss:
        metrics.append(_make_distance(config, objective, plan, data))

    def evaluate(state: PyTree) -> dict[str, float]:
        return {name: value for metric in metrics for name, value in metric(state).items()}

    return evaluate


def _make_distance(
    config: ConfigDict, objective: Objective, plan: Plan, data: Data
) -> Callable[[PyTree], dict[str, float]]:
    distance = SlicedWasserstein(
        data.held_out,
        images=config.evaluate.images,
        pairs=config.evaluate.pairs,
        seed=config.seed,
        # A ring is wider than the images that it learns from.
        window=config.data.patch if config.model.get('cylindrical') else None,
    )
    draw = make_sample(config, objective, plan, seed=config.seed + 1)
    return lambda state: distance(lambda count: draw(state, count))


def make_sample(
    config: ConfigDict, objective: Objective, plan: Plan, data: Data | None = None, *, seed: int = 0
) -> Callable[..., np.ndarray]:
    """`sample(state, count=config.samples)`: images of always the same latents.

    Every class in turn, where the model has classes. Of an auto-encoder, held-out images of `data`
    and their reconstructions in turn.
    """
    if isinstance(objective, PixelCNNReconstruction | SquaredError):
        return _make_reconstruct(config, objective, plan, data, seed)
    sampler = make_sampler(
        functools.partial(objective.sample, mesh=plan.mesh), plan.mesh, config.batch_size
    )
    classes = tasks.num_classes(config)

    def sample(state: PyTree, count: int = config.samples) -> np.ndarray:
        label = np.arange(count) % classes if classes else None
        return sampler(objective.sampling_variables(state), count, seed, label)

    return sample


def _make_reconstruct(
    config: ConfigDict,
    objective: PixelCNNReconstruction | SquaredError,
    plan: Plan,
    data: Data,
    seed: int,
) -> Callable[..., np.ndarray]:
    @functools.partial(jax.jit, out_shardings=NamedSharding(plan.mesh, PartitionSpec()))
    def decoded(variables: PyTree, images: jax.Array, slot: jax.Array) -> jax.Array:
        code = objective.encode(variables, images)
        return objective.decode(variables, code, image_keys(seed, slot))

    def sample(state: PyTree, count: int = config.samples) -> np.ndarray:
        images = real_images(data.held_out, min(-(-count // 2), len(data.held_out)), seed=seed)
        slot = np.arange(len(images), dtype=np.int32)
        drawn = np.asarray(decoded(objective.sampling_variables(state), images, slot))
        return np.stack([images, drawn], axis=1).reshape(-1, *images.shape[1:])[:count]

    return sample
