"""Inception score (Salimans et al. 2016, section 4): exp of the mean KL of p(y|x) from p(y).

`is50k`: 50,000 images in 10 splits in order, split i with rows i·N // splits to
(i + 1)·N // splits, softmax over all 1008 outputs of the FID Inception network without the bias of
the last layer (`metrics.inception.Outputs.unbiased_logits`). p(y) is the mean over the split. From
logits, not probabilities: one that underflows to 0 must contribute 0, not NaN. float64 on the host.
"""

from typing import NamedTuple

import numpy as np


class InceptionScore(NamedTuple):
    """Over splits: the mean, the deviation (dividing by their number), and each, `[splits]`."""

    mean: float
    deviation: float
    per_split: np.ndarray


def inception_score(logits: np.ndarray, *, splits: int = 10) -> InceptionScore:
    """The score of logits `[N, classes]`.

    Raises:
      ValueError: fewer rows than splits.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise ValueError(f'there must be 1 to N splits, got {splits} for {logits.shape}')
    scores = []
    for i in range(splits):
        rows = logits[i * len(logits) // splits : (i + 1) * len(logits) // splits]
        log_p = rows - _log_sum_exp(rows, axis=1)
        # ln p(y), from ln p(y|x), so that a class that nobody names stays finite or -∞ times 0.
        log_marginal = _log_sum_exp(log_p, axis=0) - np.log(len(rows))
        divergence = np.sum(np.exp(log_p) * (log_p - log_marginal), axis=1)
        scores.append(np.exp(divergence.mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), np.array(scores))


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    top = x.max(axis=axis, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))
