"""Inception score: the definition, its limits, and probabilities that underflow."""

import numpy as np
import pytest

from jaxgen.metrics.inception_score import inception_score


def slow(logits):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    marginal = p.mean(axis=0)
    return np.exp(np.mean([np.sum(row * np.log(row / marginal)) for row in p]))


def test_equals_the_slow_oracle_split_by_split():
    logits = np.random.default_rng(0).normal(scale=2, size=(47, 9))
    found = inception_score(logits, splits=4)
    expected = [slow(part) for part in np.split(logits, [11, 23, 35])]
    np.testing.assert_allclose(found.per_split, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mean, np.mean(expected), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, np.std(expected), rtol=1e-12)


def test_sure_and_balanced_gives_the_number_of_classes_and_unsure_gives_1():
    sure = np.tile(1e4 * np.eye(7), (3, 1))  # e^-10000 is 0 in any float
    np.testing.assert_allclose(inception_score(sure, splits=3).per_split, 7)
    np.testing.assert_allclose(inception_score(np.ones((9, 7)), splits=1).mean, 1)
    # All the same class: sure, but nothing varies.
    np.testing.assert_allclose(inception_score(sure[:1].repeat(5, axis=0), splits=1).mean, 1)


def test_a_constant_added_to_an_images_logits_does_not_matter():
    draw = np.random.default_rng(1)
    logits = draw.normal(size=(20, 5))
    moved = logits + draw.normal(scale=500, size=(20, 1))
    found, expected = (inception_score(x, splits=2).per_split for x in (moved, logits))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_more_splits_than_rows_are_refused():
    with pytest.raises(ValueError, match=r'1 to N splits, got 10 for \(9, 4\)'):
        inception_score(np.zeros((9, 4)))
