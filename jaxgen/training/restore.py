"""A trained or imported model, ready to draw from: what `sample` and the apps start with."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.interop import imported
from jaxgen.objectives.base import Objective
from jaxgen.objectives.likelihood import Fit
from jaxgen.objectives.rendering import make_render
from jaxgen.objectives.sampling import (
    check_frame,
    image_keys,
    latents,
    make_sampler,
    sample_images,
    synthesize_whole,
    takes_noise_keys,
)
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training.checkpoint import newest_state, saved_steps
from jaxgen.training.workdir import read_config

PyTree = Any

NEWEST, BEST = 'newest', 'best'


@dataclasses.dataclass(frozen=True)
class Run:
    """A generator with its weights, on all devices of this machine.

    Attributes:
      source: where it came from, for messages.
      variables: {'params', 'stats'} of the generator.
      frame: (height, width) of its images unless another size is asked for.
      step: of the checkpoint; None for imported weights.
      config: of the run; None for imported weights.
    """

    source: str
    generator: nn.Module
    variables: PyTree
    mesh: Mesh
    frame: tuple[int, int]
    step: int | None = None
    config: ConfigDict | None = None

    def sample(
        self,
        count: int,
        seed: int = 0,
        *,
        truncation: float = 1.0,
        temperature: float = 1.0,
        label: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """`[count, H, W, C]` around [-1, 1]; `size`: (height, width); `label`: a class, or all."""
        _refuse('temperature', temperature)
        height, width = size or self.frame
        # One image at a time where images are large; small ones share a batch.
        batch = max(1, min(count, 2**22 // (height * width)))
        sample = functools.partial(
            sample_images,
            self.generator,
            truncation=truncation,
            size=(height, width),
            mesh=self.mesh,
        )
        sampler = make_sampler(sample, self.mesh, batch)
        labels = _labels(self.generator.num_classes, count, label)
        return sampler(self.variables, count, seed, labels)

    def styles(
        self,
        slots: Sequence[int],
        seed: int = 0,
        *,
        truncation: float = 1.0,
        label: int | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """z `[B, latent]` and w of the images number `slots` that `sample` draws.

        w is `[B, style]`, or `[B, num_ws, style]` of a generator with a style for each layer.
        """
        slots = np.asarray(slots, np.int32)
        z = latents(image_keys(seed, slots), self.generator.latent)
        labels = _labels(self.generator.num_classes, int(slots.max()) + 1, label)
        return z, self.mapping(z, None if labels is None else labels[slots], truncation=truncation)

    def mapping(
        self, z: jax.Array, label: np.ndarray | None = None, *, truncation: float = 1.0
    ) -> jax.Array:
        """z `[B, latent]` to w as of `styles`."""
        return self.generator.apply(
            self.variables, z, label, truncation=truncation, method='mapping'
        )

    def render(
        self,
        coords: np.ndarray,
        w: jax.Array,
        *,
        weights: np.ndarray | None = None,
        noise: jax.Array | None = None,
    ) -> np.ndarray:
        """`[B, N, 3]` at any coordinates `[N, 2]` in the styles w `[B, W]`.

        `weights [N, K]` blend K styles w `[B, K, W]` pixel by pixel. `noise`: `[B]` keys; default:
        those of the first images of seed 0, where the generator wants any.
        """
        if noise is None and takes_noise_keys(self.generator):
            noise = image_keys(0, np.arange(w.shape[0], dtype=np.int32))
        pixels = coords if weights is None else (coords, weights)
        return np.asarray(self._render(self.variables, pixels, (w, noise)))

    def images(
        self,
        w: jax.Array,
        size: tuple[int, int] | None = None,
        *,
        noise: jax.Array | None = None,
        transform: jax.Array | None = None,
    ) -> np.ndarray:
        """`[B, H, W, C]` around [-1, 1] in the styles w as of `styles`, of any generator.

        `size` and `noise` as in `sample` and `render`; `transform`: `[3, 3]` or `[B, 3, 3]`, see
        `StyleGAN3Generator.synthesize`.

        Raises:
          UserError: a size that the generator does not have.
        """
        height, width = size or self.frame
        if hasattr(self.generator, 'points'):
            rgb = self.render(self.generator.points(height, width), w, noise=noise)
            return rgb.reshape(-1, height, width, rgb.shape[-1])
        check_frame(self.generator, (height, width))
        options = self.options(w.shape[0], noise=noise, transform=transform)
        return np.asarray(self._synthesize(self.variables, w, options))

    def options(
        self,
        count: int,
        *,
        noise: jax.Array | None = None,
        transform: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Those of `synthesize` that were given, for `count` images; noise where it is needed."""
        if noise is None and takes_noise_keys(self.generator):
            noise = image_keys(0, np.arange(count, dtype=np.int32))
        given = {'noise': noise, 'transform': transform}
        return {name: value for name, value in given.items() if value is not None}

    @functools.cached_property
    def _synthesize(self) -> Any:
        whole = functools.partial(synthesize_whole, self.generator, mesh=self.mesh)
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(whole, out_shardings=everywhere)

    @functools.cached_property
    def _render(self) -> Any:
        return jax.jit(make_render(self.generator, self.mesh))


