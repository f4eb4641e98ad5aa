"""Minibatch statistics against plain numpy."""

import numpy as np
import pytest

from jaxgen.nn.minibatch_std import minibatch_std

X = np.random.default_rng(0).normal(size=(8, 3, 2, 6)).astype(np.float32)


def by_numpy(x, group, features, grouping):
    batch, _, _, channels = x.shape
    groups = batch // group
    result = np.zeros((*x.shape[:3], features))
    for b in range(batch):
        if grouping == 'contiguous':
            members = [i for i in range(batch) if i // group == b // group]
        else:
            members = [i for i in range(batch) if i % groups == b % groups]
        assert len(members) == group
        deviation = np.sqrt(np.var(x[members].astype(np.float64), axis=0) + 1e-8)
        for f in range(features):
            part = slice(f * channels // features, (f + 1) * channels // features)
            result[b, :, :, f] = deviation[..., part].mean()
    return np.concatenate([x, result], axis=-1)


@pytest.mark.parametrize('grouping', ['contiguous', 'strided'])
@pytest.mark.parametrize(('group', 'features'), [(4, 1), (2, 3), (8, 2)])
def test_is_the_mean_deviation_within_each_group(group, features, grouping):
    y = minibatch_std(X, group=group, features=features, grouping=grouping)
    np.testing.assert_allclose(y, by_numpy(X, group, features, grouping), atol=1e-6)


def test_the_groupings_are_a_permutation_of_the_batch_apart():
    order = np.arange(8).reshape(4, 2).T.reshape(-1)
    contiguous = np.asarray(minibatch_std(X[order], group=4))
    strided = np.asarray(minibatch_std(X, group=4, grouping='strided'))
    np.testing.assert_allclose(contiguous, strided[order], atol=1e-6)
    assert np.abs(np.asarray(minibatch_std(X, group=4)) - strided).max() > 1e-3


def test_a_batch_smaller_than_a_group_is_one_group():
    y = minibatch_std(X[:3], group=4)
    np.testing.assert_allclose(y, by_numpy(X[:3], 3, 1, 'contiguous'), atol=1e-6)


def test_a_batch_that_does_not_divide_is_an_error_with_both_numbers():
    with pytest.raises(ValueError, match=r'minibatch_std_group=4 or a multiple.*got 6'):
        minibatch_std(X[:6], group=4)
