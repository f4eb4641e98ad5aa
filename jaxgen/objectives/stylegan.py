"""Training of StyleGAN2 (1912.04958, 2006.06676) and StyleGAN3 (2106.12423), as published.

1  G: non-saturating loss, Adam
2  every `path_length_every` steps, G again: interval · weight · path length penalty on a part of
   the batch, a second update of the same Adam
3  D: logistic loss on the real batch and on fakes of the updated G, Adam; here alone move the
   running means of w and of the layers' magnitudes (StyleGAN3)
4  every `r1_every` steps, D again: interval · γ/2 · R1 on the same real batch, same Adam
5  EMA of G's parameters; ADA's probability; the step is counted

Phases 1 to 4 each draw latents, noise and augmentations of their own. Every image that D sees is
blurred, then augmented; R1 is the gradient with respect to the image before both.

Everything random belongs to one example: the crossover of style mixing too, which the published
code draws once for a batch. Means over a batch are means over all devices, also those of path
lengths and magnitudes, which the published code keeps per device. Gradients that are not finite
stop the run; the published code makes numbers of them. Fakes have the labels of the real batch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.augment import ada
from jaxgen.losses import adversarial as losses
from jaxgen.losses.gradient_penalty import r1
from jaxgen.losses.path_length import path_length_penalty, path_lengths, shrink_batch
from jaxgen.objectives import schedules
from jaxgen.objectives.adversarial_base import AdversarialBase, AdversarialState, moved_average
from jaxgen.objectives.base import Batch, Mean, Metrics, Phase, identity
from jaxgen.ops.blur import blur
from jaxgen.ops.random import normal_per_example, per_example_keys

PyTree = Any
Average = Callable[[PyTree], PyTree]


@flax.struct.dataclass
class StyleGANState(AdversarialState):
    """Everything that a run needs to go on.

    Attributes:
      path_length_mean: running mean of the path lengths.
      augment_p: ADA's probability.
      augment_signs: sign(D(real)) since its last update: the sum of the means of the passes, and
        the number of passes, which does not depend on the number of devices.
    """

    path_length_mean: jax.Array
    augment_p: jax.Array
    augment_signs: Mean


class Draws(NamedTuple):
    """What a phase draws for each example.

    Attributes:
      z, other_z: `[B, latent]`; the second is for the layers from `crossover [B]` on.
      noise: `[B]` keys of the generator's noise, or its maps.
      augment, augment_real: `[B]` keys of the augmentations of fakes and of real images.
      projection: `[B, H, W, C]`, the direction in which path lengths are taken.
    """

    z: jax.Array
    other_z: jax.Array | None
    crossover: jax.Array | None
    noise: Any
    augment: jax.Array | None
    augment_real: jax.Array | None
    projection: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """ADA (2006.06676).

    Attributes:
      pipeline: the transformations.
      p: at the start of the run.
      target: of the mean of sign(D(real)); None: p stays as it is.
      every: steps between two updates of p.
      images_to_one: in which p would go from 0 to 1.
    """

    pipeline: ada.Pipeline
    p: float = 0.0
    target: float | None = 0.6
    every: int = 4
    images_to_one: float = 500_000


@dataclasses.dataclass(frozen=True)
class StyleGAN(AdversarialBase):
    """The objective. See `AdversarialBase` for the other attributes.

    The optimisers are those of `objectives.optim.outputs_apart`.

    Attributes:
      batch_size: of all devices together; schedules count images.
      path_length_weight, path_length_every: of the penalty; an interval of 0: never.
      path_length_shrink: one example of so many takes part. path_length_decay: of the mean.
      style_mixing: probability.
      ema_half_life: in images. ema_ramp: see `schedules.ema_decay`.
      augmentation: None: none.
      blur_sigma: in pixels, at first; 0: no blur. blur_fade: images until it is 0.
    """

    batch_size: int = 32
    path_length_weight: float = 2.0
    path_length_every: int = 4
    path_length_shrink: int = 2
    path_length_decay: float = 0.01
    style_mixing: float = 0.9
    ema_half_life: float = 10_000
    ema_ramp: float | None = 0.05
    augmentation: Augmentation | None = None
    blur_sigma: float = 0.0
    blur_fade: float = 200_000

    @property
    def adaptive(self) -> bool:
        """Whether the probability of augmentation follows the discriminator."""
        return self.augmentation is not None and self.augmentation.target is not None

    def init_state(self, key: jax.Array, batch: Batch | None = None) -> StyleGANState:
        """See `AdversarialBase.init_networks`."""
        del batch  # No layer here scales itself to the data.
        networks = self.init_networks(key)
        return StyleGANState(
            **{f.name: getattr(networks, f.name) for f in dataclasses.fields(networks)},
            path_length_mean=jnp.zeros(()),
            augment_p=jnp.zeros(()) + (self.augmentation.p if self.augmentation else 0),
            augment_signs=Mean(jnp.zeros(()), jnp.zeros(())),
        )

    def phases(self) -> tuple[Phase, ...]:
        """The phases 1 to 5.

        A batch has `image [B, H, W, C]` in [-1, 1], `slot [B]`, optional `label [B]`.
        """
        found = [
            ('generator', 1, self.update_generator),
            ('path_length', self.path_length_every, self.update_path_length),
            ('discriminator', 1, self.update_discriminator),
            ('r1', self.r1_every, self.update_r1),
        ]
        phases = [
            Phase(name, every, self._drawing(i, name, update))
            for i, (name, every, update) in enumerate(found)
            if every
        ]

        def average(state, batch, key, *, mean=identity):
            return self.update_averages(state), {}

        return (*phases, Phase('average', 1, average))

    def _drawing(self, number: int, name: str, update: Callable) -> Callable:
        """A phase's update that makes its own draws; path lengths are those of a part only."""
        shrink = self.path_length_shrink if name == 'path_length' else 1

        def run(state, batch, key, *, mean=identity):
            batch = shrink_batch(dict(batch), shrink) if shrink > 1 else batch
            draws = self.draw(key, state.step, number, batch['slot'])
            return update(state, batch, draws, mean=mean)

        return run

    def draw(self, key: jax.Array, step: jax.Array, phase: int, slot: jax.Array) -> Draws:
        """All that phase number `phase` may need; what it does not use is not computed."""
        key = jax.random.fold_in(jax.random.fold_in(key, step), phase)
        keys = [jax.random.fold_in(key, i) for i in range(7)]
        latent, layers = (self.generator.latent,), self.generator.num_ws
        images = (*self.generator.frame, self.generator.image_channels)
        mixing = per_example_keys(keys[2], slot)
        return Draws(
            z=normal_per_example(keys[0], slot, latent),
            other_z=normal_per_example(keys[1], slot, latent),
            crossover=jax.vmap(lambda k: self._crossover(k, layers))(mixing),
            noise=per_example_keys(keys[3], slot),
            augment=per_example_keys(keys[4], slot),
            augment_real=per_example_keys(keys[5], slot),
            projection=normal_per_example(keys[6], slot, images),
        )

    def _crossover(self, key: jax.Array, layers: int) -> jax.Array:
        """The first layer in another style: uniform from 1 on, or beyond the last."""
        happens, place = jax.random.split(key)
        layer = jax.random.randint(place, (), 1, layers)
        return jnp.where(jax.random.uniform(happens) < self.style_mixing, layer, layers)

    def update_generator(
        self, state: StyleGANState, batch: Batch, draws: Draws, *, mean: Average = identity
    ) -> tuple[StyleGANState, Metrics]:
        """Phase 1: the non-saturating loss of the generator."""

        def loss(params: PyTree) -> jax.Array:
            fake, _ = self.generate(params, state.generator.stats, batch, draws)
            score = self.score(state.discriminator.params, fake, batch, state, draws.augment)
            return losses.generator_non_saturating(score)

        value, gradients = jax.value_and_grad(loss)(state.generator.params)
        learner = self.updated(state.generator, mean(gradients), self.generator_optimizer)
        return state.replace(generator=learner), mean({'loss/generator': Mean.of(value)})

    def update_path_length(
        self, state: StyleGANState, batch: Batch, draws: Draws, *, mean: Average = identity
    ) -> tuple[StyleGANState, Metrics]:
        """Phase 2: the path length penalty. Its metric is without the weight."""
        stats = state.generator.stats

        def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            w, _ = self.styles(params, stats, batch, draws)
            lengths = path_lengths(
                lambda w: self.synthesize(params, stats, w, draws)[0], w, draws.projection
            )
            penalty, running = path_length_penalty(
                lengths, state.path_length_mean, self.path_length_decay, over_devices=mean
            )
            value = self.path_length_weight * self.path_length_every * jnp.mean(penalty)
            return value, (penalty, lengths, running)

        gradients, (penalty, lengths, running) = jax.grad(loss, has_aux=True)(
            state.generator.params
        )
        learner = self.updated(
            state.generator, mean(gradients), self.generator_optimizer, regularizing=True
        )
        metrics = {'loss/path_length': Mean.of(penalty), 'path_length': Mean.of(lengths)}
        return state.replace(generator=learner, path_length_mean=running), mean(metrics)

    def update_discriminator(
        self, state: StyleGANState, batch: Batch, draws: Draws, *, mean: Average = identity
    ) -> tuple[StyleGANState, Metrics]:
        """Phase 3: the logistic loss of the discriminator; moves the generator's averages."""
        fake, stats = self.generate(
            state.generator.params, state.generator.stats, batch, draws, update_average=mean
        )

        def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            fake_score = self.score(params, fake, batch, state, draws.augment)
            real_score = self.score(params, batch['image'], batch, state, draws.augment_real)
            value = losses.discriminator_logistic(real_score, fake_score)
            return value, (real_score, fake_score)

        (value, (real_score, fake_score)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.discriminator.params
        )
        learner = self.updated(state.discriminator, mean(gradients), self.discriminator_optimizer)
        state = state.replace(
            discriminator=learner,
            generator=state.generator.replace(stats=stats),
            augment_signs=self._count_signs(state, real_score, mean),
        )
        metrics = {
            'loss/discriminator': Mean.of(value),
            'score/real': Mean.of(real_score),
            'score/fake': Mean.of(fake_score),
            'sign/real': Mean.of(jnp.sign(real_score)),
        }
        if self.augmentation:
            metrics['augment_p'] = Mean.of(state.augment_p)
        return state, mean(metrics)

    def update_r1(
        self, state: StyleGANState, batch: Batch, draws: Draws, *, mean: Average = identity
    ) -> tuple[StyleGANState, Metrics]:
        """Phase 4: the gradient penalty. The metric is R1 itself, without its factor."""

        def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            def score(image: jax.Array) -> jax.Array:
                return self.score(params, image, batch, state, draws.augment_real)

            penalty = r1(score, batch['image'])
            value = 0.5 * self.r1_weight * self.r1_every * penalty
            return value, (penalty, score(batch['image']))

        gradients, (penalty, score) = jax.grad(loss, has_aux=True)(state.discriminator.params)
        learner = self.updated(
            state.discriminator, mean(gradients), self.discriminator_optimizer, regularizing=True
        )
        signs = self._count_signs(state, score, mean)
        state = state.replace(discriminator=learner, augment_signs=signs)
        return state, mean({'loss/r1': Mean.of(penalty)})

    def update_averages(self, state: StyleGANState) -> StyleGANState:
        """Phase 5: the average of the generator, ADA's p, and the step."""
        decay = schedules.ema_decay(
            state.step * self.batch_size, self.batch_size, self.ema_half_life, ramp=self.ema_ramp
        )
        state = state.replace(
            ema=moved_average(state.ema, state.generator.params, decay), step=state.step + 1
        )
        if not self.adaptive:
            return state
        signs, due = state.augment_signs, state.step % self.augmentation.every == 0
        p = schedules.augment_probability(
            state.augment_p,
            signs.total / jnp.maximum(signs.count, 1),
            self.augmentation.every * self.batch_size,
            target=self.augmentation.target,
            images_to_one=self.augmentation.images_to_one,
        )
        return state.replace(
            augment_p=jnp.where(due, p, state.augment_p),
            augment_signs=jax.tree.map(lambda x: jnp.where(due, 0, x), signs),
        )

    def _count_signs(self, state: StyleGANState, score: jax.Array, mean: Average) -> Mean:
        signs = state.augment_signs
        if not self.adaptive:
            return signs
        return Mean(signs.total + mean(jnp.mean(jnp.sign(score))), signs.count + 1)

    def styles(
        self,
        params: PyTree,
        stats: PyTree,
        batch: Batch,
        draws: Draws,
        *,
        update_average: bool | Average = False,
    ) -> tuple[jax.Array, PyTree]:
        """w `[B, num_ws, style]`, mixed, and the generator's other collections after it."""
        label = batch['label'] if self.generator.num_classes else None

        def mapping(z: jax.Array, update_average: bool | Average) -> tuple[jax.Array, PyTree]:
            return self.generator.apply(
                {'params': params, 'stats': stats},
                z,
                label,
                update_average=update_average,
                method='mapping',
                mutable=['stats'],
            )

        w, updated = mapping(draws.z, update_average)
        if self.style_mixing:
            other, _ = mapping(draws.other_z, False)
            layer = np.arange(self.generator.num_ws)[None, :, None]
            w = jnp.where(layer < draws.crossover[:, None, None], w, other)
        return self.layout.images(w), updated['stats']

    def synthesize(
        self,
        params: PyTree,
        stats: PyTree,
        w: jax.Array,
        draws: Draws,
        *,
        update_average: bool | Average = False,
    ) -> tuple[jax.Array, PyTree]:
        """Images of styles, and the generator's other collections after it."""
        options = {'noise': draws.noise} if hasattr(self.generator, 'noise') else {}
        image, updated = self.generator.apply(
            {'params': params, 'stats': stats},
            w,
            update_average=update_average,
            method='synthesize',
            mutable=['stats'],
            **options,
        )
        return self.layout.images(image), updated['stats']

    def generate(
        self,
        params: PyTree,
        stats: PyTree,
        batch: Batch,
        draws: Draws,
        *,
        update_average: bool | Average = False,
    ) -> tuple[jax.Array, PyTree]:
        """Fakes for a batch, and the generator's other collections after it."""
        w, stats = self.styles(params, stats, batch, draws, update_average=update_average)
        return self.synthesize(params, stats, w, draws, update_average=update_average)

    def score(
        self,
        params: PyTree,
        image: jax.Array,
        batch: Batch,
        state: StyleGANState,
        keys: jax.Array,
    ) -> jax.Array:
        """The discriminator's scores `[B]` of images that it sees blurred and augmented."""
        if self.blur_sigma:
            sigma = schedules.blur_sigma(
                state.step * self.batch_size, initial=self.blur_sigma, fade=self.blur_fade
            )
            image = blur(image, sigma, reach=int(3 * self.blur_sigma))
        if self.augmentation:
            image = ada.augment(self.augmentation.pipeline, keys, image, state.augment_p)
        label = batch['label'] if self.discriminator.num_classes else None
        return self.discriminator.apply({'params': params}, image, label)