@dataclasses.dataclass(frozen=True)
class LikelihoodRun:
    """A model of the PixelCNN family, or an auto-encoder, with its weights, on all devices of this
    machine.

    Attributes:
      source: where it came from, for messages.
      variables: {'params'} of the model.
      step: of the checkpoint.
      config: of the run.
    """

    source: str
    objective: Fit
    variables: PyTree
    mesh: Mesh
    step: int
    config: ConfigDict

    @property
    def generator(self) -> nn.Module:
        """The model."""
        return self.objective.model

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of its images unless another size is asked for."""
        return self.objective.frame

    def sample(
        self,
        count: int,
        seed: int = 0,
        *,
        truncation: float = 1.0,
        temperature: float = 1.0,
        label: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """`[count, H, W, C]` in [-1, 1]; `size`: (height, width); `label`: a class, or all.

        `temperature` scales the noise: 0 draws the most probable level of each sub-pixel.
        """
        _refuse('truncation', truncation)
        if not 0 <= temperature < float('inf'):
            raise UserError(f'temperature must be 0 or more, got {temperature}')
        height, width = size or self.frame
        labels = _labels(self.objective.num_classes, count, label)
        # What a sampler keeps of an image grows with its area, or with its row at least.
        batch = max(1, min(count, 2**18 // (height * width)))
        batch = -(-batch // self.mesh.size) * self.mesh.size
        sample = functools.partial(
            self.objective.sample, temperature=temperature, size=(height, width), mesh=self.mesh
        )
        if size is not None:
            self._check_size(size, labels)
        return make_sampler(sample, self.mesh, batch)(self.variables, count, seed, labels)

    def _check_size(self, size: tuple[int, int], labels: np.ndarray | None) -> None:
        keys = image_keys(0, np.zeros(1, np.int32))
        label = None if labels is None else labels[:1]
        try:
            jax.eval_shape(
                functools.partial(self.objective.sample, size=size), self.variables, keys, label
            )
        except ValueError as error:
            raise UserError(f'size: {error}') from error


def _labels(classes: int, count: int, label: int | None) -> np.ndarray | None:
    if label is not None and not 0 <= label < classes:
        allowed = f'from 0 to {classes - 1}' if classes else 'left out: the model has no classes'
        raise UserError(f'label must be {allowed}, got {label}')
    if not classes:
        return None
    return np.arange(count) % classes if label is None else np.full(count, label)


def _refuse(name: str, value: float) -> None:
    if value != 1:
        raise UserError(f'{name} must be left out: the model has none, got {value}')


def restore(
    workdir: str | pathlib.Path, *, ema: bool = True, checkpoint: str | int = NEWEST
) -> Run | LikelihoodRun:
    """A checkpoint of `workdir`, or the imported weights that it holds.

    Args:
      checkpoint: 'newest', 'best' (of those that `config.best` keeps), or the number of a step.

    Raises:
      UserError: no run, or no checkpoint yet, or not of that step.
    """
    folder = pathlib.Path(workdir).expanduser()
    config = read_config(folder)
    best = checkpoint == BEST
    if not str(checkpoint).isdecimal() and checkpoint not in (NEWEST, BEST):
        raise UserError(
            f'checkpoint must be {NEWEST}, {BEST} or the number of a step, got {checkpoint!r}'
        )
    if (folder / imported.WEIGHTS).exists():
        if checkpoint != NEWEST:
            raise UserError(f'workdir {str(workdir)!r} holds converted weights, no checkpoints')
        return _from_imported(str(workdir), imported.load(folder), ema=ema)
    plan = JitPlan(make_mesh())
    objective = tasks.make_objective(config)
    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    step = None if checkpoint in (NEWEST, BEST) else int(checkpoint)
    found = newest_state(folder, shapes, plan.state_sharding(), step=step, best=best)
    if found is None:
        kind = 'best checkpoint: config.best says by which metric' if best else 'checkpoint yet'
        raise UserError(f'workdir {str(workdir)!r} has no {kind}')
    step, state = found
    variables = objective.sampling_variables(state, ema=ema)
    return of_objective(objective, variables, str(workdir), plan.mesh, step, config)


def of_objective(
    objective: Objective, variables: PyTree, source: str, mesh: Mesh, step: int, config: ConfigDict
) -> Run | LikelihoodRun:
    """A model in training, ready to draw from, with `variables` as of `sampling_variables`."""
    common = dict(source=source, variables=variables, mesh=mesh, step=step, config=config)
    if isinstance(objective, Fit):
        return LikelihoodRun(objective=objective, **common)
    return Run(
        generator=objective.generator,
        frame=objective.frame or objective.generator.frame,
        **common,
    )


def each_checkpoint(workdir: str | pathlib.Path, *, ema: bool = True) -> Iterator[Run]:
    """The generator of a run at each of its checkpoints, the oldest first.

    Raises:
      UserError: no run, or no checkpoint that can be read.
    """
    for step in saved_steps(pathlib.Path(workdir).expanduser()):
        yield restore(workdir, ema=ema, checkpoint=step)


def from_weights(path: str | pathlib.Path, *, ema: bool = True) -> Run:
    """The generator of a file of published weights, converted in memory.

    Raises:
      UserError: no such file, or not one of a model that jaxgen knows.
    """
    return _from_imported(str(path), imported.read_published(path), ema=ema)


def _from_imported(source: str, weights: imported.Imported, *, ema: bool) -> Run:
    generator = weights.generator
    return Run(
        source=source,
        generator=generator,
        variables=jax.tree.map(jax.numpy.asarray, weights.variables(ema=ema)),
        mesh=make_mesh(),
        frame=weights.frame or generator.frame,
    )
