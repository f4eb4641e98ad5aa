"""What every task needs from a config: checks, data, the plan for the devices, the objective.

A task is a module with the functions `frame`, `image_shape`, `training_size`, `check`,
`check_plan`, `make_crop` and `make_objective`.
"""

import dataclasses
import operator
import types
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from jaxgen.data.pipeline import Pipeline
from jaxgen.data.sources import Source, open_source
from jaxgen.errors import UserError
from jaxgen.objectives.base import Objective
from jaxgen.parallel.mesh import Layout, make_mesh
from jaxgen.parallel.plan import PLANS, Plan
from jaxgen.tasks import adversarial, likelihood, stylegan
from jaxgen.tasks.fields import check_never_if_zero

# A task has one module, or one for each network.
TASKS: Mapping[str, types.ModuleType | Mapping[str, types.ModuleType]] = {
    'adversarial': {'cips': adversarial, 'stylegan2': stylegan, 'stylegan3': stylegan},
    'likelihood': likelihood,
}
AT_LEAST_ONE = (
    'steps',
    'batch_size',
    'samples',
    'log_every',
    'checkpoint_every',
    'checkpoints_to_keep',
    'data.threads',
)
NEVER_IF_ZERO = ('sample_every', 'evaluate_every', 'checkpoint_keep_period')


@dataclasses.dataclass(frozen=True)
class Data:
    """The two halves of a data set, and the training batches."""

    train: Source
    held_out: Source
    batches: Pipeline


def _task(config: ConfigDict) -> types.ModuleType:
    """The functions of the config's task; UserError where there is no such task or network."""
    if config.task not in TASKS:
        raise UserError(f'task must be one of {sorted(TASKS)}, got {config.task!r}')
    task = TASKS[config.task]
    if not isinstance(task, Mapping):
        return task
    if (network := config.model.network) not in task:
        raise UserError(f'model.network must be one of {sorted(task)}, got {network!r}')
    return task[network]


def frame(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of a sample unless asked otherwise."""
    return _task(config).frame(config)


def image_shape(config: ConfigDict) -> tuple[int, int, int]:
    """(height, width, channels) of the images of the data set."""
    return _task(config).image_shape(config)


def training_size(config: ConfigDict) -> tuple[int, int]:
    """(height, width) of what a training step sees: whole images or patches."""
    return _task(config).training_size(config)


def num_classes(config: ConfigDict) -> int:
    """Classes that the model is conditioned on; 0: none, or a model that can't be."""
    return config.model.get('num_classes', 0)


def make_objective(config: ConfigDict, layout: Layout | None = None) -> Objective:
    """The objective that `config` describes; UserError names the field that can't be."""
    return _task(config).make_objective(config, layout)


def batch_shapes(config: ConfigDict, lead: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch whose leading axes are `lead`."""
    size, channels = training_size(config), image_shape(config)[2]
    shapes = {
        'image': jax.ShapeDtypeStruct((*lead, *size, channels), 'float32'),
        'slot': jax.ShapeDtypeStruct(lead, 'int32'),
    }
    if _task(config).make_crop(config):
        shapes['coords'] = jax.ShapeDtypeStruct((*lead, *size, 2), 'float32')
    if config.data.label:
        shapes['label'] = jax.ShapeDtypeStruct(lead, 'int32')
    return shapes


def check(config: ConfigDict) -> None:
    """What can be wrong with the numbers alone; UserError says what is allowed."""
    task, classes = _task(config), num_classes(config)
    for name in AT_LEAST_ONE:
        if (value := operator.attrgetter(name)(config)) < 1:
            raise UserError(f'{name} must be at least 1, got {value}')
    check_never_if_zero(config, NEVER_IF_ZERO)
    if not 0 <= config.seed < 2**31 - 1:
        raise UserError(f'seed must be from 0 to {2**31 - 2}, got {config.seed}')
    if not 0 <= config.get('ema_decay', 0) < 1:
        raise UserError(f'ema_decay must be from 0 to below 1, got {config.ema_decay}')
    if config.data.label and not classes:
        raise UserError('data.label is True but model.num_classes is 0: say how many classes')
    if classes and not config.data.label:
        raise UserError(
            f'model.num_classes is {classes} but data.label is False: '
            'a conditional model needs labels'
        )
    if config.plan not in PLANS:
        raise UserError(f'plan must be one of {sorted(PLANS)}, got {config.plan!r}')
    task.check(config)


def open_data(config: ConfigDict) -> Data:
    """Opens the data set and checks that it fits the model. Compiles nothing."""
    data, expected = config.data, image_shape(config)
    directory = data.dir or None
    train = open_source(data.name, data.train_split, data_dir=directory, size_hint=expected[0])
    held_out = open_source(data.name, data.eval_split, data_dir=directory, size_hint=expected[0])
    if tuple(train.image_shape) != expected:
        field = 'data.size' if data.get('size') else 'model.size'
        if 'colours' in config.model:
            field += ' with model.colours'
        raise UserError(
            f'{field} asks for images of {_dimensions(expected)}, but {data.name!r} has '
            f'{_dimensions(train.image_shape)}'
        )
    if data.label and not train.num_classes:
        raise UserError(f'data.label is True, but {data.name!r} has no labels')
    if data.label and train.num_classes != num_classes(config):
        raise UserError(
            f'model.num_classes is {num_classes(config)}, but {data.name!r} has {train.num_classes}'
        )
    batches = Pipeline(
        train,
        batch_size=config.batch_size,
        seed=config.seed,
        flip=data.flip,
        label=data.label,
        crop=_task(config).make_crop(config),
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
    _task(config).check_plan(config, mesh.size)
    return PLANS[config.plan](mesh)


def _dimensions(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f'{width}×{height}, {channels} channels'
