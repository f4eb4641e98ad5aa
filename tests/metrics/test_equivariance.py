"""Equivariance: the warps on images whose motion is known, and generators that move or stick."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import equivariance, warps
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator

SIZE = 32
NOISE = np.random.default_rng(0).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)

translate = jax.jit(warps.translate)
translate_integer = jax.jit(warps.translate_integer)
rotate = jax.jit(warps.rotate)
pseudo_rotate = jax.jit(warps.pseudo_rotate)


def blob(matrix=None):
    """Image `[1, SIZE, SIZE, 1]` of a smooth function read at the places that `matrix` gives."""
    places = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    x, y = np.meshgrid(places, places)
    m = jnp.eye(3) if matrix is None else jnp.asarray(matrix)
    x, y = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]
    value = jnp.exp(-60 * ((x - 0.12) ** 2 + (y + 0.05) ** 2)) * (1 + jnp.sin(20 * x + 9 * y))
    return value[None, :, :, None]


def test_whole_pixels_move_unchanged():
    shift = np.array([3, -2], np.float32) / SIZE
    moved, mask = translate_integer(NOISE, shift)
    np.testing.assert_array_equal(moved[:, :-2, 3:], NOISE[:, 2:, :-3])
    assert not np.asarray(moved)[:, :, :3].any()
    expected = np.zeros((SIZE, SIZE))
    expected[:-2, 3:] = 1
    np.testing.assert_array_equal(mask, expected)


def test_interpolation_moves_whole_pixels_unchanged_too():
    shift = np.array([3, -2], np.float32) / SIZE
    expected, inside = translate_integer(NOISE, shift)
    moved, mask = translate(NOISE, shift)
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    # It does not know that it needs no neighbours.
    assert (np.asarray(mask) <= np.asarray(inside)).all()


def test_nothing_is_left_of_an_image_that_moved_out():
    moved, mask = translate_integer(NOISE, np.array([1.2, 0.0]))
    assert not np.asarray(moved).any()
    assert not np.asarray(mask).any()


def test_a_smooth_image_moves_by_parts_of_pixels():
    shift = np.array([0.07, -0.045], np.float32)
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2, 2] = -shift
    moved, mask = translate(blob(), shift)
    difference = np.abs(moved - blob(matrix)) * np.asarray(mask)[None, :, :, None]
    assert np.abs(blob() - blob(matrix)).max() > 0.3
    assert difference.max() < 0.01


@pytest.mark.parametrize('angle', [0.4, -2.0])
def test_a_smooth_image_turns(angle):
    expected = blob(warps.rotation_matrix(-angle))
    assert np.abs(blob() - expected).max() > 0.3
    turned, mask = rotate(blob(), np.float32(angle))
    difference = np.abs(turned - expected) * np.asarray(mask)[None, :, :, None]
    assert difference.max() < 0.01


def test_a_quarter_turn_is_that_of_pixels():
    turned, mask = rotate(NOISE, np.float32(np.pi / 2))
    expected = np.rot90(NOISE, 1, axes=(1, 2))
    inside = np.asarray(mask, bool)
    assert inside.sum() > SIZE**2 / 3
    # The window does not quite reach zero at every other pixel.
    np.testing.assert_allclose(np.asarray(turned)[:, inside], expected[:, inside], atol=0.02)


def test_a_pseudo_rotation_leaves_what_is_smooth():
    turned, mask = pseudo_rotate(blob(), np.float32(0.7))
    inside = np.asarray(mask, bool)
    np.testing.assert_allclose(np.asarray(turned)[:, inside], blob()[:, inside], atol=0.01)
    rough, _ = pseudo_rotate(NOISE, np.float32(0.7))
    assert np.abs(rough - NOISE)[:, inside].max() > 0.1
    # Two equal grids limit nothing.
    same, _ = pseudo_rotate(NOISE, np.float32(0.0))
    np.testing.assert_allclose(same, NOISE, atol=1e-5)


def test_only_square_images_turn():
    with pytest.raises(ValueError, match='32×16'):
        warps.rotate(NOISE[:, :, :16], 0.1)


def test_every_phase_of_a_filter_adds_up():
    f = np.asarray(warps.bandlimit_filter(warps.rotation_matrix(0.3), up=4))
    phases = np.pad(f, ((0, 1), (0, 1))).reshape(12, 4, 12, 4).sum(axis=(0, 2))
    np.testing.assert_allclose(phases, np.full((4, 4), 1 / 16), rtol=1e-5)


def test_a_generator_that_moves_scores_high_and_one_that_sticks_low():
    @jax.jit
    def run(key):
        transforms = equivariance.draw(key, SIZE)
        moves = equivariance.measure(blob, transforms)
        return moves, equivariance.measure(lambda matrix: blob() + 0 * matrix[0, 0], transforms)

    batches = [run(jax.random.key(seed)) for seed in range(3)]
    moves, sticks = jax.tree.map(lambda *parts: sum(map(np.float64, parts)), *batches)
    assert moves.keys() == {'eqt_int', 'eqt_frac', 'eqr'}
    assert equivariance.decibels(moves['eqt_int']) > 100
    assert equivariance.decibels(moves['eqt_frac']) > 55
    assert equivariance.decibels(moves['eqr']) > 55
    assert max(equivariance.decibels(error) for error in sticks.values()) < 35


def test_decibels_of_all_batches_together():
    a, b = equivariance.SquaredError(1.0, 10.0), equivariance.SquaredError(3.0, 10.0)
    both = jax.tree.map(lambda *parts: sum(parts), a, b)
    assert equivariance.decibels(both) == pytest.approx(10 * np.log10(4 / 0.2))
    assert equivariance.decibels(equivariance.SquaredError(0.0, 1.0)) == np.inf


def test_transforms_are_within_their_bounds():
    draws = [equivariance.draw(jax.random.key(i), SIZE) for i in range(30)]
    shifts = np.abs([t.shift for t in draws] + [t.whole for t in draws])
    assert 0.1 < shifts.max() <= 0.125
    angles = np.array([t.angle for t in draws])
    assert angles.min() < -2 < 2 < angles.max()
    assert np.abs(angles).max() <= np.pi
    whole = np.array([t.whole for t in draws]) * SIZE
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-5)


def moved_constant(variables, matrix):
    """StyleGAN2 with its 4×4 constant read at moved places, the border repeated."""
    places = (jnp.arange(4) + 0.5) / 4 - 0.5
    x, y = jnp.meshgrid(places, places)
    x, y = (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in (0, 1))
    at = [(v + 0.5) * 4 - 0.5 for v in (y, x)]
    read = jax.vmap(
        lambda c: jax.scipy.ndimage.map_coordinates(c, at, order=1, mode='nearest'), -1, -1
    )
    params = variables['params']
    return {**variables, 'params': {**params, 'constant': read(params['constant'])}}


def untrained(model):
    """`matrix -> images`, four of deviation 1/2, of an untrained generator."""
    z = jax.random.normal(jax.random.key(1), (4, model.latent))
    variables = jax.jit(model.init)(jax.random.key(0), z)
    w = model.apply(variables, z, method='mapping')

    @jax.jit
    def render(matrix):
        if isinstance(model, StyleGAN2Generator):
            return model.apply(moved_constant(variables, matrix), w, method='synthesize')
        return model.apply(variables, w, matrix, method='synthesize')

    scale = 0.5 / jnp.std(render(jnp.eye(3)))
    return lambda matrix: scale * render(matrix)


@jax.jit
def wanted(transforms):
    """The matrices of which `measure` wants images, in order."""
    asked = []

    def render(matrix):
        asked.append(matrix)
        return jnp.zeros((1, SIZE, SIZE, 1))

    equivariance.measure(render, transforms)
    return asked


@jax.jit
def errors_of(images, transforms):
    images = iter(images)
    return equivariance.measure(lambda _: next(images), transforms)


def test_untrained_stylegan3_r_is_far_above_stylegan2():
    """The published code (tests/golden/stylegan, eq_metrics_r): 98 dB, 66 dB and 68 dB."""
    small = dict(size=SIZE, latent=8, style=8, mapping_layers=2)
    models = {
        'stylegan2': StyleGAN2Generator(**small, channel_base=128, channel_max=8, noise='none'),
        'stylegan3': StyleGAN3Generator(
            **small, channel_base=320, channel_max=16, num_layers=6, kernel_size=1, radial=True
        ),
    }
    found = {}
    for name, model in models.items():
        render, batches = untrained(model), []
        for seed in range(3):
            transforms = equivariance.draw(jax.random.key(seed), SIZE)
            batches.append(errors_of([render(m) for m in wanted(transforms)], transforms))
        sums = jax.tree.map(lambda *parts: sum(map(np.float64, parts)), *batches)
        found[name] = {metric: equivariance.decibels(error) for metric, error in sums.items()}
    # The margins seen are 85, 49 and 52 dB.
    for metric, margin in {'eqt_int': 70, 'eqt_frac': 40, 'eqr': 40}.items():
        assert found['stylegan3'][metric] > found['stylegan2'][metric] + margin
        assert found['stylegan2'][metric] < 25
