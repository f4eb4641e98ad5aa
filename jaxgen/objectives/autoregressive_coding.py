"""The distribution of one sub-pixel after the other, handed to the host: for entropy coding.

A coder and a decoder must see bit for bit the same numbers. So both take this same walk, whose
compiled functions compute one row, one pixel, one colour; a pass over the whole image sums in
another order and its numbers differ in the last bits.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.ops.causal_conv import centred

PyTree = Any
# From (row, column, colour) and log p `[L]` of the levels to the level that stands there.
Choose = Callable[[tuple[int, int, int], np.ndarray], int]


class Walk:
    """Visits the sub-pixels of an image in their order; compiled once for a model and a size.

    A model without `steps` evaluates the whole image for each sub-pixel.
    """

    def __init__(
        self, model: nn.Module, variables: PyTree, size: tuple[int, int], **condition: Any
    ) -> None:
        """`condition`: arguments of the model's call for one image: `label [1]`, `embedding`."""
        self._model, self._variables = model, variables
        self._size, self._condition = size, condition
        self._groups = model.likelihood.steps(model.colours)
        self._log_probs = jax.jit(model.likelihood.level_log_probs, static_argnums=2)
        self._row = jax.jit(lambda v, *rest: self._of(v).begin_row(*rest))
        self._step = jax.jit(self._one_step, static_argnums=0)
        self._end = jax.jit(self._end_pixel)
        self._start = jax.jit(lambda v: self._of(v).start())
        self._stack = jax.jit(lambda parts: jax.tree.map(lambda *x: jnp.stack(x), *parts))
        self._whole = jax.jit(self._whole_image, static_argnums=0)

    def __call__(self, choose: Choose) -> np.ndarray:
        """Integers `[H, W, C]` as `choose` gave them, sub-pixel by sub-pixel."""
        by_steps = hasattr(self._model, 'steps')
        return self._cached(choose) if by_steps else self._plain(choose)

    def _of(self, variables: PyTree) -> Any:
        return self._model.apply(variables, 1, self._size, method='steps', **self._condition)

    def _one_step(
        self, group: int, variables: PyTree, left: PyTree, row: PyTree, j: int, *rest: PyTree
    ) -> tuple[PyTree, jax.Array]:
        (partial, pixel), colours = rest, self._groups[group]
        need = jax.tree.map(lambda x: x[j], row)
        x = centred(pixel, self._model.levels)
        return self._of(variables).step(left, need, partial, x, colours)

    def _end_pixel(
        self, variables: PyTree, left: PyTree, partial: PyTree, pixel: jax.Array
    ) -> tuple[PyTree, PyTree]:
        x = centred(pixel, self._model.levels)
        return self._of(variables).end_pixel(left, partial, x)

    def _whole_image(
        self, group: int, variables: PyTree, image: jax.Array, i: int, j: int
    ) -> jax.Array:
        params = self._model.apply(variables, image, **self._condition)[:, i, j]
        return self._model.likelihood.of_colours(params, self._groups[group])

    def _choose(
        self, choose: Choose, i: int, j: int, pixel: np.ndarray, params: jax.Array, colours: slice
    ) -> None:
        for c in range(colours.start, colours.stop):
            log_probs = np.asarray(self._log_probs(params, pixel, c))[0]
            pixel[0, c] = choose((i, j, c), log_probs)

    def _cached(self, choose: Choose) -> np.ndarray:
        (height, width), colours = self._size, self._model.colours
        levels, variables = self._model.levels, self._variables
        image = np.zeros((height, width, colours), np.int32)
        kept, ended = self._start(variables)
        above = jnp.zeros((1, width, colours), jnp.result_type(float))
        first = jax.eval_shape(lambda v: self._of(v).begin_pixel(), variables)
        for i in range(height):
            kept, row, left = self._row(variables, kept, ended, above, np.int32(i))
            ends = []
            for j in range(width):
                partial = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
                pixel = np.zeros((1, colours), np.int32)
                for n, colours_here in enumerate(self._groups):
                    partial, params = self._step(
                        n, variables, left, row, np.int32(j), partial, pixel
                    )
                    self._choose(choose, i, j, pixel, params, colours_here)
                left, end = self._end(variables, left, partial, pixel)
                image[i, j] = pixel[0]
                ends.append(end)
            ended = self._stack(ends)
            above = centred(jnp.asarray(image[i][None]), levels)
        return image

    def _plain(self, choose: Choose) -> np.ndarray:
        height, width = self._size
        image = np.zeros((1, height, width, self._model.colours), np.int32)
        for i, j in np.ndindex(height, width):
            for n, colours_here in enumerate(self._groups):
                params = self._whole(n, self._variables, image, np.int32(i), np.int32(j))
                self._choose(choose, i, j, image[:, i, j], params, colours_here)
        return image[0]


def log_probs_of(walk: Walk, image: np.ndarray) -> np.ndarray:
    """log p `[H, W, C]` in nats of the sub-pixels of an integer image, as a coder sees them."""
    found = np.zeros(image.shape)

    def choose(at: tuple[int, int, int], log_probs: np.ndarray) -> int:
        found[at] = log_probs[image[at]]
        return int(image[at])

    walk(choose)
    return found
