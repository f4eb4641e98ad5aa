"""The mapping network: the running mean, truncation, labels, the learning-rate multiplier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.mapping import MappingNetwork, normalize_second_moment

Z = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)


@pytest.fixture(scope='module')
def network():
    return MappingNetwork(7, 2, 0.1, average_decay=0.9)


@pytest.fixture(scope='module')
def variables(network):
    return network.init(jax.random.key(0), Z)


def average(variables):
    return np.asarray(variables['stats']['w_avg'])


def test_the_layers_are_their_formula(network, variables):
    x = Z / np.sqrt(np.mean(Z**2, axis=1, keepdims=True) + 1e-8)
    for i in range(2):
        layer = jax.device_get(variables['params'][f'layer_{i}'])
        x = x @ (layer['kernel'] * 0.1 / np.sqrt(x.shape[1])) + 0.1 * layer['bias']
        x = np.sqrt(2) * np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(network.apply(variables, Z), x, rtol=1e-5, atol=1e-6)


def test_stored_kernels_are_larger_by_the_multiplier_so_that_w_is_not():
    network = MappingNetwork(256, 4)
    w, variables = network.init_with_output(jax.random.key(0), np.resize(Z, (64, 256)))
    assert np.std(variables['params']['layer_0']['kernel']) == pytest.approx(100, rel=0.02)
    assert 0.5 < np.std(w) < 2


def test_the_average_moves_towards_the_mean_of_a_batch_only_when_asked(network, variables):
    assert not average(variables).any()
    w, moved = network.apply(variables, Z, update_average=True, mutable=['stats'])
    np.testing.assert_allclose(average(moved), 0.1 * np.mean(w, axis=0), rtol=1e-4, atol=1e-7)
    _, kept = network.apply(variables, Z, mutable=['stats'])
    assert not average(kept).any()


def test_no_gradient_goes_through_the_average(network, variables):
    def loss(params):
        _, moved = network.apply(
            {**variables, 'params': params}, Z, update_average=True, mutable=['stats']
        )
        return jnp.sum(moved['stats']['w_avg'])

    assert not any(np.any(g) for g in jax.tree.leaves(jax.grad(loss)(variables['params'])))


def test_truncation_interpolates_between_the_average_and_w(network, variables):
    mean = np.linspace(-1, 1, 7, dtype=np.float32)
    variables = {**variables, 'stats': {'w_avg': mean}}
    w = np.asarray(network.apply(variables, Z))
    np.testing.assert_array_equal(
        network.apply(variables, Z, truncation=0.0), np.broadcast_to(mean, w.shape)
    )
    np.testing.assert_allclose(network.apply(variables, Z, truncation=1.0), w, atol=1e-6)
    np.testing.assert_allclose(
        network.apply(variables, Z, truncation=0.7), mean + 0.7 * (w - mean), atol=1e-6
    )


def test_w_depends_on_the_label_and_each_example_on_its_own():
    network = MappingNetwork(7, 2, 0.1, num_classes=3)
    label = np.arange(16) % 3
    w, variables = network.init_with_output(jax.random.key(0), Z, label)
    other = label.copy()
    other[5] = (other[5] + 1) % 3
    changed = np.any(network.apply(variables, Z, other) != w, axis=1)
    np.testing.assert_array_equal(np.flatnonzero(changed), [5])


def test_a_label_without_classes_and_classes_without_a_label_are_errors(network, variables):
    with pytest.raises(ValueError, match='num_classes is 0 but a label was given'):
        network.apply(variables, Z, np.zeros(16, np.int32))
    with pytest.raises(ValueError, match='num_classes is 3 but no label was given'):
        MappingNetwork(7, 2, num_classes=3).init(jax.random.key(0), Z)


def test_the_length_of_z_does_not_matter():
    np.testing.assert_allclose(
        normalize_second_moment(Z), normalize_second_moment(100 * Z), rtol=1e-5
    )
    np.testing.assert_allclose(np.mean(np.square(normalize_second_moment(Z)), 1), 1, rtol=1e-5)


def test_w_of_every_layer_is_a_copy_that_truncation_may_spare(variables):
    network = MappingNetwork(7, 2, 0.1, average_decay=0.9, num_ws=4)
    variables = {**variables, 'stats': {'w_avg': np.linspace(-1, 1, 7, dtype=np.float32)}}
    plain = np.asarray(MappingNetwork(7, 2, 0.1).apply(variables, Z))
    np.testing.assert_array_equal(network.apply(variables, Z), np.stack([plain] * 4, 1))
    cut = np.asarray(network.apply(variables, Z, truncation=0.0, truncation_cutoff=3))
    np.testing.assert_array_equal(cut[:, 3], plain)
    np.testing.assert_array_equal(
        cut[:, :3], np.broadcast_to(np.linspace(-1, 1, 7, dtype=np.float32), (16, 3, 7))
    )


def test_w_can_be_a_function_of_the_label_alone_and_then_has_no_average():
    network = MappingNetwork(7, 2, num_classes=3, average_decay=None, label_features=5, hidden=6)
    label = np.array([2, 0, 2])
    w, variables = network.init_with_output(jax.random.key(0), None, label)
    assert set(variables) == {'params'}
    assert variables['params']['label']['kernel'].shape == (3, 5)
    assert variables['params']['layer_0']['kernel'].shape == (5, 6)
    np.testing.assert_array_equal(w[0], w[2])
    assert np.any(w[0] != w[1])
    vectors = np.eye(3, dtype=np.float32)[label]
    np.testing.assert_array_equal(network.apply(variables, None, vectors), w)
    with pytest.raises(ValueError, match='neither z nor a label'):
        MappingNetwork(7).init(jax.random.key(0), None)
