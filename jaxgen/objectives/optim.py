"""Optimisers of the papers, as optax transformations."""

from collections.abc import Collection
from typing import Any

import jax
import optax

# The last biases of generators and discriminators: what they add does not depend on anything.
OUTPUT_BIASES = ('to_rgb/bias', 'score/bias')


def lazy_adam(
    learning_rate: float,
    beta1: float = 0.0,
    beta2: float = 0.99,
    eps: float = 1e-8,
    *,
    interval: int = 0,
) -> optax.GradientTransformation:
    """Adam made for a step that is followed by a regularisation step every `interval` steps.

    One round of k steps makes k + 1 updates, so with c = k/(k+1): learning rate c·lr, moments
    β1^c, β2^c (StyleGAN2, appendix B). `interval=0`: plain Adam.
    """
    ratio = interval / (interval + 1) if interval else 1.0
    return optax.adam(ratio * learning_rate, beta1**ratio, beta2**ratio, eps=eps)


def per_step_decay(learning_rate: float, decay: float) -> optax.Schedule:
    """learning_rate·decay^(step + 1): the first step is decayed already, as PixelCNN++'s code."""
    return lambda step: learning_rate * decay ** (step + 1)


def decayed_adam(
    learning_rate: float = 1e-3,
    beta1: float = 0.95,
    beta2: float = 0.9995,
    *,
    decay: float = 0.999995,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam of the published PixelCNN++ code: ε stands inside the root, the rate falls each step."""
    schedule = per_step_decay(learning_rate, decay)
    return optax.adam(schedule, beta1, beta2, eps=0.0, eps_root=eps)


def outputs_apart(
    optimizer: optax.GradientTransformation, frozen: Collection[str] = ()
) -> optax.GradientTransformationExtraArgs:
    """`optimizer`, once for the biases of a network's output and once for all the rest.

    No regulariser of StyleGAN depends on those biases, so its updates, `update(…,
    regularizing=True)`, leave them alone: their moments do not decay and their count does not
    move, as with the published optimiser, which passes over a parameter without gradient.

    `frozen`: modules, by the beginning of their path as in 'block_32/conv0', that stay as they are.
    """

    def label(path: tuple[Any, ...], leaf: jax.Array) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        if any(f'{name}/'.startswith(f'{module}/') for module in frozen):
            return 'frozen'
        return 'outputs' if f'/{name}'.endswith(tuple(f'/{b}' for b in OUTPUT_BIASES)) else 'rest'

    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(label, params)

    both = optax.partition(
        {'outputs': optimizer, 'rest': optimizer, 'frozen': optax.set_to_zero()}, labels
    )

    def update(
        gradients: Any, state: Any, params: Any = None, *, regularizing: bool = False
    ) -> tuple[Any, Any]:
        updates, after = both.update(gradients, state, params)
        if not regularizing:
            return updates, after
        updates = jax.tree.map(
            lambda update, kind: 0 * update if kind == 'outputs' else update,
            updates,
            labels(updates),
        )
        kept = {'outputs': state.inner_states['outputs']}
        return updates, after._replace(inner_states=dict(after.inner_states) | kept)

    return optax.GradientTransformationExtraArgs(both.init, update)
