"""Optimisers of the papers, as optax transformations."""

import optax


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
