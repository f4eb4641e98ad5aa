"""Likelihoods of integer images, and bits per dimension as a sum and a count.

A likelihood turns a network's output at a pixel into log probabilities and into draws:

    Softmax            `[B, H, W, C, L]` logits, one colour after the other (1601.06759)
    LogisticMixture    `[B, H, W, 10K]` parameters, all colours of a pixel at once (1701.05517)

A draw is a function of the network's output and of noise, nothing else. So samplers that evaluate
the network in different orders draw the same integers from the same noise. All in float32 at least.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.ops import logistic_mixture as mixtures
from jaxgen.ops.causal_conv import centred, nearest_level

LOG_2 = math.log(2)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@dataclasses.dataclass(frozen=True)
class Softmax:
    """One categorical distribution over `levels` for each sub-pixel; any number of colours."""

    levels: int = 256

    def outputs(self, colours: int) -> int:
        """Numbers that the network gives for a pixel."""
        return colours * self.levels

    def shaped(self, x: jax.Array, colours: int) -> jax.Array:
        """The network's `[..., C·L]` as `[..., C, L]`: channel c·L + k is level k of colour c."""
        return _wide(x).reshape(*x.shape[:-1], colours, self.levels)

    def log_prob(self, params: jax.Array, pixels: jax.Array) -> jax.Array:
        """log p in nats of every sub-pixel, `[..., C]`, from logits `[..., C, L]`."""
        table = jax.nn.log_softmax(_wide(params), axis=-1)
        return jnp.take_along_axis(table, pixels[..., None], axis=-1)[..., 0]

    def of_colours(self, params: jax.Array, colours: slice) -> jax.Array:
        """The part of a pixel's logits `[..., C, L]` that is about these colours."""
        return params[..., colours, :]

    def level_log_probs(self, params: jax.Array, pixel: jax.Array, colour: int) -> jax.Array:
        """log p `[..., L]` of every level of `colour`.

        Args:
          params: `of_colours` of the step that draws `colour`.
          pixel: integers `[..., C]`; the colours before `colour` are right.
        """
        del pixel, colour  # the network has seen the one, and gave logits of the other alone
        return jax.nn.log_softmax(_wide(params)[..., 0, :], axis=-1)

    def steps(self, colours: int) -> tuple[slice, ...]:
        """The colours that are drawn together: each on its own."""
        return tuple(slice(c, c + 1) for c in range(colours))

    def noise(self, key: jax.Array, colours: int) -> jax.Array:
        """Gumbel noise `[C, L]` of a pixel."""
        return jax.random.gumbel(key, (colours, self.levels))

    def draw(
        self,
        params: jax.Array,
        noise: jax.Array,
        temperature: jax.Array | float,
        given: jax.Array,
        observed: jax.Array,
        colours: slice = slice(None),
    ) -> jax.Array:
        """Levels `[..., C]`: argmax(logits + T·gumbel), which at T = 1 is an exact draw.

        T = 0 gives the most probable level. Where `observed`, `given` stands instead. `colours`
        tells which of the pixel's colours all but the noise are about.
        """
        noise = noise[..., colours, :].astype(params.dtype)
        drawn = jnp.argmax(params + temperature * noise, axis=-1).astype(jnp.int32)
        return jnp.where(observed, given, drawn)


