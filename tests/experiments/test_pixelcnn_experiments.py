"""Every experiment on the PixelCNN family runs at smoke size, by the commands that a user types."""

import importlib
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from experiments import runs as running
from jaxgen.data import digits
from tests import tiny

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = sorted(path.name for path in (ROOT / 'experiments').glob('pixelcnn_*/'))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Folders of finished runs, where the experiments look for them."""
    folder = tmp_path_factory.mktemp('runs')
    digits_of = dict(
        data__name='digits', data__size=8, model__colours=1, model__num_classes=10
    )  # fmt: skip
    for name, kind, fields in (
        ('pixelcnn-smoke', 'pixelcnn', digits_of),
        ('pixelcnn-autoencoder_smoke', 'autoencoder', {}),
        ('pixelcnn-autoencoder_mse_smoke', 'autoencoder_mse', {}),
    ):
        made = tiny.make_run(folder / name, kind, steps=5, data__dir=str(folder), **fields)
        loss = 'squared_error' if 'mse' in name else 'bits_per_dim'
        line = {'step': 5, f'{loss}/train': 2.5, f'{loss}/held_out': 1.25}
        (made / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
    return folder


@pytest.fixture
def experiment(run_smoke, runs):
    """Runs an experiment; gives the modules that it started, and its files."""

    def run(name, *flags):
        started, files = run_smoke(f'pixelcnn_{name}', runs, *flags)
        return [module for module, *_ in started], files

    return run


@pytest.mark.parametrize(
    ('name', 'files', 'words'),
    [
        ('digits', ['classes.png', 'completions.png'], ['5 steps | 1.25 |', '| 2.193 |', '3.185']),
        ('autoencoder', ['paths.png', 'reconstructions.png'], ['| 1.250 | 0.', '| 0.8972 |']),
        ('receptive_field', ['fields.png'], []),
    ],
)
def test_runs_on_finished_runs(experiment, name, files, words):
    started, made = experiment(name)
    assert all(module.startswith('jaxgen.apps.') for module in started)
    assert sorted(made) == sorted([*files, *(['table.md'] if words else [])])
    for file in files:
        with Image.open(made[file]) as picture:
            assert np.ptp(np.asarray(picture.convert('L'))) > 0
    for word in words:
        assert word in made['table.md'].read_text()


def test_a_row_of_the_main_table_is_trained_as_it_is_called(monkeypatch, tmp_path):
    seen = []

    def start(module, *arguments):
        seen.append((module, *arguments))
        folder = pathlib.Path(arguments[1].removeprefix('--workdir='))
        (folder / 'checkpoints' / '7').mkdir(parents=True)
        (folder / 'config.json').write_text('{"steps": 7}')
        line = {'step': 7, 'bits_per_dim/held_out': 0.146, 'bits_per_dim/train': 0.14}
        (folder / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
        return 0

    monkeypatch.setattr(running, 'start', start)
    module = importlib.import_module('experiments.pixelcnn_likelihoods.run')
    module.main([f'--runs={tmp_path}', '--only=pixelrnn:mnist', '--config.data.dir=d'])
    assert seen == [
        ('jaxgen.train', '--config=configs/pixelrnn.py:mnist',
         f'--workdir={tmp_path}/pixelrnn-mnist', '--config.data.dir=d'),
    ]  # fmt: skip
    table = (tmp_path / 'experiments' / 'pixelcnn_likelihoods' / 'table.md').read_text()
    assert '| pixelrnn:mnist | 79.2 | 7 | 79.34 | 0.14 |' in table


def test_every_row_of_the_main_table_is_a_variant_of_a_config():
    module = importlib.import_module('experiments.pixelcnn_likelihoods.run')
    for row in module.PUBLISHED:
        file, variant = row.split(':')
        get_config = importlib.import_module(f'configs.{file}').get_config
        for name in (variant, f'{variant}_smoke'):
            assert get_config(name).task == 'likelihood'


def test_a_histogram_codes_what_it_has_seen_and_by_class_better():
    module = importlib.import_module('experiments.pixelcnn_digits.run')
    train = np.zeros((100, 2, 2), int)
    train[50:] = 16
    groups = np.repeat([0, 1], 50)
    one_bit = module.histogram(train, train)
    assert 1 < one_bit < 1.3
    assert module.histogram(train, train, (groups, groups)) < 0.3
    even = module.histogram(train[:0], train[:10])
    assert even == pytest.approx(np.log2(digits.LEVELS))


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_folder_says_claim_command_published_and_measured(folder):
    text = (ROOT / 'experiments' / folder / 'README.md').read_text()
    for word in ('**Claim.**', '**Command.**', '**Published.**', '**Measured.**', '**Smoke.**'):
        assert word in text
    assert f'python -m experiments.{folder}.run' in text
