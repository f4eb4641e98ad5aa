"""Adversarial training of CIPS: the whole step, in the published order of phases.

1  D: logistic loss on the real batch and on fakes from z_d, Adam
2  every `r1_every` steps, D again: γ/2 · r1_every · R1 on the same real batch with the
   just-updated D, a second update of the same Adam
3  G: non-saturating loss with z_g and the updated D, Adam
4  EMA of G's parameters
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.losses import adversarial as losses
from jaxgen.losses.gradient_penalty import r1
from jaxgen.objectives.adversarial_base import AdversarialBase, AdversarialState, moved_average
from jaxgen.objectives.base import Batch, Mean, Metrics, Phase, identity
from jaxgen.ops.coords import grid
from jaxgen.ops.random import normal_per_example, per_example_keys

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Adversarial(AdversarialBase):
    """The objective. See `AdversarialBase` for the other attributes.

    Attributes:
      ema_decay: share of the old average that each step keeps.
    """

    ema_decay: float = 0.5 ** (32 / 10_000)

    def init_state(self, key: jax.Array, batch: Batch | None = None) -> AdversarialState:
        """See `AdversarialBase.init_networks`."""
        del batch  # No layer here scales itself to the data.
        return self.init_networks(key, coords=jnp.zeros((1, 1, 1, 2)))

    def phases(self) -> tuple[Phase, ...]:
        """The phases 1, 2, and 3 with 4, each drawing its own latents.

        A batch has `image [B, H, W, C]` in [-1, 1], `slot [B]`, optional `label [B]` and
        `coords [1 or B, H, W, 2]` (default: the training frame).
        """

        def discriminator(state, batch, key, *, mean=identity):
            z, noise = self._draw(key, state.step, 0, batch['slot'])
            return self.update_discriminator(state, batch, z, noise, mean=mean)

        def regularize(state, batch, key, *, mean=identity):
            return self.update_r1(state, batch, mean=mean)

        def generator(state, batch, key, *, mean=identity):
            z, noise = self._draw(key, state.step, 1, batch['slot'])
            state, metrics = self.update_generator(state, batch, z, noise, mean=mean)
            return self.update_ema(state).replace(step=state.step + 1), metrics

        lazy = (Phase('r1', self.r1_every, regularize),) if self.r1_every else ()
        return (
            Phase('discriminator', 1, discriminator),
            *lazy,
            Phase('generator', 1, generator),
        )

    def update_discriminator(
        self,
        state: AdversarialState,
        batch: Batch,
        z: jax.Array,
        noise: jax.Array | Sequence[jax.Array] | None = None,
        *,
        mean: Callable[[PyTree], PyTree] = identity,
    ) -> tuple[AdversarialState, Metrics]:
        """Phase 1: the logistic loss of the discriminator."""
        fake, _ = self.generate(state.generator.params, state.generator.stats, batch, z, noise)

        def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            real_score = self.score(params, batch['image'], batch)
            fake_score = self.score(params, fake, batch)
            value = losses.discriminator_logistic(real_score, fake_score)
            return value, (real_score, fake_score)

        (value, (real_score, fake_score)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.discriminator.params
        )
        learner = self.updated(state.discriminator, mean(gradients), self.discriminator_optimizer)
        metrics = {
            'loss/discriminator': Mean.of(value),
            'score/real': Mean.of(real_score),
            'score/fake': Mean.of(fake_score),
        }
        return state.replace(discriminator=learner), mean(metrics)

    def update_r1(
        self,
        state: AdversarialState,
        batch: Batch,
        *,
        mean: Callable[[PyTree], PyTree] = identity,
    ) -> tuple[AdversarialState, Metrics]:
        """Phase 2: the gradient penalty. The metric is R1 itself, without its factor."""

        def loss(params: PyTree) -> tuple[jax.Array, jax.Array]:
            inputs = {'image': batch['image']}
            if self.discriminator.coordinates:
                inputs['coords'] = self._coords(batch)
            penalty = r1(lambda x: self.score(params, x['image'], {**batch, **x}), inputs)
            return 0.5 * self.r1_weight * self.r1_every * penalty, penalty

        gradients, penalty = jax.grad(loss, has_aux=True)(state.discriminator.params)
        learner = self.updated(state.discriminator, mean(gradients), self.discriminator_optimizer)
        return state.replace(discriminator=learner), mean({'loss/r1': Mean.of(penalty)})

    def update_generator(
        self,
        state: AdversarialState,
        batch: Batch,
        z: jax.Array,
        noise: jax.Array | Sequence[jax.Array] | None = None,
        *,
        mean: Callable[[PyTree], PyTree] = identity,
    ) -> tuple[AdversarialState, Metrics]:
        """Phase 3: the non-saturating loss of the generator; moves the average of w."""

        def loss(params: PyTree) -> tuple[jax.Array, PyTree]:
            fake, stats = self.generate(
                params, state.generator.stats, batch, z, noise, update_average=True
            )
            score = self.score(state.discriminator.params, fake, batch)
            return losses.generator_non_saturating(score), stats

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(state.generator.params)
        learner = self.updated(state.generator, mean(gradients), self.generator_optimizer)
        learner = learner.replace(stats=mean(stats))
        return state.replace(generator=learner), mean({'loss/generator': Mean.of(value)})

    def update_ema(self, state: AdversarialState) -> AdversarialState:
        """Phase 4: ema ← decay·ema + (1 - decay)·params."""
        return state.replace(ema=moved_average(state.ema, state.generator.params, self.ema_decay))

    def generate(
        self,
        params: PyTree,
        stats: PyTree,
        batch: Batch,
        z: jax.Array,
        noise: jax.Array | Sequence[jax.Array] | None = None,
        *,
        update_average: bool = False,
    ) -> tuple[jax.Array, PyTree]:
        """Fakes for a batch, and the generator's other collections after it."""
        image, updated = self.generator.apply(
            {'params': params, 'stats': stats},
            z,
            batch.get('label') if self.generator.num_classes else None,
            coords=batch.get('coords'),
            noise=noise,
            update_average=update_average,
            split_pixels=self.layout.pixels,
            split_styles=self.layout.styles,
            method='generate',
            mutable=['stats'],
        )
        return self.layout.images(image), updated['stats']

    def score(self, params: PyTree, image: jax.Array, batch: Batch) -> jax.Array:
        """The discriminator's scores `[B]`."""
        return self.discriminator.apply(
            {'params': params},
            image,
            batch['label'] if self.discriminator.num_classes else None,
            coords=self._coords(batch) if self.discriminator.coordinates else None,
        )

    def _draw(
        self, key: jax.Array, step: jax.Array, phase: int, slot: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(key, step), phase)
        z = normal_per_example(jax.random.fold_in(key, 0), slot, (self.generator.latent,))
        return z, per_example_keys(jax.random.fold_in(key, 1), slot)

    def _coords(self, batch: Batch) -> jax.Array:
        if 'coords' in batch:
            return batch['coords']
        image = batch['image']
        return jnp.broadcast_to(grid(*image.shape[1:3])[None], (*image.shape[:3], 2))
