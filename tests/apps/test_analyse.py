"""`jaxgen.apps.analyse`: the numbers it writes against numpy, and what it refuses."""

import dataclasses
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from jaxgen.apps import analyse, plots
from jaxgen.apps.partition import partition
from jaxgen.data.pipeline import real_images
from jaxgen.data.sources import open_source
from jaxgen.errors import UserError
from jaxgen.training.restore import restore
from jaxgen.training.workdir import to_uint8
from tests import tiny
from tests.fork_server import ROOT
from tests.test_bad_input import assert_one_line

PAIRS = {'.npz', '.png'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory, tiny_data):
    """A run of a model of 4×4 pixels on the set 'tiny', which has 12 held-out images."""
    return tiny.make_run(tmp_path_factory.mktemp('analyse') / 'run', data__dir=str(tiny_data))


@pytest.fixture(scope='module')
def run(folder):
    return restore(folder)


@pytest.fixture
def analysed(commands, folder, tmp_path):
    """Runs the command and gives {name: arrays} of what it wrote."""

    def start(*flags):
        out = tmp_path / 'out'
        child = commands.run('jaxgen.apps.analyse', f'--workdir={folder}', f'--out={out}', *flags)
        assert child.code == 0, child.err
        names = {path.stem for path in out.iterdir()}
        for name in names:
            assert {path.suffix for path in out.iterdir() if path.stem == name} == PAIRS
            with Image.open(out / f'{name}.png') as picture:
                assert np.ptp(np.asarray(picture.convert('L'))) > 100
            assert f'{name}.png' in child.out
        return {name: dict(np.load(out / f'{name}.npz')) for name in names}

    return start


def slow_power(images):
    grey = images.astype(np.float64) @ [0.299, 0.587, 0.114]
    return np.abs(np.fft.fftshift(np.fft.fft2(grey), axes=(1, 2))) ** 2


def test_writes_pictures_and_the_numbers_of_samples_and_real_images(analysed, run, tiny_data):
    result = analysed('--num=20', '--seed=3')
    assert set(result) == {'encodings', 'spectra', 'partition'}
    spectra = result['spectra']
    assert list(spectra['labels']) == ['real: tiny', 'run']
    assert list(spectra['counts']) == [12, 20]
    real = real_images(open_source('tiny', 'test', data_dir=str(tiny_data)), 12)
    samples = to_uint8(run.sample(20, 3)) / 127.5 - 1
    for i, images in enumerate((real, samples)):
        power = slow_power(images)
        # Pixels within float error of half a grey level may round the other way.
        np.testing.assert_allclose(spectra['power'][i], power.mean(axis=0), rtol=0.02)
        np.testing.assert_allclose(
            spectra['azimuthal_integral'][i].sum(), spectra['power'][i].sum(), rtol=1e-6
        )
    np.testing.assert_allclose(
        spectra['log_magnitude'][0], np.log(slow_power(real)).mean(0) / 2, atol=1e-3
    )
    assert spectra['distance'][0] == 0
    assert spectra['distance'][1] > 0
    assert result['partition']['image'].shape == (256, 256, 3)


def test_other_runs_stand_in_the_same_plot_and_windows_are_on_request(
    analysed, folder, tmp_path, tiny_data
):
    other = tiny.make_run(tmp_path / 'other', model__embedding=False)
    result = analysed('--only=spectra,windowed', f'--compare={other},{folder}', '--num=3')
    assert set(result) == {'spectra', 'windowed'}
    labels = ['real: tiny', 'run', 'other', str(folder)]
    for name in ('spectra', 'windowed'):
        assert list(result[name]['labels']) == labels
    power = result['spectra']['power']
    np.testing.assert_allclose(power[3], power[1], rtol=1e-5)
    assert np.abs(power[2] / power[1] - 1).max() > 0.1
    assert result['windowed']['spectrum'].shape == (4, 16, 16)


def test_real_images_may_be_a_folder_or_another_set(analysed, tmp_path):
    images = tmp_path / 'images'
    (images / 'more').mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    for i, name in enumerate(('a.png', 'b.png', 'more/c.png')):
        Image.fromarray(pixels[i]).save(images / name)
    Image.fromarray(np.kron(pixels[2], np.ones((3, 5, 1), np.uint8))).save(images / 'more/d.jpg')
    (images / 'notes.txt').write_text('not an image')
    found = analyse.folder_images(str(images), (4, 4), 9)
    assert found.shape == (4, 4, 4, 3)
    np.testing.assert_allclose(found[:3], pixels / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(analyse.folder_images(str(images), (4, 4), 2), found[:2])
    result = analysed('--only=spectra', f'--images={images}', '--num=9')['spectra']
    assert list(result['counts']) == [4, 9]
    np.testing.assert_allclose(result['power'][0], slow_power(found).mean(axis=0), rtol=1e-4)
    result = analysed('--only=spectra', '--data=plain', '--split=train', '--num=30')['spectra']
    assert list(result['labels']) == ['real: plain', 'run']
    assert list(result['counts']) == [30, 30]


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'a\.png'):
        analyse.folder_images(str(tmp_path), (4, 4), 1)


