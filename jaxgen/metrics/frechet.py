"""Fréchet distance of two Gaussians, the D of FID (Heusel et al. 2017, section 'FID').

    d² = |μ1 - μ2|² + tr Σ1 + tr Σ2 - 2 tr √(Σ1 Σ2)

The reported number is this d², without a root. With factors Σ1 = F1 F1ᵀ and Σ2 = F2 F2ᵀ the last
trace is the sum of the singular values of F1ᵀ F2. That is real and exact for any rank, and it takes
no root of a product's eigenvalues, in which half of the digits of the small ones would be lost. So
nothing is added to a singular covariance, and no imaginary part is thrown away.

The name of a FID must say the network, the resize and the covariance's ddof (`metrics.stats`); see
`metrics.resize` for the protocols. Everything here is float64 on the host.
"""

import numpy as np

from jaxgen.metrics.stats import Moments


def frechet_distance(a: Moments, b: Moments, *, ddof: int = 1) -> float:
    """d² of two sets' moments; ddof=1 as pytorch-fid, 0 as `fid50k_full`."""
    return gaussian_distance(a.mean, a.covariance(ddof), b.mean, b.covariance(ddof))


def gaussian_distance(
    mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray
) -> float:
    """d² of means `[D]` and covariances `[D, D]`; singular ones are fine.

    Raises:
      ValueError: shapes don't go together, or something is not finite.
    """
    arrays = [np.asarray(x, np.float64) for x in (mean1, covariance1, mean2, covariance2)]
    mean1, covariance1, mean2, covariance2 = arrays
    width = len(mean1)
    if [x.shape for x in arrays] != [(width,), (width, width)] * 2:
        raise ValueError(f'means and covariances do not match: {[x.shape for x in arrays]}')
    if not all(np.isfinite(x).all() for x in arrays):
        raise ValueError('means and covariances must be finite')
    factors = _factor(covariance1), _factor(covariance2)
    traces = np.trace(covariance1) + np.trace(covariance2)
    return _distance(mean1 - mean2, traces, *factors)


def feature_distance(x: np.ndarray, y: np.ndarray, *, ddof: int = 1) -> float:
    """d² of features `[N, D]` and `[M, D]` that are all there, any N and M above ddof.

    The most exact way: the factors come from the features themselves, by QR.

    Raises:
      ValueError: too few rows, or different D.
    """
    x, y = (np.asarray(features, np.float64) for features in (x, y))
    if min(len(x), len(y)) <= ddof or x.shape[1] != y.shape[1]:
        raise ValueError(
            f'features must be [N, D] with one D and N above ddof={ddof}, got {x.shape}, {y.shape}'
        )
    factors = [
        np.linalg.qr(features - features.mean(axis=0), mode='r').T / np.sqrt(len(features) - ddof)
        for features in (x, y)
    ]
    traces = sum(np.sum(factor**2) for factor in factors)
    return _distance(x.mean(axis=0) - y.mean(axis=0), traces, *factors)


def _distance(shift: np.ndarray, traces: float, f1: np.ndarray, f2: np.ndarray) -> float:
    roots = np.linalg.svd(f1.T @ f2, compute_uv=False)
    return float(shift @ shift + traces - 2 * roots.sum())


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F `[D, rank]` with F Fᵀ = the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    # Smaller ones are rounding, of either sign.
    there = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, there] * np.sqrt(values[there])
