"""Discretised logistics and their mixture over RGB pixels (PixelCNN++, arXiv 1701.05517, 2).

Level k of L lies at x = 2k/(L - 1) - 1 and takes the mass of a logistic distribution between
x ± 1/(L - 1); level 0 also takes the whole left tail and level L - 1 the whole right one, so that
the levels add up to one. Everything is evaluated in a form that is exact in float32, far tails and
narrow scales included: no density stands in for a difference of distribution functions.

A pixel has ONE mixture index for its three colours. The last axis of the parameters holds
`[logits K | for each colour: means K, log scales K, raw coefficients K]`. With c = tanh(raw):

    mean of red     μ_r
    mean of green   μ_g + c_r·red
    mean of blue    μ_b + c_g·red + c_b·green

red and green being the pixel's own values. (The paper's equation 3 has a misprint: the last term
is γ times green.) With one colour the layout is `[logits K | means K, log scales K]`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.causal_conv import centred, nearest_level


class Mixture(NamedTuple):
    """Parameters of a pixel's mixture: `logits [..., K]`, the others `[..., C, K]`.

    `coefficients` are None for one colour; their rows are c_r, c_g, c_b.
    """

    logits: jax.Array
    means: jax.Array
    log_scales: jax.Array
    coefficients: jax.Array | None


@jax.custom_jvp
def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x > 0, without cancellation at either end."""
    small = x < math.log(2)
    # Each branch sees a harmless argument where the other one is taken.
    near = jnp.log(-jnp.expm1(-jnp.where(small, x, 1)))
    far = jnp.log1p(-jnp.exp(-jnp.where(small, 1, x)))
    return jnp.where(small, near, far)


@log1mexp.defjvp
def _log1mexp_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return log1mexp(x), tangent / jnp.expm1(x)


def discretized_logistic_log_prob(
    level: jax.Array, mean: jax.Array, log_scale: jax.Array, levels: int
) -> jax.Array:
    """log of the mass of integer `level` in nats; arguments of one shape.

    With a, b = (x ± half a bin - mean)/s the mass is σ(a) - σ(b) = σ(a)·σ(-b)·(1 - exp(b - a)):
    a product, where the difference would be lost to rounding.
    """
    inverse_scale = jnp.exp(-log_scale)
    distance = centred(level, levels) - mean
    half = 1 / (levels - 1)
    upper = (distance + half) * inverse_scale
    lower = (distance - half) * inverse_scale
    log_upper, log_above = jax.nn.log_sigmoid(upper), jax.nn.log_sigmoid(-lower)
    inside = log_upper + log_above + log1mexp(2 * half * inverse_scale)
    # Edges are told by the integer, not by a threshold on x, which would depend on `levels`.
    return jnp.where(level == 0, log_upper, jnp.where(level == levels - 1, log_above, inside))


def split_parameters(params: jax.Array, colours: int, *, log_scale_floor: float = -7.0) -> Mixture:
    """The parts of `params [..., 10K]` (three colours) or `[..., 3K]` (one).

    Raises:
      ValueError: another number of colours, or of parameters.
    """
    per_colour = {1: 2, 3: 3}.get(colours)
    if per_colour is None:
        raise ValueError(f'colours must be 1 or 3, got {colours}')
    components, rest = divmod(params.shape[-1], 1 + colours * per_colour)
    if rest or not components:
        raise ValueError(f'{params.shape[-1]} is no multiple of {1 + colours * per_colour}')
    logits = params[..., :components]
    others = params[..., components:].reshape(*params.shape[:-1], colours, per_colour, components)
    return Mixture(
        logits,
        others[..., 0, :],
        jnp.maximum(others[..., 1, :], log_scale_floor),
        jnp.tanh(others[..., 2, :]) if colours == 3 else None,
    )


def conditional_means(mixture: Mixture, x: jax.Array) -> jax.Array:
    """Means `[..., C, K]` given the pixel's values `x [..., C]` in [-1, 1]."""
    means = mixture.means
    if mixture.coefficients is None:
        return means
    red, green = x[..., 0, None], x[..., 1, None]
    c = mixture.coefficients
    return jnp.stack(
        [
            means[..., 0, :],
            means[..., 1, :] + c[..., 0, :] * red,
            means[..., 2, :] + c[..., 1, :] * red + c[..., 2, :] * green,
        ],
        axis=-2,
    )


def component_log_probs(mixture: Mixture, pixel: jax.Array, levels: int) -> jax.Array:
    """log p of each colour under each component, `[..., C, K]`; `pixel [..., C]` integers."""
    means = conditional_means(mixture, centred(pixel, levels))
    pixel = jnp.broadcast_to(pixel[..., None], means.shape)
    return discretized_logistic_log_prob(pixel, means, mixture.log_scales, levels)


def mixture_log_prob(mixture: Mixture, pixel: jax.Array, levels: int) -> jax.Array:
    """log p `[...]` in nats of whole pixels `[..., C]`, integers below `levels`."""
    by_component = component_log_probs(mixture, pixel, levels).sum(axis=-2)
    weights = jax.nn.log_softmax(mixture.logits, axis=-1)
    return jax.nn.logsumexp(weights + by_component, axis=-1)


def choose_component(mixture: Mixture, gumbel: jax.Array) -> tuple[jax.Array, Mixture]:
    """The component `[...]` with the largest logit + `gumbel [..., K]`, and its parameters.

    The parameters come as a mixture of that component alone.
    """
    index = jnp.argmax(mixture.logits + gumbel, axis=-1)

    def take(x: jax.Array) -> jax.Array:
        at = index.reshape(index.shape + (1,) * (x.ndim - index.ndim))
        return jnp.take_along_axis(x, at, axis=-1)

    return index, Mixture(*(None if x is None else take(x) for x in mixture))


def sample_component(
    component: Mixture,
    logistic: jax.Array,
    *,
    levels: int,
    snap: bool = True,
    given: jax.Array | None = None,
    observed: jax.Array | None = None,
) -> jax.Array:
    """A pixel `[..., C]` in [-1, 1] from one component, colour by colour.

    Args:
      component: of `choose_component`.
      logistic: `[..., C]` noise of the standard logistic distribution.
      snap: round each colour to its level before the next one sees it, which is what the
        likelihood describes; False: the published sampler, which feeds unrounded values on.
      given, observed: values in [-1, 1] and where they stand in for the drawn ones.
    """
    colours = component.means.shape[-2]
    x = jnp.zeros_like(component.means[..., 0])
    for c in range(colours):
        mean = conditional_means(component, x)[..., c, 0]
        drawn = mean + jnp.exp(component.log_scales[..., c, 0]) * logistic[..., c]
        drawn = jnp.clip(drawn, -1, 1)
        if snap:
            drawn = centred(nearest_level(drawn, levels), levels)
        if given is not None:
            drawn = jnp.where(observed[..., c], given[..., c], drawn)
        x = x.at[..., c].set(drawn)
    return x