def test_encodings_are_those_of_the_training_frame(run):
    parts = analyse.encodings(run)
    assert list(parts) == ['fourier', 'embedding']
    params = jax.device_get(run.variables['params'])
    y, x = np.mgrid[-1:1:4j, -1:1:4j]
    phase = np.stack([x, y], axis=-1) @ params['fourier']['kernel'] + params['fourier']['bias']
    expected = {'fourier': np.sin(phase), 'embedding': np.asarray(params['embedding']['table'])}
    for name, part in parts.items():
        maps = expected[name]
        transform = np.fft.fftshift(np.fft.fft2(maps, axes=(0, 1)), axes=(0, 1))
        magnitude = np.log(np.abs(transform)).mean(axis=-1)
        np.testing.assert_allclose(part['log_magnitude'], magnitude, atol=1e-3)
        features = maps.reshape(16, -1)
        variances = np.linalg.eigvalsh(np.cov(features.T))[::-1]
        np.testing.assert_allclose(part['explained'], (variances / variances.sum())[:3], rtol=1e-3)
        components = part['components'].reshape(16, 3)
        np.testing.assert_allclose(
            components.var(axis=0), part['explained'] * features.var(axis=0).sum(), rtol=1e-3
        )


def test_a_model_with_one_encoding_has_one_row(tmp_path):
    for field, left in (('embedding', 'fourier'), ('fourier', 'embedding')):
        run = restore(tiny.make_run(tmp_path / field, **{f'model__{field}': False}))
        parts = analyse.encodings(run)
        assert list(parts) == [left]
        assert len(plots.encodings(parts).axes) == 6  # five panels and the colour bar


def slow_signs(params, features, w, layers):
    """The signs of all pre-activations `[N, C]` of each layer, in numpy."""
    x, signs = features, []
    for name in layers:
        p = params
        for part in name.split('/'):
            p = p[part]
        channels = x.shape[1]
        style = w @ p['affine']['kernel'] / np.sqrt(w.shape[0]) + p['affine']['bias']
        kernel = p['kernel'] / np.sqrt(channels) * style[:, None]
        y = x @ (kernel / np.sqrt(np.sum(kernel**2, axis=0) + 1e-8)) + p['bias']
        signs.append(y > 0)
        x = np.where(y > 0, y, 0.2 * y) * np.sqrt(2)
    return signs


def test_the_partition_is_that_of_the_signs_of_the_pre_activations(run):
    generator, size = run.generator, (6, 5)
    _, w = run.styles([1])
    result = partition(run, w, size)
    features = generator.apply(run.variables, generator.points(*size)[None], method='encode')[0]
    layers = ['input', 'block_0/layer_0', 'block_0/layer_1']
    params = jax.device_get(run.variables['params'])
    signs = slow_signs(params, np.asarray(features), np.asarray(w[0]), layers)
    joint = [()] * 30
    for i, of_layer in enumerate(signs):
        patterns = [tuple(row) for row in of_layer.tolist()]
        joint = [a + b for a, b in zip(joint, patterns, strict=True)]
        assert result['regions'][i] == len(set(patterns))
        assert result['joint_regions'][i] == len(set(joint))
        grid = of_layer.reshape(*size, -1)
        for y, x in np.ndindex(size):
            below, right = grid[min(y + 1, 5), x], grid[y, min(x + 1, 4)]
            crossed = np.sum((grid[y, x] != below) | (grid[y, x] != right))
            assert result['crossings'][i, y, x] == crossed
        colours = {}
        for pattern, colour in zip(patterns, result['colours'][i].reshape(30, 3), strict=True):
            np.testing.assert_array_equal(colours.setdefault(pattern, colour), colour)
    image = run.render(np.asarray(generator.points(*size)), w).reshape(*size, 3)
    np.testing.assert_allclose(result['image'], image, atol=1e-4)


def test_a_picture_larger_than_a_tile_has_the_same_partition(run, monkeypatch):
    _, w = run.styles([0])
    whole = partition(run, w, (7, 9))
    monkeypatch.setattr('jaxgen.apps.partition._POINTS_AT_ONCE', 10)
    tiles = partition(run, w, (7, 9))
    for name in ('crossings', 'regions', 'joint_regions'):
        np.testing.assert_array_equal(tiles[name], whole[name])
    np.testing.assert_allclose(tiles['image'], whole['image'], atol=1e-5)


def test_sine_channels_are_left_out_of_the_partition(tmp_path):
    run = restore(tiny.make_run(tmp_path / 'sinrelu', model__activation='sinrelu'))
    result = partition(run, run.styles([0])[1], (8, 8))
    assert result['crossings'].max() <= 2  # of four channels


