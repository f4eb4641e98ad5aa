"""CIPS on a cylinder: the frame closes, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops import coords
from jaxgen.ops.interpolate import bilinear
from tests import tiny

HEIGHT, WIDTH = 4, 12


@pytest.fixture(scope='module', params=['none', 'const'])
def ring(request):
    """A generator of random weights on a ring, as a function of coordinates `[N, 2]`."""
    model = tiny.generator(size=(HEIGHT, WIDTH), cylindrical=True, noise=request.param)
    variables = jax.device_put(tiny.variables(model))
    w = np.random.default_rng(1).normal(size=(2, model.style)).astype(np.float32)
    render = jax.jit(lambda places: model.apply(variables, places[None], w))
    render.model, render.variables, render.w = model, variables, w
    return render


def columns(ring, x):
    """`[2, len(x), HEIGHT, 3]`: the ring's columns at these angles."""
    x, y = np.meshgrid(x, np.linspace(-1, 1, HEIGHT), indexing='ij')
    places = np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)
    return np.asarray(ring(places)).reshape(2, *x.shape, 3)


def test_a_turn_further_is_the_same_place(ring):
    x = np.array([-1, -0.75, -1 / 3, 0, 0.5, 0.999], np.float32)
    here = columns(ring, x)
    for turns in (-2, 2, 4):
        np.testing.assert_allclose(columns(ring, x + turns), here, rtol=1e-5, atol=2e-5)


def test_the_last_and_the_first_column_meet_as_any_two_neighbours_do(ring):
    # Steps so small that the colour is linear between them: the seam must not be steeper.
    step = 2**-12
    x = np.linspace(-1, 1, 64, endpoint=False)
    across = np.abs(columns(ring, x + step) - columns(ring, x - step)).max((0, 2, 3))
    assert across[0] <= across.max()
    assert across[0] < 4 * np.median(across)
    at_seam = np.abs(columns(ring, np.float32([-1])) - columns(ring, np.float32([1])))
    assert at_seam.max() < 1e-5


def test_without_a_ring_the_two_ends_differ():
    model = tiny.generator(size=(HEIGHT, WIDTH))
    w = np.ones((1, model.style), np.float32)
    ends = np.float32([[[-1, 0.5], [1, 0.5]]])
    left, right = model.apply(tiny.variables(model), ends, w)[0]
    assert np.abs(left - right).max() > 1e-2


def test_the_training_grid_is_read_without_interpolation(ring):
    direct = ring.model.apply(ring.variables, None, ring.w)
    places = ring.model.points(HEIGHT, WIDTH)
    assert places.shape == (HEIGHT * WIDTH, 2)
    np.testing.assert_allclose(ring(places), direct, atol=1e-5)


def test_a_window_over_the_seam_joins_its_two_sides(ring):
    whole = np.asarray(ring(ring.model.points(HEIGHT, WIDTH))).reshape(2, HEIGHT, WIDTH, 3)
    x = coords.ring_axis(WIDTH)[-3:].tolist() + (coords.ring_axis(WIDTH)[:3] + 2).tolist()
    window = columns(ring, np.float32(x)).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(window, whole[:, :, [9, 10, 11, 0, 1, 2]], atol=2e-5)


def test_a_ring_of_columns_is_interpolated_around_the_corner():
    table = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    for position in np.linspace(-3, 3, 41):
        index = (position + 1) / 2 * 5
        low, part = int(np.floor(index)), index - np.floor(index)
        wanted = (1 - part) * table[0, low % 5] + part * table[0, (low + 1) % 5]
        found = bilinear(table, np.float32([position, -1]), ring=True)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_cylinder_has_radius_one_and_keeps_the_height():
    places = jnp.asarray(np.random.default_rng(0).uniform(-4, 4, (50, 2)), jnp.float32)
    x, y, height = coords.on_cylinder(places).T
    np.testing.assert_allclose(x**2 + y**2, 1, atol=1e-6)
    np.testing.assert_array_equal(height, places[:, 1])
    turned = np.exp(1j * np.pi * np.asarray(places[:, 0], np.float64))
    np.testing.assert_allclose(x + 1j * y, turned, atol=2e-6)


def test_a_ring_with_the_lookup_of_the_released_code_is_refused():
    with pytest.raises(ValueError, match="needs lookup='exact'"):
        tiny.generator(cylindrical=True, lookup='reference')
