"""Improved precision and recall, density and coverage: do two sets fill the same space?

Kynkäänniemi et al. 2019: each point of a set has a ball out to its k-th nearest neighbour in that
set, itself not counted, and the set's manifold is the union of the balls. Precision is the share of
generated points in the real manifold, recall that of real points in the generated one. Naeem et
al. 2020: density is the mean number of real balls around a generated point, over k; coverage is
the share of real balls with a generated point inside. A point at the radius is inside, as far as
rounding lets it be seen; radii are exact.

    pr50k3_full   k = 3, up to 200,000 reals, 4096 features of VGG16's second fully connected layer
                  (`metrics.vgg.VGG16Features`), features and distances rounded to float16 (`half`)
    others        k = 3 or 5, the Inception network's 2048 pooled features, float32

Distances are |x|² + |y|² - 2 x·y of features moved by one common vector, the mean of the set with
the balls, which no distance depends on; so little cancels. Blocks of both sets meet on the device
one pair at a time: of a distance matrix no more than `BLOCK`² is there at once.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 4096


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]; the density may be above 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(
    real: np.ndarray, generated: np.ndarray, *, k: int = 3, half: bool = False
) -> PrecisionRecall:
    """All four of features `[N, D]` and `[M, D]`.

    Args:
      k: which neighbour makes the radius.
      half: round features, radii and distances to float16, as `pr50k3_full` does.

    Raises:
      ValueError: fewer than k + 1 points in a set, or different D.
    """
    if real.shape[1:] != generated.shape[1:]:
        raise ValueError(f'sets must have the same features, got {real.shape}, {generated.shape}')
    if half:
        real, generated = (np.asarray(x, np.float16) for x in (real, generated))
    real_radii, generated_radii = (radii(x, k=k) for x in (real, generated))
    if half:
        real_radii, generated_radii = (r.astype(np.float16) for r in (real_radii, generated_radii))
    balls, points = membership(generated, real, real_radii, half=half)
    recalled, _ = membership(real, generated, generated_radii, half=half)
    return PrecisionRecall(
        precision=float(np.mean(balls > 0)),
        recall=float(np.mean(recalled > 0)),
        density=float(balls.sum() / (k * len(balls))),
        coverage=float(np.mean(points > 0)),
    )


def radii(features: np.ndarray, *, k: int = 3) -> np.ndarray:
    """Distance of each of the points `[N, D]` to its k-th nearest neighbour, float64 `[N]`.

    Raises:
      ValueError: there are not so many.
    """
    if features.ndim != 2 or not 1 <= k < len(features):
        raise ValueError(f'k must be from 1 to the points less one, got {k} for {features.shape}')
    centre = _centre(features)
    found = []
    for i, (rows, count) in enumerate(_blocks(features, centre)):
        squared = jnp.full((len(rows), k + 1), jnp.inf, rows.dtype)
        index = jnp.zeros((len(rows), k + 1), jnp.int32)
        for j, (others, real) in enumerate(_blocks(features, centre)):
            squared, index = _nearest(squared, index, rows, others, j * BLOCK, real)
        # The point itself is among the k + 1, at distance 0.
        neighbours = features[np.asarray(index)[:count, k]].astype(np.float64)
        steps = neighbours - features[i * BLOCK : i * BLOCK + count]
        found.append(np.sqrt(np.sum(steps * steps, axis=1)))
    return np.concatenate(found)


def membership(
    probes: np.ndarray, centres: np.ndarray, radii: np.ndarray, *, half: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """How many balls each probe lies in, and how many probes each ball holds, int `[P]`, `[C]`.

    Args:
      probes: `[P, D]`.
      centres: `[C, D]`.
      radii: `[C]`.
      half: round distances to float16, as the radii then are.
    """
    centre = _centre(centres)
    balls, points = np.zeros(len(probes), np.int64), np.zeros(len(centres), np.int64)
    for i, (rows, row_count) in enumerate(_blocks(probes, centre)):
        at = slice(i * BLOCK, i * BLOCK + row_count)
        for j, (others, count) in enumerate(_blocks(centres, centre)):
            reach = np.zeros(len(others), rows.dtype)
            reach[:count] = radii[j * BLOCK : j * BLOCK + count]
            of_rows, of_balls = _count(rows, others, reach, row_count, count, half=half)
            balls[at] += np.asarray(of_rows)[:row_count]
            points[j * BLOCK : j * BLOCK + count] += np.asarray(of_balls)[:count]
    return balls, points


def _centre(features: np.ndarray) -> np.ndarray:
    return np.asarray(features).mean(axis=0, dtype=np.float64)


def _blocks(features: np.ndarray, centre: np.ndarray) -> Iterator[tuple[jax.Array, int]]:
    """(rows, how many are real): all of one size, the last filled up with zeros."""
    size = min(len(features), BLOCK)
    for begin in range(0, len(features), size):
        rows = np.asarray(features[begin : begin + size], np.float64) - centre
        filled = np.pad(rows, ((0, size - len(rows)), (0, 0)))
        yield jnp.asarray(filled, float), len(rows)  # float64 where that is enabled


@jax.jit
def _nearest(
    squared: jax.Array, index: jax.Array, rows: jax.Array, others: jax.Array, first: int, real: int
) -> tuple[jax.Array, jax.Array]:
    """The k + 1 nearest of each row, rising, when the points from `first` on have been seen too."""
    here = jnp.arange(len(others))[None]
    further = jnp.where(here < real, _squared(rows, others), jnp.inf)
    squared = jnp.concatenate([squared, further], axis=1)
    places = jnp.broadcast_to(here + first, further.shape).astype(index.dtype)
    values, order = jax.lax.top_k(-squared, index.shape[1])
    return -values, jnp.take_along_axis(jnp.concatenate([index, places], axis=1), order, axis=1)


@functools.partial(jax.jit, static_argnames='half')
def _count(
    rows: jax.Array,
    others: jax.Array,
    reach: jax.Array,
    real_rows: int,
    real_others: int,
    *,
    half: bool = False,
) -> tuple[jax.Array, jax.Array]:
    distance = jnp.sqrt(_squared(rows, others))
    if half:
        distance = distance.astype(jnp.float16).astype(reach.dtype)
    inside = distance <= reach[None]
    inside &= jnp.arange(len(others))[None] < real_others
    inside &= jnp.arange(len(rows))[:, None] < real_rows
    return inside.sum(axis=1), inside.sum(axis=0)


def _squared(a: jax.Array, b: jax.Array) -> jax.Array:
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None]
    return jnp.maximum(squares - 2 * product, 0)
