"""`jaxgen.apps.output`: a file is complete or not there at all."""

import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import output
from jaxgen.errors import UserError


def frames(count, height=8, width=10):
    """Grey levels that differ from frame to frame."""
    return (np.full((height, width, 3), 20 * i, np.uint8) for i in range(count))


@pytest.mark.parametrize('error', [OSError('disk full'), UserError('no'), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    target = tmp_path / 'a.png'
    target.write_text('before')
    kind = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError

    def fail():
        with output.replacing(target) as path:
            path.write_text('half')
            raise error

    with pytest.raises(kind):
        fail()
    assert target.read_text() == 'before'
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']
    with output.replacing(target) as path:
        path.write_text('after')
    assert target.read_text() == 'after'


@pytest.mark.parametrize('channels', [1, 3])
def test_a_picture_comes_back(tmp_path, channels):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    output.save_picture(tmp_path / 'a.png', picture)
    back = np.asarray(Image.open(tmp_path / 'a.png')).reshape(5, 7, channels)
    np.testing.assert_array_equal(back, picture)


def test_a_picture_that_is_too_large_for_its_format_is_a_line(tmp_path):
    with pytest.raises(UserError, match=r'a\.webp.* could not be written'):
        output.save_picture(tmp_path / 'a.webp', np.zeros((1, 20_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_arrays_come_back(tmp_path):
    output.save_arrays(tmp_path / 'a.npz', {'x': np.arange(3)})
    with np.load(tmp_path / 'a.npz') as arrays:
        np.testing.assert_array_equal(arrays['x'], np.arange(3))


def test_a_gif_has_all_frames_and_goes_on_for_ever(tmp_path):
    output.save_video(tmp_path / 'a.gif', frames(5), fps=20)
    with Image.open(tmp_path / 'a.gif') as video:
        assert video.n_frames == 5
        assert video.info['loop'] == 0
        assert video.info['duration'] == 50
        for i in range(5):
            video.seek(i)
            assert np.abs(np.asarray(video.convert('RGB'), int) - 20 * i).max() <= 3


@pytest.mark.parametrize('size', [(8, 10), (9, 11), (1, 1)])
def test_an_mp4_has_all_frames(tmp_path, size):
    output.save_video(tmp_path / 'a.mp4', frames(6, *size), fps=10)
    # Not by imageio-ffmpeg's reader, which forks in a way that JAX's threads don't allow.
    read = [imageio_ffmpeg.get_ffmpeg_exe(), '-i', str(tmp_path / 'a.mp4')]
    read += ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']
    done = subprocess.run(read, capture_output=True)
    height, width = (n + n % 2 for n in size)
    assert f'{width}x{height}' in done.stderr.decode()
    assert '10 fps' in done.stderr.decode()
    shown = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    assert len(shown) == 6
    for i, frame in enumerate(shown):
        assert np.abs(frame.astype(int) - 20 * i).max() <= 8


def test_an_mp4_without_ffmpeg_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
    with pytest.raises(UserError, match=r"the extra 'video'.* a \.gif does not"):
        output.check_target(str(tmp_path / 'a.mp4'), output.VIDEOS)
    output.check_target(str(tmp_path / 'a.gif'), output.VIDEOS)


def test_pictures_in_a_row_stand_below_their_captions():
    left, right = np.full((20, 30, 3), 50, np.uint8), np.full((20, 16, 1), 90, np.uint8)
    row = output.in_row([left, right], ['a', 'a caption far too long for so small a picture'])
    assert row.shape[1] == 30 + 16 + 3 * 8
    np.testing.assert_array_equal(row[-28:-8, 8:38], left)
    np.testing.assert_array_equal(row[-28:-8, 46:62], np.repeat(right, 3, axis=-1))
    assert (row[-8:] == 255).all()
    assert (row[:-28] < 128).any()  # the letters


def test_what_ffmpeg_objects_to_is_a_line_and_no_file_is_left(tmp_path):
    with pytest.raises(UserError, match=r'a\.mp4.* could not be written: ffmpeg: .*-5'):
        output.save_video(tmp_path / 'a.mp4', frames(3), fps=-5)
    assert not list(tmp_path.iterdir())
