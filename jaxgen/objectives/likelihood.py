"""Maximum likelihood: the PixelCNN family, or any model of integer images that says log p exactly.

    loss = −log₂ p(x) / (H·W·C), bits per dimension, as a sum and a count

`Fit` is what it shares with other losses of one network: state, update, average. A model has
`levels`, `colours`, `likelihood` (see `losses.likelihood`) and maybe `num_classes`, `dropout` and
`steps`. Batches come as floats in [-1, 1], made from bytes; the objective turns them
into levels of equal width, level = ⌊byte·levels / 256⌋, so the bits per dimension of a model with
fewer than 256 levels are those of the coarser image.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen.losses.likelihood import bits_per_dim, image_log_prob
from jaxgen.objectives.autoregressive_sampling import sample_cached, sample_fixed_point
from jaxgen.objectives.base import Batch, Learner, Mean, Metrics, Phase, identity
from jaxgen.ops.causal_conv import centred
from jaxgen.ops.random import per_example_keys

PyTree = Any


def to_levels(image: jax.Array, levels: int) -> jax.Array:
    """Integers below `levels` of floats in [-1, 1] that were bytes: ⌊byte·levels / 256⌋."""
    byte = jnp.round((image + 1) * 127.5).astype(jnp.int32)
    return byte * levels // 256


@flax.struct.dataclass
class LikelihoodState:
    """Everything that a run needs to go on. `ema` are parameters of the model."""

    step: jax.Array
    learner: Learner
    ema: PyTree


@dataclasses.dataclass(frozen=True)
class Fit:
    """One network that descends one loss of integer images, with an average of its parameters.

    A subclass says `measure`, the loss of an image, under the name `measured`, and draws images.

    Attributes:
      frame: (height, width) of the images.
      ema_decay: share of the old average that each step keeps.
    """

    measured: ClassVar[str]

    model: nn.Module
    optimizer: optax.GradientTransformation
    frame: tuple[int, int]
    ema_decay: float = 0.9995

    @property
    def num_classes(self) -> int:
        """Of the labels that images are conditioned on; 0: none."""
        return getattr(self.model, 'num_classes', 0)

    def init_state(self, key: jax.Array, batch: Batch | None = None) -> LikelihoodState:
        """The model at its initial distribution; `ema` starts as the model.

        PixelCNN++ scales itself to `batch`, with dropout as published. Without one it gets a black
        image, which is enough to know the shapes.
        """
        params_key, dropout_key = jax.random.split(key)
        if batch is None:
            batch = {
                'image': -jnp.ones((1, *self.frame, self.model.colours)),
                'slot': jnp.zeros((1,), jnp.int32),
                'label': jnp.zeros((1,), jnp.int32),
            }
        given = self._given(batch, per_example_keys(dropout_key, batch['slot']))
        params = self.model.init(params_key, self.levels_of(batch), **given)['params']
        learner = Learner(params, {}, self.optimizer.init(params))
        # A copy: a donated buffer must not stand twice in the state.
        return LikelihoodState(jnp.zeros((), jnp.int32), learner, jax.tree.map(jnp.copy, params))

    def phases(self) -> tuple[Phase, ...]:
        """The one phase 'update'.

        A batch has `image [B, H, W, C]` in [-1, 1], `slot [B]`, and `label [B]` for a model with
        classes.
        """

        def update(state, batch, key, *, mean=identity):
            keys = per_example_keys(jax.random.fold_in(key, state.step), batch['slot'])
            state, metrics = self.update(state, batch, keys, mean=mean)
            return self.update_ema(state).replace(step=state.step + 1), metrics

        return (Phase('update', 1, update),)

    def update(
        self,
        state: LikelihoodState,
        batch: Batch,
        dropout_keys: jax.Array | None = None,
        *,
        mean: Callable[[PyTree], PyTree] = identity,
    ) -> tuple[LikelihoodState, Metrics]:
        """One step of the optimiser on the mean of the loss."""

        def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            total, count = self.measure({'params': params}, batch, dropout_keys)
            return total / count, (total, count)

        learner = state.learner
        gradients, (total, count) = jax.grad(loss, has_aux=True)(learner.params)
        updates, optimizer = self.optimizer.update(
            mean(gradients), learner.optimizer, learner.params
        )
        learner = learner.replace(
            params=optax.apply_updates(learner.params, updates), optimizer=optimizer
        )
        metrics = {f'{self.measured}/train': Mean(total, count)}
        return state.replace(learner=learner), mean(metrics)

    def update_ema(self, state: LikelihoodState) -> LikelihoodState:
        """ema ← decay·ema + (1 - decay)·params."""
        ema = jax.tree.map(
            lambda average, new: new + self.ema_decay * (average - new),
            state.ema,
            state.learner.params,
        )
        return state.replace(ema=ema)

    def measure(
        self, variables: PyTree, batch: Batch, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of the images of a batch as a sum and a count."""
        raise NotImplementedError

    def score(self, variables: PyTree, batch: Batch) -> jax.Array:
        """The loss `[B]` of each image of a batch; nothing is dropped out."""
        raise NotImplementedError

    def levels_of(self, batch: Batch) -> jax.Array:
        """The images of a batch as integers `[B, H, W, C]` below the model's levels."""
        return to_levels(batch['image'], self.model.levels)

    def sampling_variables(self, state: LikelihoodState, *, ema: bool = True) -> PyTree:
        """The model's variables for `sample`: averaged parameters, or the current ones."""
        return {'params': state.ema if ema else state.learner.params}

    def _given(self, batch: Batch, dropout_keys: jax.Array | None) -> dict[str, jax.Array]:
        """What the model's call takes beside the image."""
        given = {'label': batch['label']} if self.num_classes else {}
        if dropout_keys is not None and getattr(self.model, 'dropout', 0):
            given['dropout_keys'] = dropout_keys
        return given


