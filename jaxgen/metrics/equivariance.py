"""How well a generator's image follows its input: EQ-T, EQ-T fractional and EQ-R, in decibels.

After 'Alias-Free GANs' (2106.12423), appendix E. Each batch of images is drawn again under three
transforms of the generator's input: a translation that is rounded to whole pixels, any translation
(both up to 1/8 of the side in x and in y), and a rotation by any angle. What it draws is compared
with the transformed first image where a mask says that the border plays no part:

    EQ = 10·log10(4 / MSE),     MSE = Σ masked squared error / Σ mask

with sums over everything, all batches included; 4 is the square of the range of an image. The
published protocol draws 50,000 images in batches of 4, one transform for each batch, with the
averaged parameters, truncation 1 and constant noise.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import warps

LARGEST_SHIFT = 0.125
RANGE = 2.0


class Transforms(NamedTuple):
    """One transform of each kind: shifts `[2]` (x, y) in sides of the image, angle in radians."""

    whole: jax.Array
    shift: jax.Array
    angle: jax.Array


class SquaredError(NamedTuple):
    """Masked sum of squared errors, and number of entries under the mask."""

    total: jax.Array
    count: jax.Array


def draw(key: jax.Array, size: int) -> Transforms:
    """The transforms of a batch of images of `size`² pixels."""
    keys = jax.random.split(key, 3)
    return from_uniform(*map(jax.random.uniform, keys, ((2,), (2,), ())), size)


def from_uniform(whole: jax.Array, shift: jax.Array, angle: jax.Array, size: int) -> Transforms:
    """Transforms from numbers that are uniform in [0, 1)."""
    whole, shift = ((2 * u - 1) * LARGEST_SHIFT for u in (whole, shift))
    return Transforms(jnp.round(whole * size) / size, shift, (2 * angle - 1) * np.pi)


def measure(
    render: Callable[[jax.Array], jax.Array], transforms: Transforms
) -> dict[str, SquaredError]:
    """The errors 'eqt_int', 'eqt_frac' and 'eqr' of one batch, to be added over batches.

    Args:
      render: from `[3, 3]`, the inverse of what shall happen to the image, on (x, y, 1) with sides
        of length 1, to images `[B, H, H, C]`; otherwise always the same.
    """
    original = render(jnp.eye(3))
    errors = {}
    for name, shift, move in (
        ('eqt_int', transforms.whole, warps.translate_integer),
        ('eqt_frac', transforms.shift, warps.translate),
    ):
        image = render(jnp.eye(3).at[:2, 2].set(-shift))
        errors[name] = squared_error(*move(original, shift), image)
    image = render(warps.rotation_matrix(-transforms.angle))
    reference, mask = warps.rotate(original, transforms.angle)
    image, other_mask = warps.pseudo_rotate(image, transforms.angle)
    errors['eqr'] = squared_error(reference, mask * other_mask, image)
    return errors


def squared_error(reference: jax.Array, mask: jax.Array, image: jax.Array) -> SquaredError:
    """Of images `[B, H, W, C]` under a mask `[H, W]`."""
    total = jnp.sum(jnp.square(reference - image) * mask[None, :, :, None])
    return SquaredError(total, jnp.sum(mask) * (image.shape[0] * image.shape[3]))


def decibels(error: SquaredError) -> float:
    """The metric, from the sums over all batches; infinite where nothing differs."""
    mse = np.float64(error.total) / np.float64(error.count)
    with np.errstate(divide='ignore'):
        return float(20 * np.log10(RANGE) - 10 * np.log10(mse))
