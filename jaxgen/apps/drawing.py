"""Images of many styles, drawn a few at a time: what tables and videos are made of."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

PIXELS_AT_ONCE = 65_536


def draw(
    run: 'Run',
    w: 'jax.Array',
    size: tuple[int, int] | None = None,
    *,
    noise: 'jax.Array | None' = None,
    transform: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Images `[H, W, 3]` around [-1, 1] in the styles `w [F, …]`, one by one.

    Args:
      size: (height, width), any that the generator has; default: its frame.
      noise: keys `[F]`, or `[1]` of all of them, for a generator with noise='random'; default:
        that of the first image of seed 0 for all.
      transform: `[F, 3, 3]`, see `StyleGAN3Generator.synthesize`.
    """
    from jaxgen.objectives.sampling import image_keys, takes_noise_keys

    height, width = size or run.generator.frame
    if noise is None and takes_noise_keys(run.generator):
        noise = image_keys(0, np.zeros(1, np.int32))
    at_once = max(1, min(len(w), PIXELS_AT_ONCE // (height * width)))
    for start in range(0, len(w), at_once):
        # The last batch is filled up, so that there is one shape to compile.
        number = np.minimum(np.arange(start, start + at_once), len(w) - 1)
        keys = None if noise is None else noise[number if len(noise) > 1 else 0 * number]
        matrix = None if transform is None else transform[number]
        images = run.images(w[number], (height, width), noise=keys, transform=matrix)
        yield from images[: len(w) - start]
