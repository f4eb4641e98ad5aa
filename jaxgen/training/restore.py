"""A trained or imported generator, ready to draw from: what `sample` and the apps start with."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.interop import imported
from jaxgen.objectives.rendering import make_render
from jaxgen.objectives.sampling import image_keys, latents, make_sampler, sample_images
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.workdir import read_config

PyTree = Any


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
        label: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """`[count, H, W, C]` around [-1, 1]; `size`: (height, width); `label`: a class, or all."""
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
        return sampler(self.variables, count, seed, self._labels(count, label))

    def styles(
        self,
        slots: Sequence[int],
        seed: int = 0,
        *,
        truncation: float = 1.0,
        label: int | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """z `[B, latent]` and w `[B, style]` of the images number `slots` that `sample` draws."""
        slots = np.asarray(slots, np.int32)
        z = latents(image_keys(seed, slots), self.generator.latent)
        labels = self._labels(int(slots.max()) + 1, label)
        return z, self.mapping(z, None if labels is None else labels[slots], truncation=truncation)

    def mapping(
        self, z: jax.Array, label: np.ndarray | None = None, *, truncation: float = 1.0
    ) -> jax.Array:
        """z `[B, latent]` to w `[B, style]`."""
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
        if noise is None and self.generator.noise == 'random':
            noise = image_keys(0, np.arange(w.shape[0], dtype=np.int32))
        pixels = coords if weights is None else (coords, weights)
        return np.asarray(self._render(self.variables, pixels, (w, noise)))

    @functools.cached_property
    def _render(self) -> Any:
        return jax.jit(make_render(self.generator, self.mesh))

    def _labels(self, count: int, label: int | None) -> np.ndarray | None:
        classes = self.generator.num_classes
        if label is not None and not 0 <= label < classes:
            allowed = (
                f'from 0 to {classes - 1}' if classes else 'left out: the model has no classes'
            )
            raise UserError(f'label must be {allowed}, got {label}')
        if not classes:
            return None
        return np.arange(count) % classes if label is None else np.full(count, label)


def restore(workdir: str | pathlib.Path, *, ema: bool = True) -> Run:
    """The newest checkpoint of `workdir`, or the imported weights that it holds.

    Raises:
      UserError: no run, or no checkpoint yet.
    """
    folder = pathlib.Path(workdir).expanduser()
    config = read_config(folder)
    if (folder / imported.WEIGHTS).exists():
        return _from_imported(str(workdir), imported.load(folder), ema=ema)
    plan = JitPlan(make_mesh())
    objective = tasks.make_objective(config)
    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    found = None
    if (folder / 'checkpoints').is_dir():
        checkpoints = Checkpoints(folder / 'checkpoints')
        found = checkpoints.restore_latest(shapes, plan.state_sharding())
        checkpoints.close()
    if found is None:
        raise UserError(f'workdir {str(workdir)!r} has no checkpoint yet')
    step, state = found
    return Run(
        source=str(workdir),
        generator=objective.generator,
        variables=objective.sampling_variables(state, ema=ema),
        mesh=plan.mesh,
        frame=objective.frame or objective.generator.frame,
        step=step,
        config=config,
    )


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
