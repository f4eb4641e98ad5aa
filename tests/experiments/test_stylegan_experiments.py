"""Every experiment on StyleGAN2 and StyleGAN3 runs at smoke size, by commands that a user types.

Runs are tiny converted weights where the experiments look for trained ones; training itself is
tested elsewhere, for all configs.
"""

import importlib
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import runs as running
from jaxgen.interop import imported
from tests.apps.conftest import STYLEGANS, stylegan_variables

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = sorted(path.name for path in (ROOT / 'experiments').glob('stylegan[23]_*/'))


@pytest.fixture(scope='module')
def save():
    """`save(folder)`: a finished run of the kind that the folder's name begins with."""
    networks = {
        kind: {'ema': jax.tree.map(np.asarray, stylegan_variables(generator))}
        for kind, generator in STYLEGANS.items()
    }

    def write(folder):
        kind = folder.name.partition('-')[0]
        imported.save(folder, imported.Imported(kind, STYLEGANS[kind], networks[kind]))

    return write


@pytest.fixture
def experiment(run_smoke, save, tmp_path):
    """Runs an experiment; gives its commands and its files. A training leaves a finished run.

    `mocked`: commands that are not started.
    """

    def trained(arguments):
        given = dict(argument.removeprefix('--').partition('=')[::2] for argument in arguments)
        folder = pathlib.Path(given['workdir'])
        save(folder)
        (folder / 'metrics.jsonl').write_text('{"step": 8, "swd": 0.25, "eqr4": 12.5}\n')

    def run(name, *flags, mocked=()):
        instead = {'jaxgen.train': trained} | dict.fromkeys(mocked, lambda arguments: None)
        return run_smoke(name, tmp_path, *flags, instead=instead)

    return run


@pytest.mark.parametrize(
    ('name', 'app', 'files'),
    [
        ('stylegan2_resolution_usage', 'resolution_usage',
         ['paper_config_f.npz', 'paper_config_f.png']),
        ('stylegan2_style_mixing', 'style_mixing', ['loop.gif', 'table.png']),
        ('stylegan3_internal', 'feature_maps', ['stylegan2_walk.png', 'translation.png']),
        ('stylegan3_texture_sticking', 'transform', ['0.png']),
    ],
)  # fmt: skip
def test_pictures_are_made_of_runs_that_are_trained_first(experiment, name, app, files):
    started, made = experiment(name)
    modules = [command[0] for command in started]
    assert modules[0] == 'jaxgen.train'
    assert f'jaxgen.apps.{app}' in modules
    assert sorted(made) == files
    for path in made.values():
        if path.suffix != '.npz':
            with Image.open(path) as picture:
                assert np.ptp(np.asarray(picture.convert('L'))) > 0


def test_equivariance_is_measured_and_lands_in_the_table(experiment):
    started, made = experiment('stylegan3_equivariance', '--only=r1024')
    assert [command[0] for command in started] == ['jaxgen.train', 'jaxgen.evaluate']
    assert started[0][1] == '--config=configs/stylegan3.py:r1024_smoke'
    header, _, row = made['table.md'].read_text().splitlines()
    cells = dict(zip(header.split(' | '), row.split(' | '), strict=True))
    assert cells['EQ-R, published'] == '46.62'
    for name in ('EQ-T, ours', 'EQ-T frac, ours'):
        assert 0 < float(cells[name]) < 150


