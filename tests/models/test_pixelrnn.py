"""PixelRNN: diagonals, and exactly which pixels the Diagonal BiLSTM misses."""

import jax
import numpy as np
import pytest

from jaxgen.models.pixelrnn import DiagonalBiLSTM, RowLSTM, skew, unskew
from tests import autoregressive as tiny


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (4, 3), (3, 6)])
def test_a_column_of_the_skewed_image_is_a_diagonal(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 2)).astype(np.float32)
    skewed = np.asarray(skew(x))
    expected = np.zeros((2, height, height + width - 1, 2))
    for i, j in np.ndindex(height, width):
        expected[:, i, i + j] = x[:, i, j]
    np.testing.assert_array_equal(skewed, expected)
    np.testing.assert_array_equal(unskew(skewed), x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell_step(sums, cell):
    o, f, i, g = np.split(sums, 4, axis=-1)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def test_the_diagonal_lstm_equals_a_loop_over_pixels():
    layer = DiagonalBiLSTM(3, colours=1)
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    variables = tiny.random_variables(layer, x)
    params = jax.tree.map(np.float64, variables['params'])

    def walk(x, of_input, of_state):
        sums = x @ of_input['kernel'][0, 0] + of_input['bias']
        h, c = np.zeros((2, 1, 5, 6, 3))
        for i, j in np.ndindex(4, 5):
            above, left = h[:, i, j + 1], h[:, i + 1, j]
            here = sums[:, i, j] + above @ of_state['kernel'][0, 0]
            here = here + left @ of_state['kernel'][1, 0]
            h[:, i + 1, j + 1], c[:, i + 1, j + 1] = cell_step(here, c[:, i + 1, j])
        return h[:, 1:, 1:]

    expected = walk(x, params['left_input'], params['left_state'])
    right = walk(x[:, :, ::-1], params['right_input'], params['right_state'])[:, :, ::-1]
    expected[:, 1:] += right[:, :-1]
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=1e-5)


def test_the_row_lstm_equals_a_loop_over_rows():
    layer = RowLSTM(2, kernel=1, colours=1)
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    variables = tiny.random_variables(layer, x)
    params = jax.tree.map(np.float64, variables['params'])
    h, c, expected = np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), []
    for i in range(3):
        sums = x[:, i] @ params['input']['kernel'][0, 0] + params['input']['bias']
        around = np.pad(h, ((0, 0), (1, 1), (0, 0)))
        for tap in range(3):
            sums = sums + around[:, tap : tap + 4] @ params['state']['kernel'][0, tap]
        h, c = cell_step(sums, c)
        expected.append(h)
    found = jax.jit(layer.apply)(variables, x)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize(('side', 'layers'), [(3, 1), (5, 2)])
def test_the_diagonal_lstm_misses_one_pixel_of_the_row_above_and_no_other(side, layers):
    model = tiny.recurrent('diagonal', colours=1, first_kernel=side, layers=layers)
    height, width = shape = (3, 6)
    pixels = tiny.images(model, 1, shape)
    with jax.enable_x64(True):
        variables = tiny.random_variables(model, pixels)
        found = tiny.pixel_support(
            lambda x: model.apply(variables, x, method='body'), (*shape, 1), jax.random.key(0)
        )
    expected = np.tril(np.ones((height * width,) * 2, bool), -1)
    for i, j in np.ndindex(height, width):
        if i and j + side // 2 < width - 1:
            expected[i * width + j, (i - 1) * width + width - 1] = False
    np.testing.assert_array_equal(found, expected)


def test_choices_that_cannot_be_fail_at_construction():
    with pytest.raises(ValueError, match="got 'column'"):
        tiny.recurrent('column')
    with pytest.raises(ValueError, match='kernel must be odd, got 2'):
        tiny.recurrent('row', kernel=2)
