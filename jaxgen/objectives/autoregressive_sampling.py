"""Three samplers of autoregressive models that draw the same integers from the same noise.

    sample_naive        one pass over the whole image for each sub-pixel: the definition
    sample_cached       one row, one pixel, one colour at a time, keeping what later ones read
    sample_fixed_point  passes over the whole image until nothing changes any more

A sub-pixel is a function of the sub-pixels before it and of its own noise, which is a function of
the image's key, the row and the column alone. That fixes the image, however it is computed, up to
float rounding: near a tie of two levels a differently ordered sum may choose the other one.

All take a model with `levels`, `colours`, `likelihood` and, for `sample_cached`, `steps`. Pixels
are integers `[B, H, W, C]`. They are pure functions, to be compiled by the caller.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.errors import UserError
from jaxgen.losses.likelihood import Likelihood, LogisticMixture, image_log_prob
from jaxgen.ops.causal_conv import centred

PyTree = Any
# From a row's number to the noise of its pixels, leaves `[W, B, ...]`.
Noise = Callable[[jax.Array], PyTree]
# Called with (rows that are done, rows of the image) while a sampler runs.
Progress = Callable[[Any, Any], None]


class Sample(NamedTuple):
    """Images and how likely the model finds them.

    `pixels [B, H, W, C]` int32; `log_prob [B]` in nats at temperature 1, observed sub-pixels
    included: the sum of the conditionals that the sampler itself computed.
    """

    pixels: jax.Array
    log_prob: jax.Array


class Steps(Protocol):
    """A network that can be run one row, one pixel, one step of `likelihood.steps` at a time.

    `kept` goes from row to row, `left` from pixel to pixel, `need [W, ...]` from a row to each of
    its pixels, `ended [W, ...]` from the pixels of a row to the next row.
    """

    def start(self) -> tuple[PyTree, PyTree]:
        """(kept, ended) before the first row."""

    def begin_row(
        self, kept: PyTree, ended: PyTree, above: jax.Array, i: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        """(kept, need, left) of row i; `above [B, W, C]` is the row before it, in [-1, 1]."""

    def begin_pixel(self) -> PyTree:
        """The partial result before the pixel's first step."""

    def step(
        self, left: PyTree, need: PyTree, partial: PyTree, pixel: jax.Array, colours: slice
    ) -> tuple[PyTree, jax.Array]:
        """(partial, the likelihood's parameters); `pixel [B, C]` is right before `colours`."""

    def end_pixel(self, left: PyTree, partial: PyTree, pixel: jax.Array) -> tuple[PyTree, PyTree]:
        """(left, ended) when `pixel [B, C]` is complete."""


def noise_of_keys(likelihood: Likelihood, keys: jax.Array, width: int, colours: int) -> Noise:
    """The noise of images with these keys `[B]`: a function of key, row and column alone."""

    def pixel(i: jax.Array, j: jax.Array, key: jax.Array) -> PyTree:
        return likelihood.noise(jax.random.fold_in(jax.random.fold_in(key, i), j), colours)

    def row(i: jax.Array) -> PyTree:
        over_images = jax.vmap(pixel, (None, None, 0))
        return jax.vmap(over_images, (None, 0, None))(i, jnp.arange(width), keys)

    return row


def noise_of_arrays(stored: PyTree) -> Noise:
    """Noise that was drawn elsewhere: leaves `[B, H, W, ...]`."""
    return lambda i: jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x)[:, i], 1, 0), stored)


