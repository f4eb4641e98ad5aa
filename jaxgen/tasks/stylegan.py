"""Configs of StyleGAN2 and StyleGAN3: what fits together, the objective.

Fields of `model` and `discriminator` are those of the modules' constructors, but for the channels
of the discriminator, which follow from `channel_base` and `channel_max`.
"""

from flax import linen as nn
from ml_collections import ConfigDict

from jaxgen.augment import ada
from jaxgen.errors import UserError
from jaxgen.models.discriminator import Discriminator, tapered_channels
from jaxgen.models.style_generator import StyleGenerator
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator
from jaxgen.objectives import schedules
from jaxgen.objectives.optim import lazy_adam, outputs_apart
from jaxgen.objectives.stylegan import Augmentation, StyleGAN
from jaxgen.parallel.mesh import Layout
from jaxgen.tasks.fields import build, check_never_if_zero
from jaxgen.tasks.minibatch import check_groups

NETWORKS: dict[str, type[StyleGenerator]] = {
    'stylegan2': StyleGAN2Generator,
    'stylegan3': StyleGAN3Generator,
}
NEVER_IF_ZERO = (
    'loss.r1_every',
    'loss.r1_weight',
    'loss.path_length_every',
    'loss.path_length_weight',
    'loss.blur_sigma',
    'ema.kimg',
    'ema.ramp',
    'augment.target',
    'optimizer.discriminator_rate',
    'discriminator.freeze_layers',
)
AT_LEAST_ONE = ('loss.path_length_shrink', 'augment.every')
SHARES = ('loss.style_mixing', 'augment.p')
# After `init_from`, as published: the discriminator knows its images already.
ADA_IMAGES, ADA_IMAGES_AFTER_TRANSFER = 500_000, 100_000
# Half-life of the magnitudes that are kept of each layer's input, in images.
MAGNITUDE_HALF_LIFE = 20_000


