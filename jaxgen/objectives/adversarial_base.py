"""What every adversarial objective shares: two networks in training, their state, sampling."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxgen.objectives.base import Learner
from jaxgen.objectives.sampling import sample_images
from jaxgen.parallel.mesh import Layout

PyTree = Any


@flax.struct.dataclass
class AdversarialState:
    """Everything that a run needs to go on. `ema` are parameters of the generator."""

    step: jax.Array
    generator: Learner
    discriminator: Learner
    ema: PyTree


@dataclasses.dataclass(frozen=True)
class AdversarialBase:
    """Two networks and their optimisers. Modules have the methods of `models.cips`,
    `models.stylegan2` or `models.stylegan3`, and of `models.discriminator`.

    Attributes:
      r1_weight: γ of R1. r1_every: steps between two R1 updates; 0: never.
      frame: (height, width) of a sample; None: that of the generator.
      layout: where images and pixels lie on the devices.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    r1_weight: float = 10.0
    r1_every: int = 16
    frame: tuple[int, int] | None = None
    layout: Layout = Layout()

    def init_networks(self, key: jax.Array, **options: jax.Array) -> AdversarialState:
        """Both networks at their initial distributions; `ema` starts as the generator.

        `options`: of the generator's `generate`, beside latents and labels.
        """
        key_g, key_d = jax.random.split(key)
        latent = jnp.zeros((1, self.generator.latent))
        label = jnp.zeros((1,), jnp.int32) if self.generator.num_classes else None
        if getattr(self.generator, 'noise', None) is not None:
            options['noise'] = jax.random.split(key_g, 1)
        generator = self.learner(
            self.generator.init(key_g, latent, label, **options, method='generate'),
            self.generator_optimizer,
        )
        height, width = self.discriminator.frame
        image = jnp.zeros((1, height, width, self.discriminator.image_channels))
        coords = jnp.zeros((1, height, width, 2)) if self.discriminator.coordinates else None
        label = jnp.zeros((1,), jnp.int32) if self.discriminator.num_classes else None
        discriminator = self.learner(
            self.discriminator.init(key_d, image, label, coords=coords),
            self.discriminator_optimizer,
        )
        # A copy: a donated buffer must not stand twice in the state.
        ema = jax.tree.map(jnp.copy, generator.params)
        return AdversarialState(jnp.zeros((), jnp.int32), generator, discriminator, ema)

    def sample(
        self,
        variables: PyTree,
        keys: jax.Array,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array = 1.0,
        size: tuple[int, int] | None = None,
        mesh: Mesh | None = None,
    ) -> jax.Array:
        """Images `[B, H, W, C]` from `[B]` keys.

        Args:
          truncation: ψ in W; 1 is off.
          size: (height, width), any where the generator renders pixel by pixel; default: `frame`.
          mesh: splits the pixels, or the images, over these devices.
        """
        return sample_images(
            self.generator,
            variables,
            keys,
            label,
            truncation=truncation,
            size=size or self.frame,
            mesh=mesh,
        )

    def sampling_variables(self, state: AdversarialState, *, ema: bool = True) -> PyTree:
        """The generator's variables for `sample`: averaged parameters, or the current ones."""
        params = state.ema if ema else state.generator.params
        return {'params': params, 'stats': state.generator.stats}

    @staticmethod
    def learner(variables: PyTree, optimizer: optax.GradientTransformation) -> Learner:
        """A network before its first update."""
        variables = dict(variables)
        params = variables.pop('params')
        return Learner(params, variables.get('stats', {}), optimizer.init(params))

    @staticmethod
    def updated(
        learner: Learner,
        gradients: PyTree,
        optimizer: optax.GradientTransformation,
        **options: bool,
    ) -> Learner:
        """The network after one update; `options` of the optimiser's `update`."""
        updates, state = optimizer.update(gradients, learner.optimizer, learner.params, **options)
        return learner.replace(params=optax.apply_updates(learner.params, updates), optimizer=state)


def moved_average(average: PyTree, new: PyTree, decay: jax.Array | float) -> PyTree:
    """decay·average + (1 - decay)·new."""
    return jax.tree.map(lambda a, n: n + decay * (a - n), average, new)
