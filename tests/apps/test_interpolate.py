"""`jaxgen.apps.interpolate`: from image to image along z or w, and back to the first."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import interpolate
from jaxgen.training.restore import restore
from jaxgen.training.workdir import to_uint8
from tests.test_bad_input import assert_one_line

T = np.linspace(0, 1, 9)


@pytest.fixture
def ends():
    rng = np.random.default_rng(0)
    return rng.normal(size=5), 3 * rng.normal(size=5)


@pytest.mark.parametrize('between', [interpolate.lerp, interpolate.slerp])
def test_a_path_begins_and_ends_where_it_should(ends, between):
    way = between(*ends, T)
    np.testing.assert_allclose(way[0], ends[0], atol=1e-12)
    np.testing.assert_allclose(way[-1], ends[1], atol=1e-12)


def test_a_great_circle_has_constant_speed_and_the_directions_of_the_straight_line(ends):
    way = interpolate.slerp(*ends, T)
    direction = way / np.linalg.norm(way, axis=1, keepdims=True)
    steps = np.arccos(np.sum(direction[1:] * direction[:-1], axis=1))
    np.testing.assert_allclose(steps, steps[0], atol=1e-7)
    # In the plane of both ends: what is left after projecting on it is nothing.
    plane = np.linalg.qr(np.stack(ends, axis=1))[0]
    np.testing.assert_allclose(way @ plane @ plane.T, way, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.norm(way, axis=1), np.linspace(*np.linalg.norm(ends, axis=1), 9), atol=1e-12
    )


def test_ends_of_one_direction_are_joined_and_opposite_ones_refused(ends):
    a = ends[0]
    np.testing.assert_allclose(interpolate.slerp(a, a, T), np.tile(a, (9, 1)), atol=1e-12)
    np.testing.assert_allclose(interpolate.slerp(a, 2 * a, T), (1 + T)[:, None] * a, atol=1e-12)
    with pytest.raises(ValueError, match='opposite'):
        interpolate.slerp(a, -2 * a, T)


def test_only_the_direction_of_z_counts(run):
    z, w = run.styles([0])
    np.testing.assert_allclose(run.mapping(7 * z), w, atol=1e-4)


def test_a_path_goes_through_all_keys_and_back_to_the_first():
    keys = np.random.default_rng(1).normal(size=(3, 4))
    for space in ('w', 'z'):
        way = interpolate.path(keys, 5, space=space)
        assert way.shape == (3, 5, 4)
        np.testing.assert_allclose(way[:, 0], keys, atol=1e-6)
        opened = interpolate.path(keys, 5, space=space, close=False)
        np.testing.assert_allclose(opened, way[:2], atol=1e-6)
    np.testing.assert_allclose(
        interpolate.path(keys, 4)[2, 1], 0.75 * keys[2] + 0.25 * keys[0], atol=1e-6
    )


def test_a_spline_goes_through_all_keys_without_corners():
    keys = np.random.default_rng(2).normal(size=(5, 2, 3))
    way = interpolate.spline(keys, 50)
    assert way.shape == (5, 50, 2, 3)
    np.testing.assert_allclose(way[:, 0], keys, atol=1e-6)

    def turns(way):
        slope = np.diff(np.concatenate(way), axis=0, append=way[:1, 0])
        return np.diff(slope, axis=0, prepend=slope[-1:]).reshape(5, 50, 2, 3)

    # The slope turns at the keys as it does just beside them.
    found = turns(way)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=0.05 * np.abs(found).max())
    assert np.abs(turns(interpolate.path(keys, 50))).max() > 10 * np.abs(found).max()


def test_a_circle_of_keys_gives_nearly_a_circle():
    angle = 2 * np.pi * np.arange(8) / 8
    way = interpolate.spline(np.stack([np.cos(angle), np.sin(angle)], axis=1), 9)
    np.testing.assert_allclose(np.linalg.norm(way, axis=-1), 1, atol=2e-3)


@pytest.mark.parametrize('size', [(6, 5), (300, 300)])
def test_images_drawn_one_by_one_are_those_drawn_together(run, size):
    _, w = run.styles(range(3))
    drawn = np.stack(list(interpolate.draw(run, w, size)))
    np.testing.assert_allclose(drawn, run.sample(3, size=size), rtol=1e-5, atol=1e-5)


def test_noise_stands_still(make_run):
    run = make_run(noise='random')
    _, w = run.styles([0])
    from jaxgen.objectives.sampling import image_keys

    keys = image_keys(0, np.array([0]))
    drawn = list(interpolate.draw(run, w[np.zeros(3, int)], (6, 5), noise=keys))
    np.testing.assert_allclose(drawn[1:], drawn[:-1], atol=1e-6)
    np.testing.assert_allclose(drawn[0], run.sample(1, size=(6, 5))[0], atol=1e-5)


@pytest.fixture
def interpolated(commands, folders, tmp_path):
    def run(*flags, name='a.png', folder='plain'):
        out = tmp_path / name
        done = commands.run(
            'jaxgen.apps.interpolate', f'--workdir={folders[folder]}', f'--out={out}', *flags
        )
        assert done.code == 0, done.err
        return Image.open(out)

    return run


@pytest.mark.parametrize('space', ['w', 'z'])
def test_each_row_of_the_grid_goes_from_one_image_to_the_next(interpolated, folders, space):
    grid = np.asarray(interpolated('--num=3', '--steps=4', f'--space={space}'), int)
    images = grid.reshape(3, 4, 5, 4, 3).transpose(0, 2, 1, 3, 4)
    keys = to_uint8(restore(folders['plain']).sample(3))
    assert np.abs(images[:, 0] - keys).max() <= 1
    assert np.abs(images[:, -1] - np.roll(keys, -1, axis=0)).max() <= 1
    assert np.abs(images[:, 2] - images[:, 0]).max() > 1


def test_the_video_has_every_step_once(interpolated):
    video = interpolated('--num=3', '--steps=4', '--size=6x5', '--fps=20', name='a.gif')
    # Pillow joins frames that look the same.
    durations = [video.seek(i) or video.info['duration'] for i in range(video.n_frames)]
    assert sum(durations) == 12 * 50
    assert video.size == (6, 5)
    assert video.info['loop'] == 0


def test_a_row_of_a_convolutional_generator_begins_with_its_image(interpolated, stylegans):
    grid = np.asarray(interpolated('--num=2', '--steps=2', '--smooth', folder='stylegan3'), int)
    images = grid.reshape(2, 16, 3, 16, 3).transpose(0, 2, 1, 3, 4)
    keys = to_uint8(stylegans['stylegan3'].sample(2))
    assert np.abs(images[:, 0] - keys).max() <= 1
    assert np.abs(images[:, 1] - images[:, 0]).max() > 1


def test_a_video_of_small_images_repeats_their_pixels(interpolated):
    flags = ['--num=2', '--steps=1', '--space=z']
    video = interpolated(*flags, name='a.gif', folder='stylegan2')
    assert video.size == (256, 256)
    pixels = np.asarray(video.convert('RGB'))
    np.testing.assert_array_equal(pixels, pixels[::16, ::16].repeat(16, 0).repeat(16, 1))


def test_classes_cannot_be_blended_in_z(commands, folders, interpolated, tmp_path):
    flags = [f'--workdir={folders["labelled"]}', f'--out={tmp_path / "b.png"}', '--space=z']
    done = commands.run('jaxgen.apps.interpolate', *flags)
    assert_one_line(done.code, done.err, ('--label', '--space=w'))
    assert not (tmp_path / 'b.png').exists()
    interpolated('--num=2', '--space=z', '--label=1', folder='labelled')
    interpolated('--num=2', '--space=w', folder='labelled')


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--num=1', ('num', '1')),
        ('--steps=0', ('steps', '0')),
        ('--space=x', ('space', 'z|w')),
        ('--fps=0', ('fps', '0')),
    ],
)
def test_a_wrong_flag_is_one_line(commands, folders, tmp_path, flag, words):
    done = commands.run(
        'jaxgen.apps.interpolate',
        f'--workdir={folders["plain"]}',
        f'--out={tmp_path / "a.png"}',
        flag,
    )
    assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())
