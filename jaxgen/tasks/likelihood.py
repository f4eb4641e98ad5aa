"""Configs of the PixelCNN family: what the images are, what fits together, the objective.

`model.network` is one of NETWORKS; the other fields of `model` are those of its constructor, and
for the auto-encoder with a PixelCNN those of the encoder (`code`, `widths`) and of its decoder.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import optax
from flax import linen as nn
from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.models.pixelcnn import GatedPixelCNN, PixelCNN
from jaxgen.models.pixelcnn_autoencoder import MSEAutoencoder, PixelCNNAutoencoder
from jaxgen.models.pixelcnn_pp import PixelCNNpp
from jaxgen.models.pixelrnn import PixelRNN
from jaxgen.objectives.likelihood import Fit, Likelihood
from jaxgen.objectives.optim import decayed_adam, per_step_decay
from jaxgen.objectives.reconstruction import PixelCNNReconstruction, SquaredError
from jaxgen.parallel.mesh import Layout
from jaxgen.tasks.fields import build, pair


def _autoencoder(*, code: int, widths: Sequence[int], **decoder: Any) -> PixelCNNAutoencoder:
    _check_encoder(code, widths)
    return PixelCNNAutoencoder(GatedPixelCNN(embedding=code, **decoder), tuple(widths))


def _mse_autoencoder(*, code: int, widths: Sequence[int], dtype: None, **fields: Any) -> nn.Module:
    _check_encoder(code, widths)
    return MSEAutoencoder(code=code, widths=tuple(widths), **fields)


def _check_encoder(code: int, widths: Sequence[int]) -> None:
    if code < 1:
        raise ValueError(f'code must be 1 or more, got {code}')
    if not widths or min(widths) < 1:
        raise ValueError(f'widths must be one or more positive numbers, got {tuple(widths)}')


NETWORKS = {
    'pixelcnn': PixelCNN,
    'gated_pixelcnn': GatedPixelCNN,
    'pixelrnn': PixelRNN,
    'pixelcnn_pp': PixelCNNpp,
    'pixelcnn_autoencoder': _autoencoder,
    'mse_autoencoder': _mse_autoencoder,
}
# What is trained on something else than the likelihood of whole images.
OBJECTIVES = {'pixelcnn_autoencoder': PixelCNNReconstruction, 'mse_autoencoder': SquaredError}


def frame(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of the images, and of a sample unless asked otherwise."""
    return pair(config.data.size)


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """(height, width, channels) of the images of the data set."""
    return (*frame(config), config.model.colours)


def training_size(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of what is trained on: whole images."""
    return frame(config)


def check(config: ConfigDict) -> None:
    """What can be wrong with the numbers alone, beside what `setup.check` finds."""
    if min(frame(config)) < 1:
        raise UserError(f'data.size must be 1 or more, got {config.data.size}')
    if not 2 <= config.model.levels <= 256:
        raise UserError(f'model.levels must be from 2 to 256, got {config.model.levels}')
    if config.model.network in OBJECTIVES and config.evaluate.images:
        raise UserError(
            f'evaluate.images must be 0 for an auto-encoder: it draws from images, '
            f'got {config.evaluate.images}'
        )
    if config.evaluate.images < 0:
        raise UserError(f'evaluate.images must be 0 (no swd) or more, got {config.evaluate.images}')
    if config.init_from:
        raise UserError(f"init_from must be '' for this task, got {config.init_from!r}")
    if config.model.network == 'pixelcnn_pp' and any(side % 4 for side in frame(config)):
        raise UserError(f'data.size must be multiples of 4 for PixelCNN++, got {config.data.size}')


def check_plan(config: ConfigDict, devices: int) -> None:
    """Nothing: images know nothing of each other."""


def make_crop(config: ConfigDict) -> None:
    """Whole images."""


def make_objective(config: ConfigDict, layout: Layout | None = None) -> Fit:
    """The objective that `config` describes; UserError names the field that can't be.

    An image lies on one device whatever the `layout`.
    """
    model = make_model(config)
    return OBJECTIVES.get(config.model.network, Likelihood)(
        model=model,
        optimizer=make_optimizer(config),
        frame=frame(config),
        ema_decay=config.ema_decay,
    )


def make_model(config: ConfigDict) -> nn.Module:
    """The network of `config.model`."""
    fields = config.model.to_dict()
    network = fields.pop('network')
    if network not in NETWORKS:
        raise UserError(f'model.network must be one of {sorted(NETWORKS)}, got {network!r}')
    if network == 'mse_autoencoder':
        fields['dtype'] = 'float32'
    return build(NETWORKS[network], 'model', fields)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The optimiser of `config.optimizer`, for gradients of bits per dimension."""
    name = config.optimizer.name
    if name not in OPTIMIZERS:
        raise UserError(f'optimizer.name must be one of {sorted(OPTIMIZERS)}, got {name!r}')
    return OPTIMIZERS[name](config)


def _adam(config: ConfigDict) -> optax.GradientTransformation:
    o = config.optimizer
    return optax.adam(per_step_decay(o.learning_rate, o.decay), o.beta1, o.beta2, eps=o.eps)


def _rmsprop(config: ConfigDict) -> optax.GradientTransformation:
    o = config.optimizer
    schedule = per_step_decay(o.learning_rate, o.decay)
    return optax.rmsprop(schedule, decay=o.beta2, eps=o.eps, momentum=o.beta1 or None)


def _published_adam(config: ConfigDict) -> optax.GradientTransformation:
    o = config.optimizer
    # The published ε belongs to the gradient of the whole batch's nats, summed.
    summed = math.log(2) * config.batch_size * math.prod(image_shape(config))
    adam = decayed_adam(o.learning_rate, o.beta1, o.beta2, decay=o.decay, eps=o.eps)
    return optax.chain(optax.scale(summed), adam)


# 'pixelcnn_pp': Adam as in the published code of PixelCNN++.
OPTIMIZERS: dict[str, Callable[[ConfigDict], optax.GradientTransformation]] = {
    'adam': _adam,
    'rmsprop': _rmsprop,
    'pixelcnn_pp': _published_adam,
}
