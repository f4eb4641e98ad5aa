"""PixelCNN and Gated PixelCNN: what a sub-pixel sees, what conditions do, which sizes there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses.likelihood import bits_per_dim, image_log_prob
from jaxgen.models.pixelcnn_autoencoder import (
    MSEAutoencoder,
    PixelCNNAutoencoder,
    squared_error,
)
from jaxgen.ops.causal_conv import colour_groups
from tests import autoregressive as tiny

SHAPE = (4, 5, 3)
TRIANGLE = np.tril(np.ones((60, 60), bool), -1)
MODELS = {
    'masked': tiny.masked(),
    'gated': tiny.gated(),
    'gated_link': tiny.gated(shift='link'),
    'row': tiny.recurrent('row'),
    'diagonal': tiny.recurrent('diagonal'),
}


@pytest.mark.parametrize('name', MODELS)
def test_a_sub_pixel_sees_only_those_before_it_also_after_training(name):
    model = MODELS[name]
    pixels = tiny.images(model, 2, SHAPE[:2])

    def network(variables, x):
        y = model.apply(variables, x, method='network')
        return y.reshape(*y.shape[:3], -1)

    groups = np.repeat(np.arange(model.colours), model.levels)
    with jax.enable_x64(True):
        before = tiny.random_variables(model, pixels)
        after = tiny.trained(model, before, pixels)
        found = tiny.supports(network, (before, after), groups, SHAPE, jax.random.key(0))
    for seen in found:
        assert not (seen & ~TRIANGLE).any()
        # Not because nothing depends on anything.
        assert seen.sum() > TRIANGLE.sum() / 2
    # Gradients have reached every parameter.
    for (path, x), y in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (x != np.asarray(y)).any(), path


@pytest.mark.parametrize(
    ('model', 'blind'),
    [
        (tiny.masked(blocks=4), True),
        (tiny.gated(blocks=5), False),
        (tiny.gated(blocks=5, shift='link'), False),
        (tiny.gated(blocks=3, kernel_size=5), False),
    ],
)
def test_the_masked_network_has_a_blind_spot_and_the_gated_one_has_none(model, blind):
    pixels = tiny.images(model, 1, SHAPE[:2])
    with jax.enable_x64(True):
        variables = tiny.random_variables(model, pixels)
        groups = colour_groups(2 * model.features if blind else model.features, 3)
        found = tiny.support(
            lambda x: model.apply(variables, x, method='body'), groups, SHAPE, jax.random.key(0)
        )
    assert not (found & ~TRIANGLE).any()
    missing = TRIANGLE & ~found
    assert missing.any() == blind
    if blind:
        # The cone of 3×3 kernels: from the last row, a far pixel of the row above on the right.
        here, there = 3 * 5 * 3 + 2, (2 * 5 + 4) * 3
        assert missing[here, there]


@pytest.mark.parametrize('name', MODELS)
def test_a_head_of_zeros_costs_exactly_log2_of_the_levels(name):
    model = MODELS[name]
    pixels = tiny.images(model, 2, SHAPE[:2])
    variables = tiny.random_variables(model, pixels)
    zeros = jax.tree.map(jnp.zeros_like, variables['params']['head']['second'])
    variables['params']['head']['second'] = zeros
    logits = jax.jit(model.apply)(variables, pixels)
    total, count = bits_per_dim(image_log_prob(model.likelihood, logits, pixels), pixels[0].size)
    np.testing.assert_allclose(total / count, np.log2(model.levels), rtol=1e-6)


@pytest.mark.parametrize('colours', [1, 2, 3])
@pytest.mark.parametrize('levels', [2, 256])
@pytest.mark.parametrize('size', [(1, 1), (3, 8)])
def test_any_number_of_levels_colours_and_pixels(colours, levels, size):
    for make in (tiny.masked, tiny.gated, lambda **f: tiny.recurrent('diagonal', **f)):
        model = make(colours=colours, levels=levels)
        pixels = jnp.zeros((2, *size, colours), jnp.int32)
        logits = jax.eval_shape(
            lambda key, x, m=model: m.init_with_output(key, x)[0], jax.random.key(0), pixels
        )
        assert logits.shape == (2, *size, colours, levels)
        assert logits.dtype == jnp.float32


def folded(params, model, label):
    """The parameters of an unconditional network that is `model` at one class."""
    params = jax.tree.map(np.asarray, params)
    result = {}
    for name, block in params.items():
        if not name.startswith('block_'):
            result[name] = block
            continue
        v = block['cond_v']['kernel'][0, 0, label]
        h = block['cond_h']['kernel'][0, 0, label]
        if model.link == 'pre':  # The link reads the vertical maps without it.
            h = h - v @ block['v2h']['kernel'][0, 0]
        kept = {key: layer for key, layer in block.items() if not key.startswith('cond')}
        kept['v'] = {**block['v'], 'bias': block['v']['bias'] + v}
        kept['h'] = {**block['h'], 'bias': block['h']['bias'] + h}
        result[name] = kept
    return result


@pytest.mark.parametrize('link', ['pre', 'post'])
def test_a_class_is_a_bias_of_every_layer(link):
    model = tiny.gated(num_classes=4, link=link)
    pixels = tiny.images(model, 1, (4, 4))
    label = jnp.array([2])
    variables = tiny.random_variables(model, pixels, label=label)
    expected = jax.jit(model.apply)(variables, pixels, label)
    plain = model.clone(num_classes=0)
    params = folded(variables['params'], model, 2)
    found = jax.jit(plain.apply)({'params': params}, pixels)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    other = jax.jit(model.apply)(variables, pixels, jnp.array([3]))
    assert float(jnp.abs(other - expected).max()) > 0.1


def test_a_constant_map_is_the_same_as_a_vector():
    by_vector, by_map = tiny.gated(embedding=4), tiny.gated(spatial=4)
    pixels, h = tiny.images(by_vector, 2, (4, 4)), np.float32([[1, -2, 0.5, 3], [0, 1, 1, -1]])
    variables = tiny.random_variables(by_vector, pixels, embedding=h)
    renamed = {
        name: {key.replace('cond_', 'spat_'): layer for key, layer in block.items()}
        for name, block in variables['params'].items()
    }
    s = jnp.broadcast_to(h[:, None, None], (2, 4, 4, 4))
    np.testing.assert_allclose(
        jax.jit(lambda v, x: by_map.apply(v, x, spatial=s))({'params': renamed}, pixels),
        jax.jit(lambda v, x: by_vector.apply(v, x, embedding=h))(variables, pixels),
        atol=1e-4,
    )


def test_a_map_made_from_the_class_differs_from_place_to_place():
    model = tiny.gated(num_classes=3, spatial=2, spatial_widths=(4, 3))
    pixels, label = tiny.images(model, 1, (5, 6)), jnp.array([1])
    variables = tiny.random_variables(model, pixels, label=label)

    def spatial(variables):
        return model.apply(variables, (5, 6), label, None, None, method='condition').map

    s = jax.jit(spatial)(variables)
    assert s.shape == (1, 5, 6, 2)
    assert float(s.std(axis=(1, 2)).min()) > 0.1


@pytest.mark.parametrize(
    ('fields', 'given', 'message'),
    [
        (dict(num_classes=3), {}, 'needs label'),
        ({}, dict(label=jnp.zeros(1, int)), 'takes no label'),
        (dict(embedding=2), {}, 'needs embedding'),
        (dict(spatial=2), {}, 'needs spatial'),
    ],
)
def test_a_condition_that_is_missing_or_too_much_is_an_error(fields, given, message):
    model = tiny.gated(**fields)
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), tiny.images(model, 1, (2, 2)), **given)


@pytest.mark.parametrize(
    ('make', 'fields', 'message'),
    [
        (tiny.gated, dict(kernel_size=4), 'kernel_size must be odd and 3 or more, got 4'),
        (tiny.gated, dict(features=2), 'features must be 3 or more, one for each colour, got 2'),
        (tiny.gated, dict(shift='down'), "shift must be one of .*, got 'down'"),
        (tiny.gated, dict(spatial=2, spatial_widths=(4,)), 'spatial=2 and neither'),
        (tiny.masked, dict(levels=1), 'levels must be 2 or more, got 1'),
        (tiny.masked, dict(first_kernel=4), 'first_kernel must be odd and 3 or more, got 4'),
    ],
)
def test_choices_that_cannot_be_fail_at_construction(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_recomputing_blocks_changes_no_number():
    model = tiny.gated(blocks=2)
    pixels = tiny.images(model, 1, (3, 3))
    variables = tiny.random_variables(model, pixels)
    before = jax.tree.leaves(tiny.trained(model, variables, pixels))
    after = jax.tree.leaves(tiny.trained(model.clone(remat=True), variables, pixels))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    again = model.clone(remat=True)
    assert again.apply(variables, 1, (3, 3), method='steps').start()[0][0].shape == (1, 1, 3, 3)


@pytest.mark.parametrize('name', ['masked', 'row', 'diagonal'])
def test_with_remat_every_block_is_recomputed_and_the_parameters_are_the_same(name):
    model, again = MODELS[name], MODELS[name].clone(remat=True)
    pixels = tiny.images(model, 1, (3, 3))
    variables, shapes = (jax.eval_shape(m.init, jax.random.key(0), pixels) for m in (model, again))
    assert variables == shapes
    steps = jax.make_jaxpr(again.apply)(variables, pixels).eqns
    blocks = sum(step.primitive.name in ('checkpoint', 'remat2') for step in steps)
    assert blocks == (model.blocks if name == 'masked' else model.layers)


def test_the_autoencoder_is_its_decoder_given_the_code():
    model = PixelCNNAutoencoder(tiny.gated(embedding=4, blocks=2), widths=(3, 5))
    pixels = tiny.images(model, 2, (5, 6))
    variables = tiny.random_variables(model, pixels)
    code = jax.jit(lambda v, x: model.apply(v, x, method='encode'))(variables, pixels)
    assert code.shape == (2, 4)
    logits = jax.jit(
        lambda v, x, h: model.decoder.apply({'params': v['params']['decoder']}, x, embedding=h)
    )(variables, pixels, code)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, pixels), logits, rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match='got embedding=0'):
        PixelCNNAutoencoder(tiny.gated())


def test_the_other_decoder_learns_from_squared_error_at_any_size():
    model = MSEAutoencoder(code=4, widths=(3, 5), levels=5)
    pixels = tiny.images(model, 2, (5, 6))
    variables = tiny.random_variables(model, pixels)

    def loss(variables):
        return squared_error(model.apply(variables, pixels), pixels, model.levels).mean()

    value, gradients = jax.jit(jax.value_and_grad(loss))(variables)
    assert value > 0
    assert all(np.asarray(g).any() for g in jax.tree.leaves(gradients))
    perfect = squared_error(jnp.array([[[[-1.0], [0.5]]]]), jnp.array([[[[0], [3]]]]), 5)
    np.testing.assert_array_equal(perfect, [0])


@pytest.mark.parametrize('name', ['masked', 'gated', 'row', 'diagonal', 'plus_plus'])
def test_maps_in_half_precision_give_nearly_the_same_parameters_in_float32(name):
    model = MODELS.get(name, tiny.plus_plus())
    pixels = tiny.images(model, 1, (4, 4))
    variables = jax.tree.map(lambda x: 0.3 * x, tiny.random_variables(model, pixels))
    expected = jax.jit(model.apply)(variables, pixels)
    model = model.clone(dtype=jnp.bfloat16)
    found = jax.jit(model.apply)(variables, pixels)
    _, kept = jax.eval_shape(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable='intermediates'),
        variables,
        pixels,
    )
    # All but the parameters that come out.
    maps = jax.tree.leaves(kept['intermediates'])
    assert sum(x.dtype == jnp.bfloat16 for x in maps) >= len(maps) - 2
    assert found.dtype == jnp.float32
    assert 0 < float(jnp.abs(found - expected).max()) < 0.1 * float(jnp.abs(expected).max())
