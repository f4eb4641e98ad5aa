"""Masks against the order of sub-pixels, convolutions against loops, levels against rounding."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops import causal_conv as ops


@pytest.mark.parametrize('kind', ['A', 'B'])
@pytest.mark.parametrize(
    ('kernel_size', 'centre'), [((3, 5), None), ((1, 3), (0, 2)), ((3, 3), (2, 1))]
)
def test_a_tap_is_open_exactly_if_its_sub_pixel_comes_before(kind, kernel_size, centre):
    groups_in, groups_out = ops.colour_groups(4, 3), ops.colour_groups(10, 3, parts=2)
    mask = ops.causal_mask(kernel_size, kind, groups_in, groups_out, centre=centre)
    row, column = centre or (kernel_size[0] // 2, kernel_size[1] // 2)
    for index in np.ndindex(mask.shape):
        here = (row, column, groups_out[index[3]])
        there = (index[0], index[1], groups_in[index[2]])
        assert mask[index] == (there < here or (kind == 'B' and there == here))


@pytest.mark.parametrize(('channels', 'parts'), [(9, 1), (10, 1), (11, 1), (16, 2), (20, 4)])
def test_groups_are_contiguous_near_equal_and_the_same_in_each_part(channels, parts):
    groups = ops.colour_groups(channels, 3, parts=parts).reshape(parts, -1)
    assert (groups == groups[0]).all()
    assert (np.diff(groups[0]) >= 0).all()
    sizes = np.bincount(groups[0], minlength=3)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(sizes) <= 0).all()


def test_an_unknown_kind_of_mask_is_an_error():
    with pytest.raises(ValueError, match='must be one of'):
        ops.causal_mask((3, 3), 'C', np.zeros(1), np.zeros(1))


def test_a_causal_convolution_equals_a_loop_over_its_taps():
    rng = np.random.default_rng(0)
    x, centre = rng.normal(size=(2, 4, 5, 2)), (2, 1)
    kernel = rng.normal(size=(3, 4, 2, 3))
    kernel[3:] = 0
    expected = np.zeros((2, 4, 5, 3))
    for i, j, a, c in np.ndindex(4, 5, 3, 4):
        row, column = i + a - centre[0], j + c - centre[1]
        if 0 <= row < 4 and 0 <= column < 5:
            expected[:, i, j] += x[:, row, column] @ kernel[a, c]
    np.testing.assert_allclose(ops.causal_conv(x, kernel, centre), expected, atol=1e-4)


def test_a_transposed_convolution_equals_a_loop_over_its_taps():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 3, 2, 5))
    expected = np.zeros((2, 6, 9, 5))
    for i, j, a, c in np.ndindex(3, 4, 2, 3):
        expected[:, 2 * i + a, 2 * j + c] += x[:, i, j] @ kernel[a, c]
    np.testing.assert_allclose(ops.transposed_conv(x, kernel), expected, atol=1e-4)


@pytest.mark.parametrize('count', [2, 3, 32, 256])
def test_levels_survive_the_way_to_floats_and_back(count):
    levels = jnp.arange(count)
    x = ops.centred(levels, count)
    assert x.dtype == jnp.float32
    assert (x[0], x[-1]) == (-1, 1)
    np.testing.assert_array_equal(ops.nearest_level(x, count), levels)
    # Up to half a bin away, and beyond the ends.
    near = x + 0.98 / (count - 1) * np.where(np.arange(count) % 2, 1, -1)
    np.testing.assert_array_equal(ops.nearest_level(near, count), levels)


def test_floats_are_not_taken_for_levels():
    with pytest.raises(ValueError, match='must be integers, got float32'):
        ops.centred(jnp.zeros(3), 256)
