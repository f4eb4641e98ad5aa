"""`jaxgen.apps.gigapixel`: the render that `sample` would give, in pieces, over interruptions."""

import signal

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxgen.apps import enlargement
from jaxgen.apps.gigapixel import render_tiff
from jaxgen.errors import UserError
from jaxgen.objectives.sampling import image_keys
from jaxgen.training.workdir import to_uint8
from tests.test_bad_input import assert_one_line

SIZE = (70, 85)


def assert_pictures_equal(a, b):
    """Up to the rounding of a value that lies between two levels."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize(
    'fields', [{}, dict(cylindrical=True, size=(8, 16)), dict(noise='random')], ids=str
)
def test_the_tiles_make_up_the_picture_that_is_sampled(make_run, tmp_path, fields):
    run, target = make_run(**fields), tmp_path / 'a.tif'
    _, w = run.styles([2], seed=7)
    keys = image_keys(7, np.array([2])) if run.generator.noise == 'random' else None
    assert render_tiff(run, w, target, SIZE, tile=32, noise=keys)
    assert_pictures_equal(tifffile.imread(target), to_uint8(run.sample(3, 7, size=SIZE)[2]))


def test_a_render_that_was_stopped_goes_on_and_gives_the_same_file(run, tmp_path, monkeypatch):
    _, w = run.styles([0])
    # Eight devices, a tile each: three steps for 20 tiles.
    monkeypatch.setattr('jaxgen.apps.gigapixel.PIXELS_AT_ONCE', 256)
    options = dict(tile=16, description={'seed': 0})
    assert render_tiff(run, w, tmp_path / 'one.tif', (70, 60), **options)
    asked = []
    target, partial = tmp_path / 'two.tif', tmp_path / 'two.tif.part'

    def stopped():
        asked.append(True)
        return len(asked) > 1

    assert not render_tiff(run, w, target, (70, 60), stopped=stopped, **options)
    assert not target.exists()
    started = partial.read_bytes()
    asked.clear()
    assert render_tiff(run, w, target, (70, 60), stopped=lambda: bool(asked.append(1)), **options)
    assert len(asked) == 2  # of three steps
    finished = target.read_bytes()
    assert finished == (tmp_path / 'one.tif').read_bytes()
    # What was there, behind the tables of the header, was not written anew.
    assert finished[: len(started)][-500:] == started[-500:]


def test_a_started_render_does_not_go_on_as_another_one(run, make_run, tmp_path):
    target = tmp_path / 'a.tif'
    _, w = run.styles([0, 1])
    options = dict(tile=16, stopped=lambda: True)
    render_tiff(run, w[:1], target, (70, 60), description={'seed': 0}, **options)
    before = (tmp_path / 'a.tif.part').read_bytes()
    for other, style, size, description, words in (
        (run, w[:1], (70, 61), {'seed': 0}, 'size'),
        (run, w[:1], (70, 60), {'seed': 1}, 'seed: 0 before, 1 now'),
        (run, w[1:], (70, 60), {'seed': 0}, 'style'),
        (make_run(activation='sin'), w[:1], (70, 60), {'seed': 0}, 'model'),
    ):
        with pytest.raises(UserError, match=f'something else .{words}'):
            render_tiff(other, style, target, size, description=description, **options)
    assert (tmp_path / 'a.tif.part').read_bytes() == before


@pytest.mark.parametrize('ring', [False, True])
def test_lanczos_lies_upon_the_render_pixel_by_pixel(ring):
    # Where a pixel of the enlarged picture is one of the native ones it has its colour.
    native = np.random.default_rng(0).normal(size=(9, 12, 3)).astype(np.float32)
    size = (17, 24 if ring else 23)
    whole = enlargement.enlarge(native, size, (0, 0), size, ring=ring)
    np.testing.assert_allclose(whole[::2, ::2], native, atol=1e-5)
    piece = enlargement.enlarge(native, size, (5, 4), (6, 11), ring=ring)
    np.testing.assert_allclose(piece, whole[5:11, 4:15], atol=1e-5)
    if ring:
        turned = enlargement.enlarge(np.roll(native, 5, 1), size, (0, 0), size, ring=True)
        np.testing.assert_allclose(turned, np.roll(whole, 10, 1), atol=1e-5)


def test_the_comparison_shows_the_pieces_of_the_render(run):
    _, w = run.styles([0])
    shown = enlargement.comparison(run, w, (64, 320), pieces=2, side=64)
    whole = to_uint8(run.sample(1, size=(64, 320))[0])
    found = set()
    # The right panel of each row is some piece of the whole, a border of 8 pixels beside it.
    for row in np.split(shown, 2):
        piece = row[-8 - 64 : -8, -8 - 64 : -8].astype(int)
        far = [np.abs(piece - whole[:, x : x + 64]).max() for x in range(257)]
        assert min(far) <= 1
        found.add(int(np.argmin(far)))
    assert abs(np.subtract(*found)) >= 64
    with pytest.raises(UserError, match='at least the native 8x8, got 9x7'):
        enlargement.comparison(run, w, (7, 9))


@pytest.fixture(scope='module')
def whole(commands, folders, tmp_path_factory):
    """The file of a render that nothing interrupted."""
    target = tmp_path_factory.mktemp('whole') / 'whole.tif'
    flags = [f'--workdir={folders["plain"]}', '--size=1024', '--tile=64', f'--out={target}']
    assert commands.run('jaxgen.apps.gigapixel', *flags).code == 0
    return target


@pytest.mark.parametrize('signum', [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_stopped_goes_on_with_the_same_command(
    commands, folders, whole, tmp_path, signum
):
    flags = [f'--workdir={folders["plain"]}', '--size=1024', '--tile=64']
    target = tmp_path / 'a.tif'
    child = commands.start('jaxgen.apps.gigapixel', *flags, f'--out={target}')
    partial = tmp_path / 'a.tif.part'
    assert child.wait_until(lambda: partial.exists() and partial.stat().st_size > 20_000)
    child.kill(signum)
    assert child.wait() == (-signal.SIGKILL if signum == signal.SIGKILL else 0), child.err
    assert [path.name for path in tmp_path.iterdir()] == ['a.tif.part']
    if signum == signal.SIGTERM:
        assert f'stopped; what is there is in {partial}' in child.out
        refused = commands.run('jaxgen.apps.gigapixel', *flags, f'--out={target}', '--seed=1')
        assert_one_line(refused.code, refused.err, ('seed: 0 before, 1 now', 'delete it'))
    done = commands.run('jaxgen.apps.gigapixel', *flags, f'--out={target}')
    assert done.code == 0, done.err
    assert f'1024 × 1024 pixels in {target}' in done.out
    assert target.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_the_command_compares_with_the_enlarged_native_render(commands, folders, tmp_path):
    flags = [f'--workdir={folders["plain"]}', f'--out={tmp_path / "a.tif"}']
    compare = tmp_path / 'compare.png'
    done = commands.run('jaxgen.apps.gigapixel', *flags, '--size=40', f'--compare={compare}')
    assert done.code == 0, done.err
    assert Image.open(compare).height >= 40
    done = commands.run('jaxgen.apps.gigapixel', *flags, '--size=3', f'--compare={compare}')
    assert_one_line(done.code, done.err, ('--compare', 'native 4x4', '3x3'))


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        ((), ('--size is missing',)),
        (('--size=99999999999',), ('--size must be less than 2147483648 a side',)),
        (('--size=9', '--tile=40'), ('--tile must be a multiple of 16, got 40',)),
        (('--size=9', '--tile=0'), ('tile', '0')),
        (('--size=9', '--deflate=10'), ('deflate', '10')),
        (('--size=9', '--compare=/dev/null/a.png'), ("--compare='/dev/null/a.png'",)),
        (('--size=9', '--out=a.png'), ('--out must end in one of .tif, .tiff',)),
    ],
)
def test_a_wrong_flag_is_one_line(commands, folders, tmp_path, flags, words):
    model = f'--workdir={folders["plain"]}'
    done = commands.run('jaxgen.apps.gigapixel', model, f'--out={tmp_path / "a.tif"}', *flags)
    assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())
