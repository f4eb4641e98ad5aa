"""PixelCNN++: what a pixel sees, how it starts, and whose dropout it is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses.likelihood import image_log_prob
from tests import autoregressive as tiny

WIDE = (4, 12)


@pytest.fixture(scope='module')
def started():
    """A model, its variables as `init` makes them of a real batch, and that batch."""
    model = tiny.plus_plus()
    pixels = jnp.asarray(tiny.images(model, 8, (8, 8)))
    return model, tiny.started(model, pixels)[1], pixels


@pytest.fixture(scope='module')
def descended():
    """A model, variables that are nowhere zero, and the same after a step of descent; float64."""
    model = tiny.plus_plus()
    pixels = tiny.images(model, 1, WIDE)
    with jax.enable_x64(True):
        variables = tiny.random_variables(model, pixels)
        moved = tiny.trained(model, variables, pixels, rate=1e-3)
    return model, variables, jax.tree.map(np.asarray, moved)


def test_after_training_a_pixel_sees_exactly_the_set_that_the_coarse_rows_leave(descended):
    model, _, variables = descended
    height, width = WIDE
    with jax.enable_x64(True):
        found = tiny.pixel_support(
            lambda x: model.apply(variables, x, method='network'), (*WIDE, 3), jax.random.key(0)
        )
    far = 4 * model.resnets + 2
    expected = np.tril(np.ones((height * width,) * 2, bool), -1)
    for i, j, k in itertools.product(range(1, height, 2), range(width), range(width)):
        if k < j - far:
            expected[i * width + j, i * width + k] = False
        if k > j + far:
            expected[i * width + j, (i - 1) * width + k] = False
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope='module')
def by_class():
    """A model of three levels and three classes, and what it says of a batch and its labels."""
    model = tiny.plus_plus(levels=3, num_classes=3)
    variables = tiny.random_variables(model, tiny.images(model, 1, (4, 4)), jnp.zeros(1, int))
    variables = jax.tree.map(lambda x: 0.5 * x, variables)
    apply = jax.jit(model.apply)
    return model, lambda pixels, label: np.asarray(apply(variables, pixels, label))


def test_all_values_of_a_pixel_sum_to_one_given_the_pixels_before(by_class):
    model, parameters = by_class
    pixels = tiny.images(model, 1, (4, 4))
    values = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
    every = np.repeat(pixels, 27, axis=0)
    every[:, 2, 1] = values
    params = parameters(every, np.full(27, 2))[:, 2, 1]
    logp = model.likelihood.log_prob(params, values)
    np.testing.assert_allclose(np.exp(np.float64(logp)).sum(), 1, atol=1e-5)


def test_every_layer_starts_with_mean_zero_and_its_scale_on_the_first_batch(started):
    model, variables, pixels = started
    _, kept = jax.jit(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable='intermediates')
    )(variables, pixels)
    kept = kept['intermediates']
    layers = {'out': 1.0, 'stem_above': 1.0, 'halve_1_ul': 1.0}
    for name, scale in layers.items():
        y = np.asarray(kept[name]['__call__'][0], np.float64)
        np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(y.std(axis=(0, 1, 2)), scale, rtol=1e-2)
    y = np.asarray(kept['up_1_0_ul']['conv_out']['__call__'][0], np.float64)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 0.1, rtol=1e-2)


def test_gradients_reach_every_parameter(descended):
    _, variables, moved = descended
    for (path, x), y in zip(
        jax.tree.leaves_with_path(variables), jax.tree.leaves(moved), strict=True
    ):
        assert (x != y).any(), path


def test_with_remat_every_block_is_recomputed_and_the_parameters_are_the_same(started):
    model, variables, pixels = started
    again = model.clone(remat=True)
    shapes = jax.eval_shape(again.init, jax.random.key(0), pixels)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    steps = jax.make_jaxpr(again.apply)(variables, pixels).eqns
    names = [step.primitive.name for step in steps]
    # Pairs of blocks at three resolutions: 1, 1, 1 on the way up and 1, 2, 2 down.
    assert names.count('checkpoint') + names.count('remat2') == 2 * 8


def test_images_of_four_pixels_a_side_start_in_scale_though_a_coarse_map_is_empty():
    model = tiny.plus_plus(features=2)
    pixels = jnp.asarray(tiny.images(model, 8, (4, 4)))
    output, variables = tiny.started(model, pixels)
    assert max(np.abs(np.asarray(x)).max() for x in jax.tree.leaves(variables)) < 1e3
    assert np.abs(np.asarray(output)).max() < 100


def test_dropout_is_each_examples_own(started):
    model, variables, pixels = started
    keys = jax.random.split(jax.random.key(1), len(pixels))
    score = jax.jit(
        lambda pixels, keys: image_log_prob(
            model.likelihood, model.apply(variables, pixels, dropout_keys=keys), pixels
        )
    )
    whole = score(pixels, keys)
    order = np.random.default_rng(0).permutation(len(pixels))
    np.testing.assert_allclose(score(pixels[order], keys[order]), whole[order], rtol=1e-4)
    other = score(pixels, jax.random.split(jax.random.key(2), len(pixels)))
    assert (np.asarray(other) != np.asarray(whole)).all()


def test_dropout_leaves_its_share_and_the_expectation():
    model = tiny.plus_plus(dropout=0.25, features=1, nonlinearity='relu')
    block = model.bind({}).up_blocks[0][0][0]
    # Ones pass conv_in unchanged; conv_out reads the pixel itself; the gate is open.
    identity = np.zeros((2, 3, 1, 1), np.float32)
    identity[1, 1] = 1
    only = {'scale': np.ones(1), 'bias': np.zeros(1)}
    params = {
        'conv_in': {'direction': identity, **only},
        'conv_out': {
            'direction': identity.repeat(2, axis=3),
            'scale': np.array([1.0, 1e-9]),
            'bias': np.array([0.0, 50.0]),
        },
    }
    keys = jax.random.split(jax.random.key(0), 200)
    x = jnp.ones((200, 4, 4, 1))
    added = jax.jit(
        lambda k: block.clone(parent=None).apply({'params': params}, x, None, None, k) - x
    )(keys)
    added = np.asarray(added)
    values = np.unique(added.round(4))
    np.testing.assert_allclose(values, [0, 1 / 0.75], atol=1e-3)
    assert abs((added > 0).mean() - 0.75) < 0.03


def test_conditions_and_choices_that_cannot_be_are_errors():
    model = tiny.plus_plus(num_classes=3)
    pixels = tiny.images(model, 1, (4, 4))
    with pytest.raises(ValueError, match='needs label'):
        model.init(jax.random.key(0), pixels)
    with pytest.raises(ValueError, match=r'multiples of 4, got \(4, 6\)'):
        model.init(jax.random.key(0), tiny.images(model, 1, (4, 6)), jnp.zeros(1, int))
    for fields, message in (
        (dict(colours=2), 'colours must be 1 or 3, got 2'),
        (dict(nonlinearity='tanh'), "nonlinearity must be one of .*, got 'tanh'"),
        (dict(dropout=1.0), 'dropout must be from 0 to below 1, got 1.0'),
        (dict(resnets=0), 'resnets must be positive, got 0'),
    ):
        with pytest.raises(ValueError, match=message):
            tiny.plus_plus(**fields)


def test_a_class_changes_what_the_network_says(by_class):
    model, parameters = by_class
    pixels = tiny.images(model, 1, (4, 4)).repeat(27, axis=0)
    said = parameters(pixels, np.arange(27) % 3)
    assert np.abs(said[0] - said[1]).max() > 0.1
    np.testing.assert_allclose(said[0], said[3], atol=1e-6)