def test_noise_is_left_out_of_the_partition(tmp_path):
    for noise in ('const', 'random'):
        run = restore(tiny.make_run(tmp_path / noise, model__noise=noise))
        quiet = dataclasses.replace(run, generator=run.generator.clone(noise='none'))
        _, w = run.styles([0])
        results = [partition(each, w, (8, 8)) for each in (run, quiet)]
        np.testing.assert_array_equal(results[0]['crossings'], results[1]['crossings'])


def test_published_weights_are_analysed_beside_a_folder_of_images(commands, tmp_path):
    weights = ROOT / 'tests' / 'golden' / 'cips' / 'pt' / 'g_ema_res8.pt'
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{i}.png')
    out = tmp_path / 'out'
    flags = (f'--weights={weights}', f'--out={out}', '--only=spectra', '--num=3')
    child = commands.run('jaxgen.apps.analyse', *flags, f'--images={tmp_path}')
    assert child.code == 0, child.err
    assert len([*out.iterdir()]) == 2
    with np.load(out / 'spectra.npz') as spectra:
        assert list(spectra['labels']) == [f'real: {tmp_path}', 'g_ema_res8.pt']
    child = commands.run('jaxgen.apps.analyse', *flags)
    assert_one_line(child.code, child.err, ('names no data set', '--data', '--images'))


def test_a_generator_that_is_not_cips_has_spectra_alone():
    run = SimpleNamespace(generator=nn.Dense(3), source='weights.pkl')
    assert analyse._choose(run, None) == ['spectra']
    assert analyse._choose(run, ['windowed']) == ['windowed']
    for name in ('encodings', 'partition'):
        with pytest.raises(UserError, match=f"'weights.pkl' is a Dense, --only={name}"):
            analyse._choose(run, [name])


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(UserError, match=r"extra 'plots'"):
        plots.check()


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        ((), ('exactly one of --workdir and --weights',)),
        (('--workdir=a', '--weights=b'), ('exactly one of --workdir and --weights',)),
        (('--workdir=nowhere',), ("'nowhere'", 'holds no run')),
        (('--weights=nowhere.pt',), ('nowhere.pt',)),
        (('--workdir=a', '--only=spectra,waves'), ("'waves'", 'encodings')),
        (('--workdir=a', '--num=0'), ('num', '0')),
        (('--workdir=a', '--num=-3'), ('num', '-3')),
        (('--workdir=a', '--size=0x4'), ('--size', "'0x4'")),
        (('--workdir=a', '--wide'), ('wide',)),
    ],
)
def test_a_wrong_flag_is_one_line_and_leaves_no_folder(commands, tmp_path, flags, words):
    child = commands.run('jaxgen.apps.analyse', f'--out={tmp_path / "out"}', *flags)
    assert_one_line(child.code, child.err, words)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (('--out=/dev/null/out',), ('/dev/null/out',)),
        (('--data=nowhere',), ("'nowhere' is not prepared",)),
        (('--data=photographs/moon',), ("'photographs/moon'",)),
        (('--images=/nonexistent',), ('--images', '/nonexistent')),
        (('--data=tiny', '--images=x'), ('only one of --data and --images',)),
        (('--split=last',), ("'last'", 'test')),
        (('--compare=/nonexistent',), ('/nonexistent', 'holds no run')),
        (('--label=2',), ('label', 'no classes')),
    ],
)
def test_what_only_the_run_can_tell_is_one_line_and_leaves_nothing(
    commands, folder, tmp_path, flags, words
):
    out = tmp_path / 'out'
    child = commands.run(
        'jaxgen.apps.analyse', f'--workdir={folder}', f'--out={out}', '--only=spectra', *flags
    )
    assert_one_line(child.code, child.err, words)
    assert not out.exists() or not [*out.iterdir()]


def test_a_run_or_a_set_of_another_size_is_one_line(commands, folder, tmp_path, tiny_data):
    larger = tiny.make_run(
        tmp_path / 'larger', model__size=8, discriminator__channels=(4, 4), data__dir=str(tiny_data)
    )
    for source, flags, words in (
        (folder, [f'--compare={larger}'], ('8×8', '4×4', str(larger))),
        (larger, [], ("'tiny'", '4×4', '8×8')),
    ):
        child = commands.run(
            'jaxgen.apps.analyse', f'--workdir={source}', f'--out={tmp_path}', '--num=1', *flags
        )
        assert_one_line(child.code, child.err, words)


def test_a_sine_model_has_no_partition(tmp_path):
    run = restore(tiny.make_run(tmp_path / 'sine', model__activation='sin'))
    assert analyse._choose(run, None) == ['encodings', 'spectra']
    with pytest.raises(UserError, match="activation 'sin'"):
        analyse._choose(run, ['partition'])
