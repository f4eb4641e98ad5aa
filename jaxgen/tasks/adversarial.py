"""Configs of CIPS: what the images are, what fits together, the objective.

Fields are those of the modules' constructors.
"""

from ml_collections import ConfigDict

from jaxgen.data.patches import RingWindows, ScaledPatches
from jaxgen.errors import UserError
from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator
from jaxgen.objectives.adversarial import Adversarial
from jaxgen.objectives.optim import lazy_adam
from jaxgen.parallel.mesh import Layout
from jaxgen.tasks.fields import build, check_never_if_zero, pair
from jaxgen.tasks.minibatch import check_groups

NEVER_IF_ZERO = ('data.patch', 'loss.r1_every', 'optimizer.generator_interval')


def frame(config: ConfigDict) -> tuple[int, int]:
    """(height, width) that the model's coordinates span: of a sample, unless asked otherwise.

    Larger than the embedding's grid `model.size` where images are; a panorama's ring is that grid.
    """
    if config.model.cylindrical or not config.data.size:
        return pair(config.model.size)
    return pair(config.data.size)


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """(height, width, channels) of the images of the data set."""
    return (*pair(config.data.size or config.model.size), 3)


def training_size(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of what the discriminator sees: whole images or patches."""
    return pair(config.data.patch) if config.data.patch else image_shape(config)[:2]


def check(config: ConfigDict) -> None:
    """What can be wrong with the numbers alone, beside what `setup.check` finds."""
    check_never_if_zero(config, NEVER_IF_ZERO)
    if config.model.cylindrical and not config.data.patch:
        raise UserError('model.cylindrical needs data.patch: how wide the windows of the ring are')


def check_plan(config: ConfigDict, devices: int) -> None:
    """Minibatch-stddev groups must come out even, under pmap on each device."""
    check_groups(config, devices)


def make_crop(config: ConfigDict) -> ScaledPatches | RingWindows | None:
    """Which parts of images are trained on; None: whole images."""
    side, shape = config.data.patch, image_shape(config)[:2]
    if not side:
        return None
    if config.model.cylindrical:
        height, ring = frame(config)
        if side != height:
            raise UserError(f'data.patch must be the height of the ring, {height}, got {side}')
        return RingWindows(side, ring, shape, config.seed)
    return ScaledPatches(side, shape, config.seed)


def make_objective(config: ConfigDict, layout: Layout | None = None) -> Adversarial:
    """The objective that `config` describes; UserError names the field that can't be."""
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
    fields = config.model.to_dict()
    del fields['network']
    return build(CIPSGenerator, 'model', fields)


def make_discriminator(config: ConfigDict) -> Discriminator:
    """The discriminator of `config.discriminator`, for images or patches of the training's size."""
    fields = config.discriminator.to_dict()
    channels = fields.pop('channels')
    fields['channels'] = {4 * 2**i: c for i, c in enumerate(channels)}
    return build(
        Discriminator,
        'discriminator',
        fields | dict(size=training_size(config), num_classes=config.model.num_classes),
    )
