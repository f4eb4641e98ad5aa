"""Kernel inception distance (Bińkowski et al. 2018, 'Demystifying MMD GANs', section 4).

The squared maximum mean discrepancy with the kernel k(x, y) = (x·y / D + 1)³, as the estimate
without bias, is averaged over subsets of both sets: 100 subsets of at most 1000 in NVIDIA's code
(`kid50k_full`), torch-fidelity and clean-fid. It can be negative, and for one set on both sides it
is. Often 1000 times the number is printed; not here.

In float64 on the host: the result is a small difference of large means.
"""

from typing import NamedTuple

import numpy as np

Subsets = tuple[np.ndarray, np.ndarray]


class KernelDistance(NamedTuple):
    """Over subsets: the mean, the deviation (dividing by their number), and each, `[S]`."""

    mean: float
    deviation: float
    per_subset: np.ndarray


def draw_subsets(
    seed: int, generated: int, real: int, *, count: int = 100, size: int = 1000
) -> Subsets:
    """Row numbers `[count, m]` into each set, m = min(size, both sets), distinct within a row."""
    size = min(size, generated, real)
    draw = np.random.default_rng(seed)
    pairs = [
        [draw.choice(rows, size, replace=False) for rows in (generated, real)] for _ in range(count)
    ]
    rows = np.array(pairs, np.int64).reshape(count, 2, size)
    return rows[:, 0], rows[:, 1]


def kernel_distance(generated: np.ndarray, real: np.ndarray, subsets: Subsets) -> KernelDistance:
    """Compares generated[subsets[0][s]] with real[subsets[1][s]] for each s.

    Args:
      generated: features `[N, D]`.
      real: features `[M, D]`.
      subsets: int `[S, m]` for each set, as of `draw_subsets`.

    Raises:
      ValueError: as `squared_mmd`; no subsets.
    """
    pairs = zip(*subsets, strict=True)
    values = np.array([squared_mmd(generated[rows], real[others]) for rows, others in pairs])
    if not len(values):
        raise ValueError('there must be a subset, got none')
    return KernelDistance(float(values.mean()), float(values.std()), values)


def squared_mmd(
    x: np.ndarray, y: np.ndarray, *, degree: int = 3, gamma: float | None = None, coef0: float = 1.0
) -> float:
    """MMD² of x `[m, D]` and y `[n, D]` without bias; the kernel is (gamma x·y + coef0)^degree.

    Args:
      gamma: 1 / D if None.

    Raises:
      ValueError: fewer than 2 rows, or different D.
    """
    x, y = (np.asarray(features, np.float64) for features in (x, y))
    m, n, width = len(x), len(y), x.shape[1]
    if min(m, n) < 2 or y.shape[1] != width:
        raise ValueError(f'features must be [2 or more, D] with one D, got {x.shape}, {y.shape}')
    gamma = 1 / width if gamma is None else gamma

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (gamma * (a @ b.T) + coef0) ** degree

    within = 0.0
    for features, count in ((x, m), (y, n)):
        k = kernel(features, features)
        # Not of a row with itself: that would be the bias.
        within += (k.sum() - np.trace(k)) / (count * (count - 1))
    return float(within - 2 * kernel(x, y).mean())
