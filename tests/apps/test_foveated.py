"""`jaxgen.apps.foveated`: dense at the gaze, exact where evaluated, linear between."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import foveated
from jaxgen.objectives.sampling import image_keys
from tests.test_bad_input import assert_one_line

SIZE = (40, 56)


@pytest.mark.parametrize('noise', ['none', 'random'])
def test_evaluated_pixels_equal_those_of_the_full_render(make_run, noise):
    run = make_run(noise=noise)
    _, w = run.styles([3])
    keys = image_keys(5, np.array([3])) if noise == 'random' else None
    known = foveated.choose_pixels(SIZE, (0.3, -0.5), share=0.2)
    picture = foveated.render(run, w, foveated.fill_in(known, SIZE), noise=keys)
    full = run.render(run.generator.points(*SIZE), w, noise=keys)[0]
    assert picture.shape == (*SIZE, 3)
    np.testing.assert_allclose(picture.reshape(-1, 3)[known], full[known], atol=1e-5)
    assert np.abs(picture.reshape(-1, 3) - full).max() > 1e-2


@pytest.mark.parametrize('share', [0.05, 0.4, 1.0])
def test_between_evaluated_pixels_colours_are_linear(share):
    # A plane is its own linear interpolation, whatever the triangles.
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    plane = np.stack([x + 2.0 * y, 3.0 - x, 0.5 * y], axis=-1)
    known = foveated.choose_pixels(SIZE, (-1, 1), share=share)
    filled = foveated.fill_in(known, SIZE)(plane.reshape(-1, 3)[known])
    np.testing.assert_allclose(filled, plane, atol=1e-4)


def test_outside_of_all_triangles_the_nearest_pixel_is_taken():
    known = np.array([0, 1, 8])  # a corner of 8 × 8
    filled = foveated.fill_in(known, (8, 8))(np.array([[1.0], [2.0], [3.0]]))
    assert filled[0, 7, 0] == pytest.approx(2)
    assert filled[7, 0, 0] == pytest.approx(3)


def test_all_pixels_near_the_gaze_and_ever_fewer_further_away_are_chosen():
    size, share = (192, 256), 0.15
    gaze = (-0.5, 0.25)
    known = foveated.choose_pixels(size, gaze, share=share, seed=1)
    chosen = np.zeros(size, bool)
    chosen.reshape(-1)[known] = True
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - 0.625 * 191, x - 0.25 * 255)
    # The radius of full density, from the law of densities alone.
    radii = np.arange(1, 200)
    means = [np.minimum(1, (r / np.maximum(distance, 1e-9)) ** 2).mean() for r in radii]
    radius = np.interp(share, means, radii)
    assert chosen[distance < radius - 1].all()
    inner = np.s_[1:-1, 1:-1]  # the border has points of its own
    for low, high in ((1, 2), (2, 3), (3, 5), (5, 8)):
        ring = ((distance >= low * radius) & (distance < high * radius))[inner]
        expected = ((radius / distance[inner][ring]) ** 2).sum()
        assert abs(chosen[inner][ring].sum() - expected) < 0.1 * expected
    assert abs(chosen[inner].mean() - share) < 0.1 * share


def test_the_choice_is_a_function_of_the_seed_and_has_the_corners():
    first, again, other = (foveated.choose_pixels(SIZE, share=0.1, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    height, width = SIZE
    assert {0, width - 1, (height - 1) * width, height * width - 1} <= set(first.tolist())
    np.testing.assert_array_equal(
        foveated.choose_pixels(SIZE, share=1.0), np.arange(height * width)
    )


def test_blue_noise_has_every_level_once_and_keeps_its_first_places_apart():
    noise = foveated.blue_noise(0)
    side = len(noise)
    levels = (np.arange(side**2) + 0.5) / side**2
    np.testing.assert_allclose(np.sort(noise, axis=None), levels)
    for share in (1 / 64, 1 / 16):
        places = np.argwhere(noise < share)
        apart = np.abs(places[:, None] - places)
        distance = np.hypot(*np.moveaxis(np.minimum(apart, side - apart), -1, 0))
        nearest = np.where(distance == 0, np.inf, distance).min(axis=1)
        # As many places in a square grid would be 1/√share apart, chance ones about half of that,
        # with many that touch.
        assert nearest.min() > 0.5 / np.sqrt(share)
        assert nearest.mean() > 0.7 / np.sqrt(share)


def test_the_command_says_how_much_was_evaluated_and_what_it_took(commands, folders, tmp_path):
    out = tmp_path / 'a.png'
    flags = [f'--workdir={folders["plain"]}', '--size=32x24', '--share=0.3', f'--out={out}']
    done = commands.run('jaxgen.apps.foveated', *flags, '--panels')
    assert done.code == 0, done.err
    count, pixels = map(int, re.search(r'(\d+) of (\d+) pixels evaluated', done.out).groups())
    assert pixels == 32 * 24
    assert 0.25 < count / pixels < 0.45
    assert re.search(r'evaluation [\d.]+ s, filling in [\d.]+ s', done.out)
    assert re.search(r'full render [\d.]+ s: the evaluation took [\d.]+% of it', done.out)
    panels = np.asarray(Image.open(out), int)
    full, points, filled = (panels[-32:-8, 8 + 40 * i : 40 + 40 * i] for i in range(3))
    seen = (points < 255).any(axis=-1)
    assert np.abs(points - full)[seen].max() == 0
    assert np.abs(filled - full)[seen].max() <= 1
    assert abs(seen.sum() - count) <= 2  # a pixel may be white
    alone = commands.run('jaxgen.apps.foveated', *flags, '--no-full')
    assert 'full render' not in alone.out
    np.testing.assert_array_equal(np.asarray(Image.open(out)), filled)


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (('--gaze=2,0',), ('--gaze must lie from -1 to 1', "'2,0'")),
        (('--gaze=0',), ('--gaze must be 2 numbers', "'0'")),
        (('--share=0',), ('--share must be above 0 and at most 1, got 0.0',)),
        (('--share=nan',), ('--share', 'nan')),
        (('--size=1x9',), ('--size must be at least 2x2',)),
        (('--panels', '--nofull'), ('--panels', '--nofull')),
    ],
)
def test_a_wrong_flag_is_one_line(commands, folders, tmp_path, flags, words):
    model = f'--workdir={folders["plain"]}'
    done = commands.run('jaxgen.apps.foveated', model, f'--out={tmp_path / "a.png"}', *flags)
    assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())