def frame(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of the images: these models make squares of one size."""
    return config.model.size, config.model.size


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """(height, width, channels) of the images of the data set."""
    return (*frame(config), 3)


def training_size(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of what the discriminator sees: whole images."""
    return frame(config)


def check(config: ConfigDict) -> None:
    """What can be wrong with the numbers alone, beside what `setup.check` finds."""
    check_never_if_zero(config, NEVER_IF_ZERO)
    size, least = config.model.size, NETWORKS[config.model.network].smallest
    if size < least or size & (size - 1):
        raise UserError(f'model.size must be a power of two from {least}, got {size}')
    for name in AT_LEAST_ONE:
        group, field = name.split('.')
        if (value := config[group][field]) < 1:
            raise UserError(f'{name} must be at least 1, got {value}')
    for name in SHARES:
        group, field = name.split('.')
        if not 0 <= (value := config[group][field]) <= 1:
            raise UserError(f'{name} must be from 0 to 1, got {value}')
    if not config.augment.target < 1:
        raise UserError(
            f'augment.target must be 0 (p stays fixed) to below 1, got {config.augment.target}'
        )
    shrink = config.loss.path_length_shrink
    if config.loss.path_length_every and config.batch_size % shrink:
        raise UserError(
            f'batch_size must be a multiple of loss.path_length_shrink={shrink}, '
            f'got {config.batch_size}'
        )


def check_plan(config: ConfigDict, devices: int) -> None:
    """Groups of examples must come out even, under pmap on each device."""
    check_groups(config, devices)
    shrink = config.loss.path_length_shrink
    if (
        config.plan == 'pmap'
        and config.loss.path_length_every
        and config.batch_size // devices % shrink
    ):
        raise UserError(
            f"plan='pmap' takes one of loss.path_length_shrink={shrink} examples on each device: "
            f'batch_size must be a multiple of {devices} devices × {shrink}, '
            f'got {config.batch_size}'
        )


def make_crop(config: ConfigDict) -> None:
    """Whole images."""


def make_objective(config: ConfigDict, layout: Layout | None = None) -> StyleGAN:
    """The objective that `config` describes; UserError names the field that can't be.

    A run that starts from other weights (`init_from`) has no ramp of the average, no blur, and an
    augmentation that adapts faster, as published.
    """
    loss, batch, optimizer = config.loss, config.batch_size, config.optimizer
    transfer = bool(config.init_from)
    adam = dict(beta1=optimizer.beta1, beta2=optimizer.beta2, eps=optimizer.eps)
    generator, discriminator = make_generator(config), make_discriminator(config)
    return StyleGAN(
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=outputs_apart(
            lazy_adam(optimizer.learning_rate, interval=loss.path_length_every, **adam)
        ),
        discriminator_optimizer=outputs_apart(
            lazy_adam(
                optimizer.discriminator_rate or optimizer.learning_rate,
                interval=loss.r1_every,
                **adam,
            ),
            frozen=_frozen(config, discriminator),
        ),
        r1_weight=loss.r1_weight or schedules.automatic_r1_weight(config.model.size, batch),
        r1_every=loss.r1_every,
        layout=layout or Layout(),
        batch_size=batch,
        path_length_weight=loss.path_length_weight,
        path_length_every=loss.path_length_every,
        path_length_shrink=loss.path_length_shrink,
        style_mixing=loss.style_mixing,
        ema_half_life=1000 * config.ema.kimg or schedules.automatic_half_life(batch),
        ema_ramp=None if transfer or not config.ema.ramp else config.ema.ramp,
        augmentation=_augmentation(config, transfer),
        blur_sigma=0.0 if transfer else loss.blur_sigma,
        blur_fade=200_000 * batch / 32,
    )


def make_generator(config: ConfigDict) -> nn.Module:
    """The generator of `config.model`."""
    fields = config.model.to_dict()
    network = fields.pop('network')
    if network == 'stylegan3' or fields.get('normalize_inputs'):
        fields['magnitude_decay'] = 0.5 ** (config.batch_size / MAGNITUDE_HALF_LIFE)
    return build(NETWORKS[network], 'model', fields)


def make_discriminator(config: ConfigDict) -> Discriminator:
    """The discriminator of `config.discriminator`, for the generator's images and classes."""
    fields = config.discriminator.to_dict()
    del fields['freeze_layers']
    size, base, most = config.model.size, fields.pop('channel_base'), fields.pop('channel_max')
    if base < size or most < 1:
        raise UserError(
            f'discriminator.channel_base must be model.size={size} or more and channel_max 1 or '
            f'more, got {base} and {most}'
        )
    fields['channels'] = tapered_channels(size, base, most)
    return build(
        Discriminator,
        'discriminator',
        fields | dict(size=size, num_classes=config.model.num_classes),
    )


def _augmentation(config: ConfigDict, transfer: bool) -> Augmentation | None:
    if not config.augment.pipeline:
        return None
    try:
        pipeline = ada.named(config.augment.pipeline)
    except ValueError as error:
        raise UserError(f"augment.pipeline: {error}; or '' for none") from error
    return Augmentation(
        pipeline,
        p=config.augment.p,
        target=config.augment.target or None,
        every=config.augment.every,
        images_to_one=ADA_IMAGES_AFTER_TRANSFER if transfer else ADA_IMAGES,
    )


def _frozen(config: ConfigDict, discriminator: Discriminator) -> tuple[str, ...]:
    """The first layers of the discriminator, in the order of the published freeze-D."""
    count, layers = config.discriminator.freeze_layers, []
    sides = [config.model.size >> i for i in range(config.model.size.bit_length() - 3)]
    for i, side in enumerate(sides):
        if i == 0 or discriminator.architecture == 'skip':
            layers.append('from_rgb' if i == 0 else f'from_rgb_{side}')
        layers += [f'block_{side}/conv0', f'block_{side}/conv1']
        if discriminator.architecture == 'resnet':
            layers.append(f'block_{side}/skip')
    if count > len(layers):
        raise UserError(
            f'discriminator.freeze_layers must be at most {len(layers)}, the layers before the '
            f'last block, got {count}'
        )
    return tuple(layers[:count])