def check_completion(
    likelihood: Likelihood, given: np.ndarray, observed: np.ndarray, colours: int
) -> None:
    """Before a completion, on the host: whether `given` and `observed` can be asked for.

    Args:
      given: integers `[B, H, W, C]`.
      observed: booleans that broadcast to them.

    Raises:
      UserError: pixels that are no levels, another number of colours, or with one mixture index
        a pixel, a pixel in which an observed colour comes after one that is not.
    """
    given, observed = np.asarray(given), np.asarray(observed)
    if given.dtype.kind not in 'iu':
        raise UserError(f'given pixels must be integers, got {given.dtype}')
    if given.ndim != 4 or given.shape[-1] != colours:
        raise UserError(f'given pixels must be [B, H, W, {colours}], got {given.shape}')
    if given.size and not 0 <= given.min() <= given.max() < likelihood.levels:
        raise UserError(
            f'given pixels must be 0 to {likelihood.levels - 1}, got {given.min()} to {given.max()}'
        )
    if observed.dtype != np.bool_:
        raise UserError(f'observed must be booleans, got {observed.dtype}')
    try:
        observed = np.broadcast_to(observed, given.shape)
    except ValueError:
        raise UserError(f'observed must fit {given.shape}, got {observed.shape}') from None
    late = observed[..., 1:] & ~observed[..., :-1]
    if isinstance(likelihood, LogisticMixture) and late.any():
        raise UserError('observed colours of a pixel must come before the others: red, green, blue')


class _Task(NamedTuple):
    """Arguments of a sampler, completed."""

    noise: Noise
    given: jax.Array
    observed: jax.Array


def _task(
    model: nn.Module,
    keys: jax.Array | Noise,
    size: tuple[int, int],
    given: jax.Array | None,
    observed: jax.Array | None,
) -> _Task:
    if callable(keys):
        noise = keys
        batch = jax.tree.leaves(jax.eval_shape(noise, 0))[0].shape[1]
    else:
        noise = noise_of_keys(model.likelihood, keys, size[1], model.colours)
        batch = keys.shape[0]
    shape = (batch, *size, model.colours)
    if (given is None) != (observed is None):
        raise ValueError('given and observed come together: what is known, and where')
    if given is None:
        return _Task(noise, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))
    observed = observed.reshape((1,) * (4 - observed.ndim) + observed.shape)
    given = jnp.broadcast_to(given, shape).astype(jnp.int32)
    return _Task(noise, given, jnp.broadcast_to(observed, shape))


def _report(progress: Progress | None, done: jax.Array, rows: int) -> None:
    if progress is not None:
        jax.debug.callback(progress, done, rows)


def sample_naive(
    model: nn.Module,
    variables: PyTree,
    keys: jax.Array | Noise,
    size: tuple[int, int],
    *,
    temperature: jax.Array | float = 1.0,
    given: jax.Array | None = None,
    observed: jax.Array | None = None,
    progress: Progress | None = None,
    **condition: Any,
) -> Sample:
    """The oracle: H·W·C passes over the image (H·W for a mixture).

    Args:
      model, variables: see the module.
      keys: `[B]`; or the noise itself.
      size: (height, width), any that the model takes.
      temperature: scales the noise; 1 draws from the model, 0 takes the most probable level.
      given, observed: for completion and inpainting: integers `[B, H, W, C]` that stand wherever
        `observed` (booleans that broadcast to them) is true. Every other sub-pixel is drawn given
        all before it, drawn or observed; what is observed later cannot influence it.
      progress: called with (rows done, rows) from the running program, now and then out of order.
      **condition: keyword arguments of the model's call: `label`, `embedding`, `spatial`.
    """
    noise, given, observed = _task(model, keys, size, given, observed)
    likelihood, (height, width) = model.likelihood, size

    def pixel(carry: PyTree, n: jax.Array) -> tuple[PyTree, None]:
        image, log_prob = carry
        i, j = n // width, n % width
        noise_here = jax.tree.map(lambda x: x[j], noise(i))
        for colours in likelihood.steps(model.colours):
            params = model.apply(variables, image, **condition)[:, i, j]
            params = likelihood.of_colours(params, colours)
            drawn = likelihood.draw(
                params,
                noise_here,
                temperature,
                given[:, i, j, colours],
                observed[:, i, j, colours],
                colours,
            )
            image = image.at[:, i, j, colours].set(drawn)
            log_prob = log_prob + image_log_prob(likelihood, params, drawn)
        jax.lax.cond(j == width - 1, lambda: _report(progress, i + 1, height), lambda: None)
        return (image, log_prob), None

    start = jnp.zeros_like(given), jnp.zeros(given.shape[0], jnp.result_type(float))
    (image, log_prob), _ = jax.lax.scan(pixel, start, jnp.arange(height * width))
    return Sample(image, log_prob)


