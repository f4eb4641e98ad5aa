"""What a pixel is drawn from: the receptive field, with and without the blind spot.

    python -m jaxgen.apps.receptive_field --out=fields.png
    python -m jaxgen.apps.receptive_field --workdir=RUN --out=field.png

Without a run it shows a masked PixelCNN (a 7×7 and four 3×3 kernels), whose receptive field has a
blind spot at the right of the pixels above, and a Gated PixelCNN of four layers, which sees all
pixels before (1606.05328, figure 1). A pixel's brightness is how strongly the output at the marked
pixel depends on it, on a logarithmic scale; red is what comes before it and is not seen.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.likelihood_command import LikelihoodFlags
from jaxgen.apps.output import check_target, in_row, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from flax import linen as nn

_FLAGS = flags.FlagValues()
_MODEL = LikelihoodFlags(_FLAGS, label=False)
_SIZE = flags.DEFINE_string(
    'size', None, 'WIDTHxHEIGHT or SIDE; default: the training frame, or 11.', flag_values=_FLAGS
)
_AT = flags.DEFINE_string(
    'at', None, 'Column and row of the pixel, from 0; default: low, at the left.',
    flag_values=_FLAGS,
)  # fmt: skip
_OUT = flags.DEFINE_string('out', 'receptive_field.png', 'Picture.', flag_values=_FLAGS)

_CELL = 16
_UNSEEN, _MARK, _AFTER = (178, 24, 43), (255, 200, 0), (60, 60, 60)


def dependence(
    model: 'nn.Module',
    variables: Any,
    size: tuple[int, int],
    at: tuple[int, int],
    *,
    inputs: int = 4,
    **condition: Any,
) -> np.ndarray:
    """`[H, W]`: mean |∂ output at `at` / ∂ pixel| over random images; 0 exactly where none.

    Args:
      at: row and column.
      condition: arguments of the model's call, for one image.
    """
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), 2)

    def output(x, weights):
        y = model.apply(variables, x[None], **condition, method='network')[0, at[0], at[1]]
        return jnp.vdot(y.reshape(-1), weights.reshape(-1)[: y.size])

    shape = (inputs, *size, model.colours)
    x = jax.random.uniform(keys[0], shape, minval=-1.0, maxval=1.0)
    weights = jax.random.normal(keys[1], (inputs, model.likelihood.outputs(model.colours)))
    slopes = jax.jit(jax.lax.map, static_argnums=0)(
        lambda pair: jax.grad(output)(*pair), (x, weights)
    )
    return np.abs(np.asarray(slopes, np.float64)).mean(axis=(0, 3))


def picture(field: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """uint8 `[H·16, W·16, 3]` of `dependence`."""
    height, width = field.shape
    row, column = at
    order = np.arange(height * width).reshape(height, width)
    before = order < order[row, column]
    seen = field > 0
    logs = np.log10(np.where(seen, field, 1))
    top = logs[seen & before].max(initial=0)
    # Four decades from white to dark.
    share = np.clip(1 + (logs - top) / 4, 0.15, 1)
    colours = np.repeat((255 * share).astype(np.uint8)[..., None], 3, axis=2)
    colours[before & ~seen] = _UNSEEN
    colours[~before] = _AFTER
    colours[row, column] = _MARK
    cells = colours.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    cells[::_CELL] //= 2
    cells[:, ::_CELL] //= 2
    return cells


def blind(field: np.ndarray, at: tuple[int, int]) -> int:
    """How many of the pixels before `at` are not seen."""
    return int((field.reshape(-1)[: at[0] * field.shape[1] + at[1]] == 0).sum())


def examples() -> dict[str, 'nn.Module']:
    """By caption: a network with the blind spot, and one without."""
    from jaxgen.models.pixelcnn import GatedPixelCNN, PixelCNN

    small = dict(levels=4, colours=1, features=8, head=8)
    return {
        'masked PixelCNN': PixelCNN(**small, blocks=4, first_kernel=7),
        'Gated PixelCNN': GatedPixelCNN(**small, blocks=4, kernel_size=5),
    }


def _place(size: tuple[int, int]) -> tuple[int, int]:
    if _AT.value is None:
        return size[0] * 2 // 3, size[1] // 3
    column, row = cli.parse_numbers(_AT.value, 2, '--at')
    if (
        row != int(row)
        or column != int(column)
        or not (0 <= row < size[0] and 0 <= column < size[1])
    ):
        raise UserError(
            f'--at must be a column below {size[1]} and a row below {size[0]}, got {_AT.value!r}'
        )
    return int(row), int(column)


def _of_run(size: tuple[int, int] | None) -> tuple[dict[str, Any], tuple[int, int]]:
    """{caption: (model, variables, condition)} of --workdir, and the size."""
    import jax.numpy as jnp

    run = _MODEL.load()
    condition = {'label': jnp.zeros(1, int)} if run.objective.num_classes else {}
    name = type(run.generator).__name__
    return {name: (run.generator, run.variables, condition)}, size or run.frame


def _of_examples(size: tuple[int, int] | None) -> tuple[dict[str, Any], tuple[int, int]]:
    import jax
    import jax.numpy as jnp

    size = size or (11, 11)
    pixels = jnp.zeros((1, *size, 1), jnp.int32)
    key = jax.random.key(1)
    return {
        name: (model, jax.jit(model.init)(key, pixels), {}) for name, model in examples().items()
    }, size


def main() -> None:
    """Draws the field of the run, or of the two examples."""
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    target = check_target(_OUT.value)
    models, size = _of_examples(size) if _MODEL.workdir.value is None else _of_run(size)
    at = _place(size)
    panels = []
    for name, (model, variables, condition) in models.items():
        try:
            field = dependence(model, variables, size, at, **condition)
        except ValueError as error:
            raise UserError(f'--size: {error}') from error
        panels.append(picture(field, at))
        before = at[0] * size[1] + at[1]
        print(f'{name}: {blind(field, at)} of {before} pixels before it are not seen')
    save_picture(target, in_row(panels, list(models)))
    print(f'in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
