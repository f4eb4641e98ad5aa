"""Samples of every class of a class-conditional model: a row for each.

    python -m jaxgen.apps.class_samples --workdir=RUN --num=10 --out=classes.png

The pictures of a column have the same noise, whatever their class.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.likelihood_command import LikelihoodFlags, define_count, grid, shown
from jaxgen.apps.output import check_target, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.training.restore import LikelihoodRun

_FLAGS = flags.FlagValues()
_MODEL = LikelihoodFlags(_FLAGS, label=False)
_CLASSES = flags.DEFINE_list(
    'classes', None, 'Which classes, e.g. 0,3,7; default: the first ten.', flag_values=_FLAGS
)
_NUM = define_count(_FLAGS, 'num', 8, 'Samples of each.')
_OUT = flags.DEFINE_string('out', 'class_samples.png', 'Picture.', flag_values=_FLAGS)


def draw(
    run: 'LikelihoodRun',
    classes: list[int],
    num: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> np.ndarray:
    """`[classes, num, H, W, C]` in [-1, 1].

    Raises:
      UserError: a model without classes, or a class that it does not have.
    """
    import jax

    from jaxgen.objectives.sampling import image_keys

    known = run.objective.num_classes
    for label in classes:
        if not 0 <= label < known:
            allowed = f'from 0 to {known - 1}' if known else 'left out: the model has no classes'
            raise UserError(f'label must be {allowed}, got {label}')

    @jax.jit
    def row(variables, label):
        keys = image_keys(seed, np.arange(num, dtype=np.int32))
        labels = jax.numpy.full(num, label)
        drawing = dict(temperature=temperature, mesh=run.mesh)
        return run.objective.sample(variables, keys, labels, **drawing)

    return np.stack([np.asarray(row(run.variables, np.int32(label))) for label in classes])


def _numbers(classes: int) -> list[int]:
    if _CLASSES.value is None:
        return list(range(min(10, classes)))
    if not _CLASSES.value or not all(text.strip().isdigit() for text in _CLASSES.value):
        raise UserError(f'--classes must be numbers such as 0,3,7, got {_CLASSES.value}')
    return [int(text) for text in _CLASSES.value]


def main() -> None:
    """Draws the rows."""
    _MODEL.check()
    target = check_target(_OUT.value)
    run = _MODEL.load()
    classes = run.objective.num_classes
    if not classes:
        raise UserError(f'{run.source!r} has no classes: use python -m jaxgen.sample')
    chosen = _numbers(classes)
    drawing = dict(seed=_MODEL.seed.value, temperature=_MODEL.temperature.value)
    save_picture(target, grid(shown(draw(run, chosen, _NUM.value, **drawing))))
    print(f'{_NUM.value} samples of each of {len(chosen)} classes in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
