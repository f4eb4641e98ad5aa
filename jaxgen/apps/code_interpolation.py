"""Images on the way from one code to another (arXiv 1606.05328, section 3.2, figure 5).

    python -m jaxgen.apps.code_interpolation --workdir=RUN --rows=4 --steps=8

A row begins and ends with a held-out image; between them are images drawn from codes on the
straight line from its code to the other's, all with the same noise: what changes along the row is
the code's doing alone.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.likelihood_command import LikelihoodFlags, define_count, grid, held_out, shown
from jaxgen.apps.output import check_target, save_picture

if TYPE_CHECKING:
    from jaxgen.training.restore import LikelihoodRun

_FLAGS = flags.FlagValues()
_MODEL = LikelihoodFlags(_FLAGS, label=False)
_ROWS = define_count(_FLAGS, 'rows', 4, 'How many pairs of held-out images.')
_STEPS = define_count(_FLAGS, 'steps', 8, 'Images drawn from one to the other.')
_OUT = flags.DEFINE_string('out', 'code_interpolation.png', 'Picture.', flag_values=_FLAGS)


def encode(run: 'LikelihoodRun', images: np.ndarray) -> np.ndarray:
    """Codes `[B, m]` of images `[B, H, W, C]` in [-1, 1]."""
    import jax

    return np.asarray(jax.jit(run.objective.encode)(run.variables, images))


def decode(
    run: 'LikelihoodRun',
    codes: np.ndarray,
    slots: Sequence[int],
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> np.ndarray:
    """Images `[B, H, W, C]` around [-1, 1] of codes `[B, m]`; the noise is of `seed` and slot."""
    import jax

    from jaxgen.objectives.sampling import image_keys

    @jax.jit
    def draw(variables, codes, slots):
        keys = image_keys(seed, slots)
        return run.objective.decode(variables, codes, keys, temperature=temperature)

    return np.asarray(draw(run.variables, codes, np.asarray(slots, np.int32)))


def between(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """Codes `[B, steps, m]` on the straight lines between codes `[B, m]`, ends included."""
    t = np.linspace(0, 1, steps, dtype=first.dtype)[None, :, None] if steps > 1 else 0.5
    return first[:, None] + t * (last - first)[:, None]


def interpolate(
    run: 'LikelihoodRun',
    first: np.ndarray,
    last: np.ndarray,
    steps: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> np.ndarray:
    """`[B, steps, H, W, C]` around [-1, 1]: from images `[B, H, W, C]` to others, noise fixed."""
    codes = between(encode(run, first), encode(run, last), steps)
    slots = np.zeros(codes.shape[0] * codes.shape[1], np.int32)
    flat = codes.reshape(-1, codes.shape[-1])
    drawn = decode(run, flat, slots, seed=seed, temperature=temperature)
    return drawn.reshape(*codes.shape[:2], *drawn.shape[1:])


def main() -> None:
    """Draws the rows."""
    _MODEL.check()
    target = check_target(_OUT.value)
    run = _MODEL.load_autoencoder()
    images, _ = held_out(run, 2 * _ROWS.value, _MODEL.seed.value)
    first, last = images[0::2], images[1::2]
    drawing = dict(seed=_MODEL.seed.value, temperature=_MODEL.temperature.value)
    drawn = interpolate(run, first, last, _STEPS.value, **drawing)
    rows = np.concatenate([first[:, None], drawn, last[:, None]], axis=1)
    save_picture(target, grid(shown(rows)))
    print(f'{len(rows)} rows of {_STEPS.value} images between two in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