def sample_cached(
    model: nn.Module,
    variables: PyTree,
    keys: jax.Array | Noise,
    size: tuple[int, int],
    *,
    temperature: jax.Array | float = 1.0,
    given: jax.Array | None = None,
    observed: jax.Array | None = None,
    progress: Progress | None = None,
    **condition: Any,
) -> Sample:
    """The fast one, for models with `steps`; see `sample_naive` for the arguments."""
    noise, given, observed = _task(model, keys, size, given, observed)
    likelihood, (height, width), batch = model.likelihood, size, given.shape[0]
    if not hasattr(model, 'steps'):
        raise ValueError(f'{type(model).__name__} cannot run in steps: use sample_fixed_point')
    steps: Steps = model.apply(variables, batch, size, method='steps', **condition)

    def pixel(left: PyTree, row: PyTree) -> tuple[PyTree, PyTree]:
        need, noise_here, known, is_known = row
        partial, drawn, log_prob = steps.begin_pixel(), jnp.zeros_like(known), 0.0
        for colours in likelihood.steps(model.colours):
            x = centred(drawn, model.levels)
            partial, params = steps.step(left, need, partial, x, colours)
            level = likelihood.draw(
                params, noise_here, temperature, known[:, colours], is_known[:, colours], colours
            )
            drawn = drawn.at[:, colours].set(level)
            log_prob = log_prob + image_log_prob(likelihood, params, level)
        left, ended = steps.end_pixel(left, partial, centred(drawn, model.levels))
        return left, (drawn, log_prob, ended)

    def row(carry: PyTree, line: PyTree) -> tuple[PyTree, PyTree]:
        (kept, ended, above), (i, known, is_known) = carry, line
        kept, needs, left = steps.begin_row(kept, ended, above, i)
        _, (drawn, log_prob, ended) = jax.lax.scan(pixel, left, (needs, noise(i), known, is_known))
        _report(progress, i + 1, height)
        above = jnp.moveaxis(centred(drawn, model.levels), 0, 1)
        return (kept, ended, above), (drawn, log_prob.sum(axis=0))

    above = jnp.zeros((batch, width, model.colours), jnp.result_type(float))
    rows = (jnp.arange(height), *(x.transpose(1, 2, 0, 3) for x in (given, observed)))
    _, (drawn, log_prob) = jax.lax.scan(row, (*steps.start(), above), rows)
    return Sample(drawn.transpose(2, 0, 1, 3), log_prob.sum(axis=0))


def sample_fixed_point(
    model: nn.Module,
    variables: PyTree,
    keys: jax.Array | Noise,
    size: tuple[int, int],
    *,
    temperature: jax.Array | float = 1.0,
    given: jax.Array | None = None,
    observed: jax.Array | None = None,
    progress: Progress | None = None,
    **condition: Any,
) -> Sample:
    """Draws all sub-pixels at once from the image of the pass before, until it stays the same.

    A pass makes at least one more sub-pixel right, in practice many, so it ends, and there is one
    image that stays the same: that of `sample_naive`, whose arguments these are. For any model;
    it is the one that pays with large batches. It holds the noise of the whole image, for a softmax
    B·H·W·C·levels numbers. The progress is the number of rows that stand.
    """
    noise, given, observed = _task(model, keys, size, given, observed)
    likelihood, (height, _) = model.likelihood, size
    everywhere = jax.vmap(noise)(jnp.arange(height))
    everywhere = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), everywhere)

    def again(carry: PyTree) -> PyTree:
        image, _, _ = carry
        params = model.apply(variables, image, **condition)
        drawn = likelihood.draw(params, everywhere, temperature, given, observed)
        changed = jnp.any(drawn != image, axis=(0, 2, 3))
        _report(progress, jnp.where(changed.any(), jnp.argmax(changed), height), height)
        return drawn, changed.any(), image_log_prob(likelihood, params, drawn)

    start = given, jnp.array(True), jnp.zeros(given.shape[0], jnp.result_type(float))
    image, _, log_prob = jax.lax.while_loop(lambda carry: carry[1], again, start)
    return Sample(image, log_prob)
