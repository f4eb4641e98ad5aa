"""What all apps have in common: a mistake of the user's is one line, and no file is left."""

import pytest
from PIL import Image

from tests.test_bad_input import assert_one_line

# Each with what its file may be called, and the flags without which it does not start.
APPS = {
    'foveated': ('.png', []),
    'gigapixel': ('.tif', ['--size=8']),
    'panorama': ('.png', []),
    'style_mixing': ('.png', []),
    'interpolate': ('.png', []),
    'analyse': ('', ['--only=partition']),  # its --out is a folder
    'transform': ('.png', ['--motion=walk', '--frames=3']),
    'feature_maps': ('.png', ['--layers=block_16', '--frames=2']),
    'resolution_usage': ('.png', ['--num=3']),
}
# On which of the folders, where not on 'plain'.
FOLDERS = {
    'panorama': 'ring',
    'transform': 'stylegan2',
    'feature_maps': 'stylegan2',
    'resolution_usage': 'stylegan2',
}
# Files beside the picture.
BESIDE = {'resolution_usage': ['picture.npz']}
of_pictures = pytest.mark.parametrize(
    'app', [name for name in APPS if APPS[name][0]], indirect=True
)


# Those with any size.
sized = pytest.mark.parametrize(
    'app', [name for name in APPS if 'stylegan' not in FOLDERS.get(name, '')], indirect=True
)


@pytest.fixture(params=APPS)
def app(request):
    return request.param


@pytest.fixture
def refused(commands, app, tmp_path):
    """`refused(words, *flags)`: the app says so in one line and leaves nothing behind."""

    def run(words, *flags, out=None):
        suffix, needed = APPS[app]
        out = out or tmp_path / 'out' / f'picture{suffix}'
        done = commands.run(f'jaxgen.apps.{app}', f'--out={out}', *needed, *flags)
        assert_one_line(done.code, done.err, words)
        assert not out.exists()
        if (tmp_path / 'out').is_dir():
            assert not list((tmp_path / 'out').iterdir())

    return run


def kind(app):
    return FOLDERS.get(app, 'plain')


def test_without_a_model_or_with_two(refused):
    refused(('exactly one of --workdir and --weights',))
    refused(('exactly one of --workdir and --weights',), '--workdir=a', '--weights=b')


def test_missing_weights(refused, tmp_path):
    missing = tmp_path / 'none'
    refused((str(missing),), f'--workdir={missing}')
    refused((f'{missing}.pt',), f'--weights={missing}.pt')
    missing.mkdir()
    refused((str(missing), 'holds no run'), f'--workdir={missing}')
    refused((str(missing),), f'--weights={missing}')


def test_a_model_of_another_kind(refused, tmp_path, folders):
    folder = tmp_path / 'other'
    folder.mkdir()
    config = (folders['plain'] / 'config.json').read_text()
    (folder / 'config.json').write_text(config.replace('"adversarial"', '"diffusion"'))
    refused(("'diffusion'", "'adversarial'"), f'--workdir={folder}')
    refused(('GatedPixelCNN', 'needs a', 'generator'), f'--workdir={folders["pixelcnn"]}')


@sized
@pytest.mark.parametrize('size', ['0', '0x5', '5x0', '-3', '4x-4', 'big', '', '1.5'])
def test_a_size_that_is_none(refused, app, folders, size):
    words = ('--size', 'WIDTHxHEIGHT', repr(size))
    refused(words, f'--workdir={folders[kind(app)]}', f'--size={size}')


def test_a_target_below_a_file(refused, app, folders, tmp_path):
    (tmp_path / 'file').touch()
    out = tmp_path / 'file' / f'a{APPS[app][0]}'
    refused((f'{out}', 'not writable'), f'--workdir={folders[kind(app)]}', out=out)


@of_pictures
def test_a_target_that_is_no_picture(refused, app, folders, tmp_path):
    suffix, model = APPS[app][0], f'--workdir={folders[kind(app)]}'
    for name in ('a.abc', 'a'):
        refused((f'{tmp_path / name}', 'must end in'), model, out=tmp_path / name)
    folder = tmp_path / f'folder{suffix}'
    folder.mkdir()
    refused((f"--out='{folder}' is a folder",), model, f'--out={folder}')


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--seed=-1', ('seed', '-1')),
        ('--truncation=nan', ('--truncation must be finite, got nan',)),
        ('--speed=3', ('speed',)),
    ],
)
def test_a_flag_of_the_model_that_is_wrong(refused, app, folders, flag, words):
    refused(words, f'--workdir={folders[kind(app)]}', flag)


@of_pictures
def test_a_class_of_a_model_without_classes(refused, app, folders):
    words = ('label', 'no classes', 'got 1')
    refused(words, f'--workdir={folders[kind(app)]}', '--label=1')


@of_pictures
def test_the_file_is_there_and_nothing_beside_it(commands, app, folders, tmp_path):
    suffix, needed = APPS[app]
    out = tmp_path / 'new' / 'folder' / f'picture{suffix}'
    model = f'--workdir={folders[kind(app)]}'
    size = [] if 'stylegan' in kind(app) else ['--size=16x12']
    done = commands.run(f'jaxgen.apps.{app}', f'--out={out}', model, *needed, *size)
    assert done.code == 0, done.err
    assert str(out) in done.out
    with Image.open(out) as picture:
        assert min(picture.size) >= 12
    names = sorted([out.name, *BESIDE.get(app, [])])
    assert sorted(path.name for path in out.parent.iterdir()) == names


def test_help_says_what_the_app_does_and_takes(commands, app):
    done = commands.run(f'jaxgen.apps.{app}', '--help')
    assert done.code == 0, done.err
    assert f'python -m jaxgen.apps.{app}' in done.out
    assert '--workdir' in done.out
    assert '--[no]ema' in done.out