@dataclasses.dataclass(frozen=True)
class LogisticMixture:
    """PixelCNN++'s mixture of `components` discretised logistics, one index per pixel.

    1 or 3 colours. See `ops.logistic_mixture` for the layout of the parameters.
    """

    levels: int = 256
    components: int = 10
    log_scale_floor: float = -7.0

    def outputs(self, colours: int) -> int:
        """Numbers that the network gives for a pixel: 10 for each component, 3 with one colour."""
        return self.components * {1: 3, 3: 10}[colours]

    def shaped(self, x: jax.Array, colours: int) -> jax.Array:
        """The network's output as it is, in float32 at least."""
        return _wide(x)

    def _split(self, params: jax.Array, colours: int) -> mixtures.Mixture:
        return mixtures.split_parameters(
            _wide(params), colours, log_scale_floor=self.log_scale_floor
        )

    def log_prob(self, params: jax.Array, pixels: jax.Array) -> jax.Array:
        """log p in nats of every pixel, `[...]`, from parameters `[..., 10K]`."""
        return mixtures.mixture_log_prob(self._split(params, pixels.shape[-1]), pixels, self.levels)

    def of_colours(self, params: jax.Array, colours: slice) -> jax.Array:
        """All parameters: they are about all colours together."""
        return params

    def level_log_probs(self, params: jax.Array, pixel: jax.Array, colour: int) -> jax.Array:
        """log p `[..., L]` of every level of `colour` given the colours before it.

        What these tell of the mixture's index counts: the index is summed out.

        Args:
          params: `[..., 10K]`.
          pixel: integers `[..., C]`; the colours before `colour` are right.
        """
        mixture = self._split(params, pixel.shape[-1])
        seen = mixtures.component_log_probs(mixture, pixel, self.levels)[..., :colour, :]
        weights = jax.nn.log_softmax(mixture.logits + seen.sum(axis=-2), axis=-1)
        means = mixtures.conditional_means(mixture, centred(pixel, self.levels))
        shape = (*pixel.shape[:-1], self.levels, self.components)
        level = jnp.broadcast_to(jnp.arange(self.levels)[:, None], shape)
        mean, log_scale = (
            jnp.broadcast_to(x[..., colour, None, :], shape) for x in (means, mixture.log_scales)
        )
        by_component = mixtures.discretized_logistic_log_prob(level, mean, log_scale, self.levels)
        return jax.nn.logsumexp(weights[..., None, :] + by_component, axis=-1)

    def steps(self, colours: int) -> tuple[slice, ...]:
        """The colours that are drawn together: all of them."""
        return (slice(0, colours),)

    def noise(self, key: jax.Array, colours: int) -> tuple[jax.Array, jax.Array]:
        """Gumbel noise `[K]` for the index and logistic noise `[C]` for the colours of a pixel."""
        first, second = jax.random.split(key)
        return (
            jax.random.gumbel(first, (self.components,)),
            jax.random.logistic(second, (colours,)),
        )

    def draw(
        self,
        params: jax.Array,
        noise: tuple[jax.Array, jax.Array],
        temperature: jax.Array | float,
        given: jax.Array,
        observed: jax.Array,
        colours: slice = slice(None),
    ) -> jax.Array:
        """Levels `[..., C]` of whole pixels; T scales both kinds of noise.

        T = 0 gives the mean of the component with the largest weight. Where `observed`, `given`
        stands instead; the index is drawn given the observed colours, which must therefore come
        before the others of their pixel (`autoregressive_sampling.check_observed`).
        """
        gumbel, logistic = (temperature * x.astype(params.dtype) for x in noise)
        mixture = self._split(params, given.shape[-1])
        evidence = mixtures.component_log_probs(mixture, given, self.levels)
        evidence = jnp.where(observed[..., None], evidence, 0).sum(axis=-2)
        mixture = mixture._replace(logits=mixture.logits + evidence)
        _, component = mixtures.choose_component(mixture, gumbel)
        drawn = mixtures.sample_component(
            component,
            logistic,
            levels=self.levels,
            given=centred(given, self.levels),
            observed=observed,
        )
        return jnp.where(observed, given, nearest_level(drawn, self.levels))


Likelihood = Softmax | LogisticMixture


def image_log_prob(likelihood: Likelihood, params: Any, pixels: jax.Array) -> jax.Array:
    """log p `[B]` in nats of whole images `[B, H, W, C]`."""
    return likelihood.log_prob(params, pixels).reshape(pixels.shape[0], -1).sum(axis=1)


def bits_per_dim(
    log_prob: jax.Array, dimensions: int, weight: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(bits, dimensions): their quotient, after summing each over all batches, is bits/dim.

    Averaging the quotients of unequal batches instead changes the second decimal.

    Args:
      log_prob: `[B]` in nats, of `image_log_prob`.
      dimensions: sub-pixels of one image.
      weight: `[B]`, 0 for rows that only fill up a ragged last batch; None: all count.
    """
    weight = jnp.ones_like(log_prob) if weight is None else weight.astype(log_prob.dtype)
    return -jnp.sum(log_prob * weight) / LOG_2, dimensions * jnp.sum(weight)
