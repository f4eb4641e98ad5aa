"""Motions of a generator's input, and of its styles; each ends where it began.

A transform is `[3, 3]`, the *inverse* of what happens to the image, on (x, y, 1) with sides of
length 1, the origin in the middle, y down, as StyleGAN3 takes it.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxgen.training.restore import Run

MOTIONS = ('translation', 'rotation', 'walk')
OF_INPUT = ('translation', 'rotation')


def path_of(
    motion: str, w: np.ndarray, count: int, *, shift: float = 0.125, reach: float = 0.2
) -> tuple[np.ndarray, np.ndarray | None]:
    """Styles `[F, …]` and transforms `[F, 3, 3]` (None: none) of one of `MOTIONS`.

    `w [3, …]`: the image's styles, and two more for a walk.
    """
    if motion == 'walk':
        return walk(w, count, reach), None
    styles = np.repeat(np.asarray(w)[:1], count, axis=0)
    return styles, translations(count, shift) if motion == 'translation' else rotations(count)


def translations(count: int, shift: float) -> np.ndarray:
    """`[F, 3, 3]`: inverse of a move to the right and to the left by `shift` sides."""
    matrices = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    matrices[:, 0, 2] = -shift * np.sin(_turn(count))
    return matrices


def rotations(count: int) -> np.ndarray:
    """`[F, 3, 3]`: inverse of one anticlockwise turn around the middle."""
    matrices = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    cos, sin = np.cos(_turn(count)), np.sin(_turn(count))
    matrices[:, :2, :2] = np.moveaxis(np.array([[cos, -sin], [sin, cos]]), -1, 0)
    return matrices


def walk(w: np.ndarray, count: int, reach: float) -> np.ndarray:
    """`[F, …]`: from `w[0]` on a circle in the plane of `w [3, …]`, and back.

    The axes are `reach` of the way from the first to the second and to the third.
    """
    w = np.asarray(w)
    turn = _turn(count).reshape(-1, *(1,) * (w.ndim - 1))
    axes = reach * (w[1:] - w[:1])
    way = w[:1] + (np.cos(turn) - 1) * axes[:1] + np.sin(turn) * axes[1:]
    return way.astype(np.float32)


def _turn(count: int) -> np.ndarray:
    return 2 * np.pi * np.arange(count) / count


def can_move(run: 'Run') -> bool:
    """Whether the input of the generator takes a transform."""
    return getattr(run.generator, 'takes_transform', False)
