"""`jaxgen.apps.panorama`: a ring without a seam, and a video that goes round it."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import panorama
from jaxgen.parallel.mesh import make_mesh
from jaxgen.training.restore import Run
from tests import tiny
from tests.test_bad_input import assert_one_line


@pytest.fixture(scope='module')
def ring_run(make_run):
    return make_run(cylindrical=True, size=(8, 16))


def seam_against_the_others(cylindrical, seed):
    """The step at the seam over the largest other one, where each cell of the table is 32 wide."""
    generator = tiny.generator(cylindrical=cylindrical, size=(8, 16))
    variables = tiny.variables(generator, seed=seed)
    run = Run('tiny', generator, variables, make_mesh(), generator.frame)
    ring = panorama.render_ring(run, run.styles([0])[1], (24, 512))
    steps = panorama.steps_between_columns(ring)
    assert steps.shape == (512,)
    return steps[-1] / steps[:-1].max()


@pytest.mark.parametrize('seed', range(3))
def test_the_last_column_meets_the_first_as_any_two_neighbours_do(seed):
    assert 0 < seam_against_the_others(True, seed) <= 1
    # What an open seam would look like.
    assert seam_against_the_others(False, seed) > 2


def test_columns_are_compared_with_the_next_and_the_last_with_the_first():
    ring = np.zeros((2, 4, 3))
    ring[:, 2] = 3.0
    ring[:, 3] = 1.0
    np.testing.assert_allclose(panorama.steps_between_columns(ring), [0, 3, 2, 1])


def test_a_turn_further_round_the_ring_is_the_same_place(ring_run):
    _, w = ring_run.styles([0])
    coords = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    here = ring_run.render(coords, w)
    for turns in (-2, 2):
        there = ring_run.render(coords + np.float32([turns, 0]), w)
        np.testing.assert_allclose(there, here, atol=1e-4)


def test_the_frames_go_round_once_by_whole_pixels():
    ring = np.arange(2 * 10 * 3).reshape(2, 10, 3)
    frames = list(panorama.turn(ring, frames=5, view=13))
    assert len(frames) == 5
    np.testing.assert_array_equal(frames[0], np.concatenate([ring, ring[:, :3]], axis=1))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame[:, :10], np.roll(ring, -2 * i, axis=1))


def test_the_command_writes_the_ring_and_the_video(commands, folders, tmp_path):
    out, video = tmp_path / 'ring.png', tmp_path / 'ring.gif'
    done = commands.run(
        'jaxgen.apps.panorama',
        f'--workdir={folders["ring"]}',
        '--size=12x6',
        f'--out={out}',
        f'--video={video}',
    )
    assert done.code == 0, done.err
    assert 'from the last column to the first' in done.out
    assert Image.open(out).size == (12, 6)
    with Image.open(video) as frames:
        assert frames.size == (12, 6)
        assert frames.n_frames == 12


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (('--view=0',), ('view', '0')),
        (('--seconds=nan',), ('--seconds must be from 0.1 to 600, got nan',)),
        (('--video=ring.avi',), ('--video must end in', "'ring.avi'")),
        (('--video=/dev/null/ring.gif',), ("--video='/dev/null/ring.gif'",)),
    ],
)
def test_a_wrong_flag_is_one_line(commands, folders, tmp_path, flags, words):
    done = commands.run(
        'jaxgen.apps.panorama',
        f'--workdir={folders["ring"]}',
        f'--out={tmp_path / "a.png"}',
        *flags,
    )
    assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())


def test_a_generator_that_was_not_trained_on_a_ring_is_one_line(commands, folders, tmp_path):
    out = tmp_path / 'a.png'
    done = commands.run('jaxgen.apps.panorama', f'--workdir={folders["plain"]}', f'--out={out}')
    assert_one_line(done.code, done.err, (str(folders['plain']), 'not trained on a ring'))
    assert not out.exists()
