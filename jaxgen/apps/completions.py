"""Completions of half-given pictures, and inpainting of what the order of the pixels allows.

    python -m jaxgen.apps.completions --workdir=RUN --keep=0.5 --rows=4 --num=6
    python -m jaxgen.apps.completions --workdir=RUN --label=3 --input=a.png --mask=known.png

Each row is a picture, what of it is given, and several completions. The pictures are held-out ones
of the run's data set, drawn with their own classes unless --label is given, or --input. What is
given is the upper part (--keep) or wherever the picture --mask is white. Given pixels stay as they
are, to the level. A pixel is drawn from the pixels above it and at its left, so what is given below
or at the right has no influence; the command says how many pixels that concerns.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.likelihood_command import (
    LikelihoodFlags,
    define_count,
    grid,
    held_out,
    pixels_of,
    read_picture,
    shown,
)
from jaxgen.apps.output import check_target, save_picture
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.training.restore import LikelihoodRun

_FLAGS = flags.FlagValues()
_MODEL = LikelihoodFlags(_FLAGS)
_INPUT = flags.DEFINE_string(
    'input', None, 'A picture to complete; default: held-out ones.', flag_values=_FLAGS
)
_MASK = flags.DEFINE_string(
    'mask', None, 'A picture of the same size: white is given.', flag_values=_FLAGS
)
_KEEP = flags.DEFINE_float(
    'keep',
    0.5,
    'Without --mask: how much is given, from the top.',
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=_FLAGS,
)
_ROWS = define_count(_FLAGS, 'rows', 4, 'How many held-out pictures.')
_NUM = define_count(_FLAGS, 'num', 6, 'Completions of each.')
_OUT = flags.DEFINE_string('out', 'completions.png', 'Picture.', flag_values=_FLAGS)


def complete(
    run: 'LikelihoodRun',
    given: np.ndarray,
    observed: np.ndarray,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    label: np.ndarray | None = None,
) -> np.ndarray:
    """Draws what is not given.

    Args:
      given: integers `[B, H, W, C]`, levels of the model.
      observed: booleans that broadcast to them: what of it stands.
      label: `[B]`, for a model with classes.

    Returns:
      Integers `[B, H, W, C]`; image i has the noise of `seed` and i.

    Raises:
      UserError: pixels that are no levels, a mask of another size or one that the model's order of
        colours forbids.
    """
    import jax

    from jaxgen.objectives.autoregressive_sampling import (
        check_completion,
        sample_cached,
        sample_fixed_point,
    )
    from jaxgen.objectives.sampling import image_keys

    model = run.generator
    check_completion(model.likelihood, given, observed, model.colours)
    sampler = sample_cached if hasattr(model, 'steps') else sample_fixed_point
    condition = {} if label is None else {'label': label}
    keys = image_keys(seed, np.arange(len(given), dtype=np.int32))
    drawn = jax.jit(
        lambda variables, keys, given, observed, condition: (
            sampler(
                model,
                variables,
                keys,
                given.shape[1:3],
                temperature=temperature,
                given=given,
                observed=observed,
                **condition,
            ).pixels
        )
    )
    try:
        return np.asarray(drawn(run.variables, keys, given, observed, condition))
    except ValueError as error:
        raise UserError(f'a picture of {given.shape[2]}×{given.shape[1]}: {error}') from error


def drawn_before_given(observed: np.ndarray) -> tuple[int, int]:
    """(pixels drawn before a given one, which they cannot see; pixels drawn) of `[H, W, C]`."""
    known = observed.reshape(-1, observed.shape[-1]).all(axis=1)
    later = np.flip(np.maximum.accumulate(np.flip(known)))
    return int((~known & later).sum()), int((~known).sum())


def _read_mask(size: tuple[int, int], colours: int) -> np.ndarray:
    """Booleans `[H, W, C]`: white is given."""
    mask = pixels_of(read_picture(_MASK.value, '--mask'), colours) >= 128
    if mask.shape[:2] != size:
        height, width = size
        raise UserError(
            f'--mask must be of the size of the picture, {width}×{height}, '
            f'got {mask.shape[1]}×{mask.shape[0]}'
        )
    return mask


def _pictures(run: 'LikelihoodRun') -> tuple[np.ndarray, np.ndarray | None]:
    """Levels `[R, H, W, C]` of --input or of held-out pictures, and the classes `[R]`."""
    from jaxgen.objectives.likelihood import to_levels

    colours, levels = run.generator.colours, run.generator.levels
    if _INPUT.value is None:
        images, label = held_out(run, _ROWS.value, _MODEL.seed.value)
        if _MODEL.label.value is not None:
            label = _MODEL.condition(run, len(images))['label']
        return np.asarray(to_levels(images, levels)), label
    pixels = pixels_of(read_picture(_INPUT.value), colours)
    label = _MODEL.condition(run, 1).get('label')
    return pixels[None].astype(np.int32) * levels // 256, label


def main() -> None:
    """Draws the rows."""
    _MODEL.check()
    target = check_target(_OUT.value)
    run = _MODEL.load()
    (rows, label), num = _pictures(run), _NUM.value
    observed = np.zeros(rows.shape[1:], bool)
    observed[: round(_KEEP.value * rows.shape[1])] = True
    if _MASK.value is not None:
        observed = _read_mask(rows.shape[1:3], run.generator.colours)
    completed = complete(
        run,
        rows.repeat(num, axis=0),
        observed,
        seed=_MODEL.seed.value,
        temperature=_MODEL.temperature.value,
        label=None if label is None else label.repeat(num),
    )
    scale = 2 / (run.generator.levels - 1)
    # Grey, where nothing is given.
    masked = np.where(observed, rows * scale - 1, 0)
    columns = [rows * scale - 1, masked]
    columns += list((completed * scale - 1).reshape(len(rows), num, *rows.shape[1:]).swapaxes(0, 1))
    save_picture(target, grid(shown(np.stack(columns, axis=1))))
    blind, drawn = drawn_before_given(observed)
    print(f'{len(rows)} rows of {num} completions in {target}')
    if blind:
        print(f'{blind} of {drawn} drawn pixels come before given ones, which they cannot see')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
