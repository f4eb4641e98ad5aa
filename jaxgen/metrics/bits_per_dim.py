"""Bits per dimension from log-likelihoods in nats, for 8-bit values.

A model of 8-bit values gives probabilities: their bits are bits. A model of dequantised values
v in [0, 256) gives a density, which counts in the unit that the model sees v in. With v / s the
density is s times that of v for each dimension, so log2 s bits are added back:

    scale s      values
    1            v in [0, 256)
    256          v / 256
    255          v / 255
    127.5        v / 127.5 - 1
"""

import math

import numpy as np


def from_probability(nats: np.ndarray, dims: np.ndarray | int) -> np.ndarray:
    """Bits per dimension of images with -ln P of `nats`, each of `dims` = H·W·C values."""
    return np.asarray(nats, np.float64) / (np.asarray(dims) * math.log(2))


def from_density(log_density: np.ndarray, dims: np.ndarray | int, *, scale: float) -> np.ndarray:
    """Bits per dimension of images with the log density ln p in nats, for values v / `scale`.

    Raises:
      ValueError: the scale is not positive.
    """
    if not scale > 0:
        raise ValueError(f'scale must be positive, got {scale}')
    return from_probability(-np.asarray(log_density, np.float64), dims) + math.log2(scale)


def set_mean(bits: np.ndarray) -> float:
    """The figure of a data set: the mean over its images, each once, whatever its size."""
    return float(np.mean(bits))
