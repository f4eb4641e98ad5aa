"""Precision and recall: the definition with loops, blocks that do not show, known sets."""

import numpy as np
import pytest

from jaxgen.metrics import precision_recall as pr


def cloud(seed, count, width=5, at=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(at, spread, size=(count, width)).astype(np.float32)


def slow(real, generated, k):
    def distances(a, b):
        return np.array([[np.linalg.norm(x - y) for y in b] for x in a.astype(np.float64)])

    def radii(points):
        return [
            np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(distances(points, points))
        ]

    in_real = distances(generated, real) <= radii(real)
    in_generated = distances(real, generated) <= radii(generated)
    return [
        in_real.any(axis=1).mean(),
        in_generated.any(axis=1).mean(),
        in_real.sum() / (k * len(generated)),
        in_real.any(axis=0).mean(),
    ]


@pytest.mark.parametrize('block', [7, 64, 4096])
@pytest.mark.parametrize('k', [1, 3])
def test_equals_the_slow_oracle_however_the_sets_are_cut_into_blocks(monkeypatch, k, block):
    monkeypatch.setattr(pr, 'BLOCK', block)
    real, generated = cloud(0, 60), cloud(1, 50, at=0.5, spread=0.7)
    found = pr.precision_recall(real, generated, k=k)
    np.testing.assert_allclose(found, slow(real, generated, k), rtol=1e-12)


def test_a_set_has_all_of_itself():
    x = cloud(2, 40)
    assert pr.precision_recall(x, x)[:2] == (1, 1)
    assert pr.precision_recall(x, x, half=True)[:2] == (1, 1)


def test_far_sets_have_nothing_of_each_other():
    assert pr.precision_recall(cloud(3, 30), cloud(4, 30, at=100)) == (0, 0, 0, 0)


def test_a_narrow_generator_is_precise_and_recalls_little():
    real, narrow = cloud(5, 200), cloud(6, 200, spread=0.2)
    found = pr.precision_recall(real, narrow)
    assert found.precision > 0.95
    assert found.recall < 0.2
    turned = pr.precision_recall(narrow, real)
    assert (turned.precision, turned.recall) == (found.recall, found.precision)


def test_recall_falls_with_every_mode_that_is_dropped():
    modes = [cloud(i, 40, at=20 * i) for i in range(4)]
    real = np.concatenate(modes)
    copies = [np.concatenate([cloud(9 + i, 40, at=20 * i) for i in range(n)]) for n in (1, 2, 3, 4)]
    found = [pr.precision_recall(real, generated) for generated in copies]
    assert all(a.recall < b.recall - 0.1 for a, b in zip(found, found[1:], strict=False))
    assert all(a.coverage < b.coverage - 0.1 for a, b in zip(found, found[1:], strict=False))


def test_a_common_vector_far_away_changes_no_decision():
    real, generated = cloud(7, 80), cloud(8, 70, at=0.3)
    far = np.float32(64)  # adding it costs float32 few of the digits
    found = pr.precision_recall(real + far, generated + far)
    np.testing.assert_allclose(found, pr.precision_recall(real, generated), atol=0.02)


def test_half_precision_is_that_of_features_radii_and_distances():
    real, generated = cloud(10, 60), cloud(11, 50, at=0.5)
    rounded = [x.astype(np.float16).astype(np.float32) for x in (real, generated)]
    radii = [pr.radii(x).astype(np.float16) for x in rounded]
    inside = pr.membership(rounded[1], rounded[0], radii[0], half=True)[0] > 0
    assert pr.precision_recall(real, generated, half=True).precision == inside.mean()
    # Beyond the ball by less than float16 can tell.
    probe, ball, radius = np.array([[1.0002]]), np.array([[0.0]]), np.ones(1)
    assert pr.membership(probe, ball, radius)[0] == 0
    assert pr.membership(probe, ball, radius, half=True)[0] == 1


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match='k must be from 1'):
        pr.precision_recall(cloud(0, 3), cloud(1, 9), k=3)
    with pytest.raises(ValueError, match='same features'):
        pr.precision_recall(cloud(0, 9), cloud(1, 9, width=4))
