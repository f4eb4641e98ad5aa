"""Every experiment on CIPS runs at smoke size, by the commands that a user types."""

import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import runs as running
from jaxgen.data.prepare import prepare
from tests import tiny

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = sorted(path.name for path in (ROOT / 'experiments').glob('cips_*/'))
# One step, and nothing else to compile than that.
QUICK = [
    '--config.data.name=squares',
    '--config.steps=1',
    '--config.batch_size=4',
    '--config.loss.r1_every=0',
    '--config.sample_every=0',
    '--config.samples=4',
    '--config.model.mapping_layers=1',
    '--config.evaluate.images=4',
]


@pytest.fixture(scope='module')
def runs(tmp_path_factory, tiny_data):
    """Folders of finished runs, where the experiments look for them."""
    folder = tmp_path_factory.mktemp('runs')
    for variant, fields in (
        ('ffhq256', {}),
        ('ablation_ne', dict(model__embedding=False)),
    ):
        tiny.make_run(folder / f'cips-{variant}_smoke', steps=5, data__dir=str(tiny_data), **fields)
    return folder


@pytest.fixture(scope='module')
def quick(tmp_path_factory):
    """Flags for a training of two steps on 40 images of 32×32."""
    folder, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    (folder / 'source').mkdir()
    for i in range(40):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'source' / f'{i}.png')
    prepare(
        source=str(folder / 'source'),
        name='squares',
        size=(32, 32),
        test_fraction=0.25,
        data_dir=str(folder),
    )
    return [*QUICK, f'--config.data.dir={folder}']


@pytest.fixture
def experiment(run_smoke, runs):
    """Runs an experiment; gives the modules that it started, and its files."""

    def run(name, *flags):
        started, files = run_smoke(f'cips_{name}', runs, *flags)
        return [module for module, *_ in started], files

    return run


def assert_pictures(files, *names):
    assert set(files) == set(names)
    for name in names:
        if not name.endswith(('.npz', '.md')):
            with Image.open(files[name]) as picture:
                assert np.ptp(np.asarray(picture.convert('L'))) > 0


@pytest.mark.parametrize(
    ('name', 'app', 'files'),
    [
        ('encodings', 'analyse', ['encodings.npz', 'encodings.png']),
        ('spectra', 'analyse', ['spectra.npz', 'spectra.png']),
        ('artifacts', 'analyse', ['partition.npz', 'partition.png']),
        ('interpolation', 'interpolate', ['grid.png', 'loop.gif']),
        ('foveation', 'foveated', ['share_0.25.png']),
        ('upscaling', 'gigapixel', ['0-lanczos.png', '0.tif']),
        ('style_blending', 'style_mixing', ['radial-0-1.png']),
    ],
)
def test_runs_on_a_finished_run(experiment, name, app, files):
    started, made = experiment(name)
    assert set(started) == {f'jaxgen.apps.{app}'}
    assert_pictures(made, *files)
    if name == 'spectra':
        labels = np.load(made['spectra.npz'])['labels']
        assert list(labels) == ['real: tiny', 'cips-ffhq256_smoke', 'cips-ablation_ne_smoke']


def test_the_panorama_is_trained_and_goes_round(experiment, runs, quick):
    started, made = experiment('panorama', *quick, '--config.evaluate_every=0')
    assert started == ['jaxgen.train', 'jaxgen.apps.panorama']
    assert running.finished(runs / 'cips-panorama_smoke')
    assert_pictures(made, '0.png', '0.gif')
    started, _ = experiment('panorama')
    assert started == ['jaxgen.apps.panorama']


def test_an_ablation_is_trained_as_it_is_called_and_gives_a_table(experiment, runs, quick):
    started, made = experiment('ablations', '--only=no_fourier', *quick)
    assert started == ['jaxgen.train']
    config = json.loads((runs / 'cips-ablation_no_fourier_smoke' / 'config.json').read_text())
    assert config['model']['fourier'] is False
    header, _, row = made['table.md'].read_text().splitlines()
    cells = dict(zip(header.split('|'), (cell.strip() for cell in row.split('|')), strict=True))
    assert cells[' run '] == 'no_fourier'
    assert cells[' FID, published '] == '10.18'
    assert cells[' steps '] == '1'
    assert float(cells[' swd, ours ']) > 0


def test_the_main_table_starts_the_large_run_from_the_small_one(monkeypatch, runs, tmp_path):
    seen = []

    def start(module, *arguments):
        seen.append((module, *arguments))
        folder = pathlib.Path(arguments[1].removeprefix('--workdir='))
        (folder / 'checkpoints' / '7').mkdir(parents=True)
        (folder / 'config.json').write_text('{"steps": 7}')
        (folder / 'metrics.jsonl').write_text('{"step": 7, "fid": 12.5}\n{"step": 7, "swd": 0.5}\n')
        return 0

    monkeypatch.setattr(running, 'start', start)
    module = importlib.import_module('experiments.cips_fid.run')
    flags = [f'--runs={tmp_path}', '--only=ffhq1024', '--config.data.dir=d']
    module.main(flags)
    small, large = f'{tmp_path}/cips-ffhq256', f'{tmp_path}/cips-ffhq1024'
    assert seen == [
        ('jaxgen.train', '--config=configs/cips.py:ffhq256', f'--workdir={small}',
         '--config.data.dir=d'),
        ('jaxgen.train', '--config=configs/cips.py:ffhq1024', f'--workdir={large}',
         f'--config.init_from={small}', '--config.data.dir=d'),
    ]  # fmt: skip
    table = (tmp_path / 'experiments' / 'cips_fid' / 'table.md').read_text()
    assert '| ffhq1024 | 10.07 | 7 | 12.5 | 0.5 |' in table


def test_every_row_of_a_table_is_a_variant_of_the_config():
    from configs.cips import get_config

    for name, prefix in (('fid', ''), ('ablations', 'ablation_')):
        for row in importlib.import_module(f'experiments.cips_{name}.run').PUBLISHED:
            get_config(f'{prefix}{row}')
            get_config(f'{prefix}{row}_smoke')


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_folder_says_claim_command_published_and_measured(folder):
    text = (ROOT / 'experiments' / folder / 'README.md').read_text()
    for word in ('**Claim.**', '**Command.**', '**Published.**', '**Measured.**', '**Smoke.**'):
        assert word in text
    assert f'python -m experiments.{folder}.run' in text


def test_a_failing_command_ends_the_experiment_with_its_exit_code(monkeypatch, tmp_path):
    monkeypatch.setattr(running, 'start', lambda *_: 2)
    module = importlib.import_module('experiments.cips_encodings.run')
    with pytest.raises(SystemExit) as stopped:
        module.main([f'--workdir={tmp_path}'])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ('flags', 'words'),
    [(['--only=base,all'], "got 'all'"), (['--fast'], "'--fast'"), (['--workdir=x'], '--workdir')],
)
def test_a_wrong_flag_is_named(flags, words, capsys):
    module = importlib.import_module('experiments.cips_ablations.run')
    with pytest.raises(SystemExit) as stopped:
        module.main(flags)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_the_module_is_a_command():
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.cips_artifacts.run', '--help'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert '--smoke' in done.stdout
