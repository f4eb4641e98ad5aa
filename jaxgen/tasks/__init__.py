"""Floor 4: from a config to data, plan and objective. Only here does a config meet a model."""

from jaxgen.tasks.setup import (
    Data,
    batch_shapes,
    check,
    frame,
    image_shape,
    make_objective,
    make_plan,
    num_classes,
    open_data,
    training_size,
)

__all__ = [
    'Data',
    'batch_shapes',
    'check',
    'frame',
    'image_shape',
    'make_objective',
    'make_plan',
    'num_classes',
    'open_data',
    'training_size',
]
