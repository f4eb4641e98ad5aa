"""Configs of adversarial runs to their objective. Fields are those of the modules' constructors."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator
from jaxgen.objectives.adversarial import Adversarial
from jaxgen.objectives.optim import lazy_adam
from jaxgen.parallel.mesh import Layout
from jaxgen.tasks.setup import frame, training_size

DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}


def make_objective(config: ConfigDict, layout: Layout | None = None) -> Adversarial:
    """The objective that `config` describes; UserError names the field that can't be."""
    if config.task != 'adversarial':
        raise UserError(f"task must be 'adversarial', got {config.task!r}")
    loss, optimizer = config.loss, config.optimizer
    adam = dict(beta1=optimizer.beta1, beta2=optimizer.beta2, eps=optimizer.eps)
    return Adversarial(
        generator=make_generator(config),
        discriminator=make_discriminator(config),
        # The published loop counts a path-length step every 4 in G's ratio although CIPS has none.
        generator_optimizer=lazy_adam(
            optimizer.learning_rate, interval=optimizer.generator_interval, **adam
        ),
        discriminator_optimizer=lazy_adam(optimizer.learning_rate, interval=loss.r1_every, **adam),
        r1_weight=loss.r1_weight,
        r1_every=loss.r1_every,
        ema_decay=config.ema_decay,
        frame=frame(config),
        layout=layout or Layout(),
    )


def make_generator(config: ConfigDict) -> CIPSGenerator:
    """The generator of `config.model`."""
    return _build(CIPSGenerator, 'model', config.model.to_dict())


def make_discriminator(config: ConfigDict) -> Discriminator:
    """The discriminator of `config.discriminator`, for images or patches of the training's size."""
    fields = config.discriminator.to_dict()
    channels = fields.pop('channels')
    fields['channels'] = {4 * 2**i: c for i, c in enumerate(channels)}
    return _build(
        Discriminator,
        'discriminator',
        fields | dict(size=training_size(config), num_classes=config.model.num_classes),
    )


def _build(module: Callable[..., nn.Module], where: str, fields: dict[str, Any]) -> nn.Module:
    dtype = fields.pop('dtype')
    if dtype not in DTYPES:
        raise UserError(f'{where}.dtype must be one of {sorted(DTYPES)}, got {dtype!r}')
    try:
        return module(**fields, dtype=DTYPES[dtype])
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: {error}') from error