@dataclasses.dataclass(frozen=True)
class Likelihood(Fit):
    """The objective of a model that says log p; see `Fit`."""

    measured: ClassVar[str] = 'bits_per_dim'

    def measure(
        self, variables: PyTree, batch: Batch, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(bits, sub-pixels) of the images of a batch."""
        return bits_per_dim(self.log_prob(variables, batch, dropout_keys), batch['image'][0].size)

    def score(self, variables: PyTree, batch: Batch) -> jax.Array:
        """Bits per dimension `[B]` of each image of a batch; nothing is dropped out."""
        log_prob = self.log_prob(variables, batch)
        return -log_prob / (math.log(2) * batch['image'][0].size)

    def log_prob(
        self, variables: PyTree, batch: Batch, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """log p `[B]` in nats of the images of a batch; with `dropout_keys [B]` as in training."""
        pixels = self.levels_of(batch)
        params = self.model.apply(variables, pixels, **self._given(batch, dropout_keys))
        return image_log_prob(self.model.likelihood, params, pixels)

    def sample(
        self,
        variables: PyTree,
        keys: jax.Array,
        label: jax.Array | None = None,
        *,
        temperature: float | jax.Array = 1.0,
        size: tuple[int, int] | None = None,
        mesh: Mesh | None = None,
    ) -> jax.Array:
        """Images `[B, H, W, C]` in [-1, 1], levels evenly spaced, from `[B]` keys.

        Args:
          temperature: scales the noise; 1 draws from the model, 0 takes the most probable level.
          size: (height, width), any that the model takes; default: `frame`.
          mesh: splits the images over these devices, where their number divides B.
        """
        given = {'label': label} if self.num_classes else {}
        size = size or self.frame
        return draw(self.model, variables, keys, size, given, temperature=temperature, mesh=mesh)


def draw(
    model: nn.Module,
    variables: PyTree,
    keys: jax.Array,
    size: tuple[int, int],
    given: PyTree,
    *,
    temperature: float | jax.Array = 1.0,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Images `[B, H, W, C]` in [-1, 1] by the fastest sampler that `model` has.

    Args:
      keys: `[B]`.
      given: what images are conditioned on, by name, each `[B, ...]`.
      mesh: splits the images over these devices, where their number divides B.
    """
    sampler = sample_cached if hasattr(model, 'steps') else sample_fixed_point

    def draw_some(variables: PyTree, keys: jax.Array, given: PyTree) -> jax.Array:
        pixels = sampler(model, variables, keys, size, temperature=temperature, **given).pixels
        return centred(pixels, model.levels)

    if mesh is not None and mesh.size > 1 and keys.shape[0] % mesh.size == 0:
        # Each device walks along its own images and waits for no other.
        rows = P(mesh.axis_names)
        draw_some = jax.shard_map(
            draw_some,
            mesh=mesh,
            in_specs=(P(), rows, rows),
            out_specs=rows,
            check_vma=False,
        )
    return draw_some(variables, keys, given)
