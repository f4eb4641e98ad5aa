"""What every task needs from a config: checks, data and the plan for the devices."""

import dataclasses
import operator

import jax
from ml_collections import ConfigDict

from jaxgen.data.patches import RingWindows, ScaledPatches
from jaxgen.data.pipeline import Pipeline
from jaxgen.data.sources import Source, open_source
from jaxgen.errors import UserError
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import PLANS, Plan

AT_LEAST_ONE = (
    'steps',
    'batch_size',
    'samples',
    'log_every',
    'checkpoint_every',
    'checkpoints_to_keep',
    'data.threads',
)
NEVER_IF_ZERO = (
    'sample_every',
    'evaluate_every',
    'checkpoint_keep_period',
    'data.patch',
    'loss.r1_every',
    'optimizer.generator_interval',
)


@dataclasses.dataclass(frozen=True)
class Data:
    """The two halves of a data set, and the training batches."""

    train: Source
    held_out: Source
    batches: Pipeline


def frame(config: ConfigDict) -> tuple[int, int]:
    """(height, width) that the model's coordinates span: of a sample, unless asked otherwise.

    Larger than the embedding's grid `model.size` where images are; a panorama's ring is that grid.
    """
    if config.model.cylindrical or not config.data.size:
        return _pair(config.model.size)
    return _pair(config.data.size)


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """(height, width, channels) of the images of the data set."""
    return (*_pair(config.data.size or config.model.size), 3)


def training_size(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of what the discriminator sees: whole images or patches."""
    return _pair(config.data.patch) if config.data.patch else image_shape(config)[:2]


def batch_shapes(config: ConfigDict, lead: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch whose leading axes are `lead`."""
    size = training_size(config)
    shapes = {
        'image': jax.ShapeDtypeStruct((*lead, *size, 3), 'float32'),
        'slot': jax.ShapeDtypeStruct(lead, 'int32'),
    }
    if config.data.patch:
        shapes['coords'] = jax.ShapeDtypeStruct((*lead, *size, 2), 'float32')
    if config.data.label:
        shapes['label'] = jax.ShapeDtypeStruct(lead, 'int32')
    return shapes


def check(config: ConfigDict) -> None:
    """What can be wrong with the numbers alone; UserError says what is allowed."""
    for name in AT_LEAST_ONE:
        if (value := operator.attrgetter(name)(config)) < 1:
            raise UserError(f'{name} must be at least 1, got {value}')
    for name in NEVER_IF_ZERO:
        if (value := operator.attrgetter(name)(config)) < 0:
            raise UserError(f'{name} must be 0 (never) or more, got {value}')
    if not 0 <= config.seed < 2**31 - 1:
        raise UserError(f'seed must be from 0 to {2**31 - 2}, got {config.seed}')
    if not 0 <= config.ema_decay < 1:
        raise UserError(f'ema_decay must be from 0 to below 1, got {config.ema_decay}')
    if config.data.label and not config.model.num_classes:
        raise UserError('data.label is True but model.num_classes is 0: say how many classes')
    if config.model.num_classes and not config.data.label:
        raise UserError(
            f'model.num_classes is {config.model.num_classes} but data.label is False: '
            'a conditional model needs labels'
        )
    if config.model.cylindrical and not config.data.patch:
        raise UserError('model.cylindrical needs data.patch: how wide the windows of the ring are')
    if config.plan not in PLANS:
        raise UserError(f'plan must be one of {sorted(PLANS)}, got {config.plan!r}')


def open_data(config: ConfigDict) -> Data:
    """Opens the data set and checks that it fits the model. Compiles nothing."""
    data, expected = config.data, image_shape(config)
    directory = data.dir or None
    train = open_source(data.name, data.train_split, data_dir=directory, size_hint=expected[0])
    held_out = open_source(data.name, data.eval_split, data_dir=directory, size_hint=expected[0])
    if tuple(train.image_shape) != expected:
        field = 'data.size' if data.size else 'model.size'
        raise UserError(
            f'{field} asks for images of {_dimensions(expected)}, but {data.name!r} has '
            f'{_dimensions(train.image_shape)}'
        )
    if data.label and not train.num_classes:
        raise UserError(f'data.label is True, but {data.name!r} has no labels')
    if data.label and train.num_classes != config.model.num_classes:
        raise UserError(
            f'model.num_classes is {config.model.num_classes}, but {data.name!r} has '
            f'{train.num_classes}'
        )
    batches = Pipeline(
        train,
        batch_size=config.batch_size,
        seed=config.seed,
        flip=data.flip,
        label=data.label,
        crop=_make_crop(config),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return Data(train, held_out, batches)


def make_plan(config: ConfigDict, devices: list[jax.Device] | None = None) -> Plan:
    """The plan over `devices` (default: all), checked against the batch size."""
    mesh = make_mesh(config.mesh.data, config.mesh.pixel, devices)
    if config.batch_size % mesh.size:
        raise UserError(
            f'batch_size must be a multiple of the {mesh.size} devices, got {config.batch_size}'
        )
    group, grouping = (
        config.discriminator.minibatch_std_group,
        config.discriminator.minibatch_std_grouping,
    )
    rows = config.batch_size // mesh.size
    if config.plan == 'pmap' and group and mesh.size > 1 and rows % group:
        raise UserError(
            f"plan='pmap' forms minibatch-stddev groups on one device: batch_size must be a "
            f'multiple of {mesh.size} devices × {group}, got {config.batch_size}'
        )
    if config.plan == 'pmap' and group and mesh.size > 1 and grouping == 'strided':
        raise UserError(
            "plan='pmap' forms minibatch-stddev groups on one device: minibatch_std_grouping must "
            "be 'contiguous', got 'strided'"
        )
    if group and config.batch_size > group and config.batch_size % group:
        raise UserError(
            f'batch_size must be at most discriminator.minibatch_std_group={group} or a multiple '
            f'of it, got {config.batch_size}'
        )
    return PLANS[config.plan](mesh)


def _make_crop(config: ConfigDict) -> ScaledPatches | RingWindows | None:
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


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _dimensions(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f'{width}×{height}, {channels} channels'
