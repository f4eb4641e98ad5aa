"""`python -m jaxgen.compile` as a user calls it, on simulated devices: no libtpu is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.pixelcnn import get_config
from jaxgen.parallel.roofline import Fields

ROOT = Path(__file__).parent.parent
TINY = (
    '--config.model.size=8',
    '--config.model.block_widths=(4,)',
    '--config.discriminator.channels=(4,4)',
)


def _run(*arguments):
    environment = os.environ | {
        'NPROC': '16',
        'PYTHONPATH': str(ROOT),
        'XLA_FLAGS': '--xla_backend_optimization_level=0',  # the fastest to compile
    }
    environment.pop('JAX_NUM_CPU_DEVICES', None)
    command = (sys.executable, '-m', 'jaxgen.compile', *arguments)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope='module')
def report():
    """What the command prints with --json for the tiny model over 2 × 2 devices."""
    done = _run(
        '--config=configs/cips.py:smoke',
        *TINY,
        '--config.mesh.pixel=2',
        '--config.loss.r1_every=4',
        '--topology=cpu:4',
        '--json',
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_json_describes_the_whole_step_and_nothing_else_is_on_stdout(report):
    assert report['fits'] is True
    assert report['devices'] == report['chips'] == 4
    assert report['batch'] == 8
    assert [(p['name'], p['every']) for p in report['phases']] == [
        ('discriminator', 1),
        ('r1', 4),
        ('generator', 1),
    ]
    for phase in report['phases']:
        assert phase['seconds'] > 0
        assert phase['traffic'] > phase['memory']['arguments'] > 0
        assert phase['model_flops'] == 4 * phase['flops'] > 0
    assert report['memory'] > max(p['memory']['arguments'] for p in report['phases'])


def test_the_state_is_donated_to_every_phase(report):
    # All of the state comes back in its own buffers; only metrics are new.
    for phase in report['phases']:
        assert 0 <= phase['memory']['outputs'] - phase['memory']['aliased'] < 2_000


def test_gradients_are_summed_over_all_devices_in_every_phase(report):
    for phase in report['phases']:
        sums = [c for c in phase['collectives'] if c['kind'] == 'all-reduce']
        assert any(c['group'] == 4 and c['axes'] == 'data+pixel' for c in sums)


def test_switching_from_pixels_to_images_is_an_all_to_all_over_the_pixel_axis(report):
    moves = {
        p['name']: {(c['kind'], c['axes']) for c in p['collectives']} for p in report['phases']
    }
    assert ('all-to-all', 'pixel') in moves['discriminator']
    assert ('all-to-all', 'pixel') in moves['generator']
    assert ('all-to-all', 'pixel') not in moves['r1']


def test_no_convolution_is_split_in_space(report):
    kinds = {c['kind'] for phase in report['phases'] for c in phase['collectives']}
    assert 'collective-permute' not in kinds


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--config=configs/cips.py:smoke', '--topology=v9:2x2'), ('v9:2x2', 'v5e:4x4', 'cpu:8')),
        (('--config=configs/cips.py:smoke', '--topology=cpu:3'), ('batch_size', '3 devices', '8')),
        (('--topology=cpu:2',), ('--config',)),
        (
            ('--config=configs/cips.py:smoke', '--topology=cpu:2', '--config.mesh.pixel=3'),
            ('mesh.pixel', '3'),
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, words):
    done = _run(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith('error: ')
    for word in words:
        assert word in line


def test_a_likelihood_step_is_one_phase_and_advice_names_fields_that_its_model_has():
    done = _run('--config=configs/pixelcnn.py:masked_smoke', '--topology=cpu:2', '--json')
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(p['name'], p['every']) for p in report['phases']] == [('update', 1)]
    model = get_config('masked_smoke').model.unlock()
    advice = Fields(8, parts={'model': model}).advice(2)
    assert any(line.startswith('model.dtype=bfloat16') for line in advice)
    assert any(line.startswith('model.remat') for line in advice)
    del model['remat']
    assert not any('remat' in line for line in Fields(8, parts={'model': model}).advice(2))