@pytest.mark.parametrize(
    ('name', 'row', 'config', 'metrics'),
    [
        ('stylegan2_ladder', 'config_d', 'stylegan2.py:paper_config_d_smoke', None),
        ('stylegan3_ladder', 'a', 'stylegan3.py:config_a_smoke', None),
        ('stylegan3_ladder', 'b', 'stylegan3.py:config_b_smoke', '--metrics=eqt4_int,eqr4'),
        ('stylegan3_ladder', 'g', 'stylegan3.py:config_g_smoke', '--metrics=eqt4_int,eqr4'),
    ],
)
def test_a_rung_is_trained_as_it_is_called(experiment, name, row, config, metrics):
    started, made = experiment(name, f'--only={row}', mocked=['jaxgen.evaluate'])
    assert started[0][:2] == ('jaxgen.train', f'--config=configs/{config}')
    assert [command[-1] for command in started[1:]] == ([metrics] if metrics else [])
    header, _, line = made['table.md'].read_text().splitlines()
    cells = dict(zip(header.split(' | '), line.split(' | '), strict=True))
    assert cells['| run'] == f'| {row}'
    assert cells['steps'] == '8'
    assert '0.25' in line
    if name == 'stylegan3_ladder':
        assert cells['EQ-R, ours |'] == '12.5 |'


def test_full_runs_are_measured_by_the_published_metrics(monkeypatch, tmp_path):
    seen = []

    def start(module, *arguments):
        seen.append((module, *arguments))
        folder = pathlib.Path(arguments[1 if module == 'jaxgen.train' else 0].partition('=')[2])
        (folder / 'checkpoints' / '7').mkdir(parents=True, exist_ok=True)
        (folder / 'config.json').write_text('{"steps": 7}')
        figures = {'step': 7, 'fid50k_full': 3.25, 'ppl2_wend': 130.5}
        (folder / 'metrics.jsonl').write_text(json.dumps(figures) + '\n')
        return 0

    monkeypatch.setattr(running, 'start', start)
    module = importlib.import_module('experiments.stylegan2_ladder.run')
    module.main([f'--runs={tmp_path}', '--only=config_e'])
    folder = f'{tmp_path}/stylegan2-paper_config_e'
    assert seen == [
        ('jaxgen.train', '--config=configs/stylegan2.py:paper_config_e', f'--workdir={folder}'),
        ('jaxgen.evaluate', f'--workdir={folder}', '--metrics=fid50k_full,ppl2_wend'),
    ]
    table = (tmp_path / 'experiments' / 'stylegan2_ladder' / 'table.md').read_text()
    assert '| config_e | 7 | 3.31 | 3.25 | 124.5 | 130.5 |' in table


def test_spectra_set_all_three_beside_each_other(experiment, tmp_path):
    started, _ = experiment('stylegan3_spectra', mocked=['jaxgen.apps.analyse'])
    module, *flags = started[-1]
    assert module == 'jaxgen.apps.analyse'
    others = f'{tmp_path}/stylegan3-r256_smoke,{tmp_path}/stylegan2-ffhq256_smoke'
    assert f'--workdir={tmp_path}/stylegan3-t256_smoke' in flags
    assert f'--compare={others}' in flags
    assert '--only=windowed' in flags


def test_every_row_of_a_table_is_a_variant_of_a_config():
    from configs import stylegan2, stylegan3
    from jaxgen.evaluation.protocols import parse

    ladders = {
        name: importlib.import_module(f'experiments.{name}.run')
        for name in ('stylegan2_ladder', 'stylegan3_ladder', 'stylegan3_equivariance')
    }
    rows = [f'stylegan2:paper_{row}' for row in ladders['stylegan2_ladder'].PUBLISHED]
    rows += ladders['stylegan3_ladder'].CONFIGS.values()
    rows += [f'stylegan3:{row}' for row in ladders['stylegan3_equivariance'].PUBLISHED]
    for row in rows:
        config, _, variant = row.partition(':')
        for name in (variant, f'{variant}_smoke'):
            {'stylegan2': stylegan2, 'stylegan3': stylegan3}[config].get_config(name)
    for module in ladders.values():
        assert len(parse(','.join(module.METRICS.values()))) == len(module.METRICS)


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_folder_says_claim_command_published_and_measured(folder):
    text = (ROOT / 'experiments' / folder / 'README.md').read_text()
    for word in ('**Claim.**', '**Command.**', '**Published.**', '**Measured.**', '**Smoke.**'):
        assert word in text
    assert f'python -m experiments.{folder}.run' in text
    assert 'MEASURED' not in text
