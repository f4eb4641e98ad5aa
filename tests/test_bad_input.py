"""A mistake of the user's is one line that names the value and what is allowed, and exit code 2."""

import os
import subprocess
import sys

import pytest

from jaxgen.training import workdir
from tests import tiny
from tests.fork_server import ROOT

CIPS = '--config=configs/cips.py'
PIXELCNN = '--config=configs/pixelcnn.py'
STYLEGAN2 = '--config=configs/stylegan2.py'


def assert_one_line(code, err, words):
    assert code == 2, err
    assert 'Traceback' not in err
    (line,) = err.splitlines()
    assert line.startswith('error: ')
    assert len(line) < 500
    for word in words:
        assert word in line


@pytest.fixture
def refuses(commands, tiny_data, tmp_path):
    """Runs the tiny training with other fields, and checks the message."""

    def run(*words, kind='cips', folder=None, extra=(), devices=1, **fields):
        arguments = [*tiny.flags(tiny_data, kind, **fields), *extra]
        child = commands.run(
            'jaxgen.train',
            *arguments,
            f'--workdir={folder or tmp_path / "run"}',
            config={'jax_num_cpu_devices': devices},
        )
        assert_one_line(child.code, child.err, words)
        assert 'compiling' not in child.out

    return run


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((f'{CIPS}:tiny', '--workdir=w'), ("'tiny'", "'demo'", "'smoke'")),
        ((f'{PIXELCNN}:tiny', '--workdir=w'), ("'tiny'", "'masked'", "'demo'")),
        ((f'{STYLEGAN2}:tiny', '--workdir=w'), ("'tiny'", "'ffhq256'", "'demo'")),
        ((f'{STYLEGAN2}:smoke', '--workdir=w', '--config.model.size=(8,16)'), ('size', '(8,16)')),
        (('--config=configs/none.py', '--workdir=w'), ('configs/none.py',)),
        (('--workdir=w',), ('--config is missing',)),
        ((f'{CIPS}:smoke',), ('--workdir is missing',)),
        ((f'{CIPS}:smoke', '--workdir=w', 'now'), ("unexpected argument 'now'",)),
        ((f'{CIPS}:smoke', '--worksdir=w'), ('worksdir', 'workdir')),
        ((f'{CIPS}:smoke', '--workdir=w', '--config.stepps=1'), ('stepps', 'steps')),
        ((f'{CIPS}:smoke', '--workdir=w', '--config.model.depth=1'), ('model.depth',)),
        ((f'{CIPS}:smoke', '--workdir=w', '--config.steps=many'), ('steps', 'many', 'int')),
        ((f'{CIPS}:smoke', '--workdir=w', '--config.batch_size=8.5'), ('batch_size', '8.5')),
        ((f'{CIPS}:smoke', '--workdir=w', '--config.data.flip=maybe'), ('data.flip', 'maybe')),
        (
            (f'{CIPS}:smoke', '--workdir=w', '--config.model.block_widths=wide'),
            ('block_widths', 'wide'),
        ),
    ],
)
def test_a_command_line_that_cannot_be_read(commands, arguments, words):
    child = commands.run('jaxgen.train', *arguments)
    assert_one_line(child.code, child.err, words)


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(task='diffusion'), ("'diffusion'", "'adversarial'", "'likelihood'")),
        (dict(steps=0), ('steps must be at least 1, got 0',)),
        (dict(batch_size=0), ('batch_size must be at least 1, got 0',)),
        (dict(samples=0), ('samples must be at least 1, got 0',)),
        (dict(data__threads=0), ('data.threads must be at least 1, got 0',)),
        (dict(checkpoint_every=0), ('checkpoint_every must be at least 1, got 0',)),
        (dict(sample_every=-1), ('sample_every must be 0', 'got -1')),
        (dict(seed=-1), ('seed must be', 'got -1')),
        (dict(seed=2**31), ('seed must be', 'got 2147483648')),
        (dict(loss__r1_every=-1), ('loss.r1_every must be 0', 'got -1')),
        (dict(ema_decay=1.5), ('ema_decay must be', 'got 1.5')),
        (dict(plan='tpu'), ("'tpu'", "'jit'", "'pmap'")),
        (dict(batch_size=6), ('minibatch_std_group=4', 'got 6')),
        (dict(model__dtype='float16'), ("'float16'", "'bfloat16'")),
        (dict(discriminator__dtype='half'), ('discriminator.dtype', "'half'", "'float32'")),
        (dict(model__activation='gelu'), ("'gelu'", "'lrelu'")),
        (dict(model__noise='gauss'), ("'gauss'", "'const'")),
        (dict(model__lookup='nearest'), ("'nearest'", "'exact'")),
        (dict(model__features=0), ('features must be positive, got 0',)),
        (dict(model__block_widths='()'), ('at least one block',)),
        (dict(model__fourier=False, model__embedding=False), ('fourier and embedding',)),
        (dict(model__size=6), ('6×6', '4×4')),
        (dict(model__size=8), ('8×8', "'tiny'", '4×4')),
        (dict(data__name='plain', discriminator__channels='()'), ('channels', '[4]')),
        (dict(data__label=True), ('data.label is True', 'num_classes')),
        (dict(model__num_classes=3), ('num_classes is 3', 'data.label is False')),
        (dict(model__num_classes=4, data__label=True), ('4', "'tiny'", '3')),
        (
            dict(model__num_classes=3, data__label=True, data__name='plain'),
            ("'plain' has no labels",),
        ),
        (dict(batch_size=40), ('batch_size', '36', '40')),
        (dict(data__name='nowhere'), ("'nowhere' is not prepared", 'jaxgen.data.prepare')),
        (dict(data__name='../tiny'), ("'../tiny'", 'NAME/CONFIG')),
        (dict(data__name='photographs/moon'), ("'photographs/moon'", 'photographs/all')),
        (dict(data__train_split='most'), ("'most'", 'train')),
        (dict(data__eval_split='last'), ("'last'", 'test')),
        (dict(evaluate_every=1), ('evaluate.images', '12', "'tiny'")),
        (dict(mesh__pixel=2), ('mesh.pixel must divide the 1 devices, got 2',)),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_run(refuses, fields, words):
    refuses(*words, **fields)


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(task='diffusion'), ("'diffusion'", "'adversarial'", "'likelihood'")),
        (dict(steps=0), ('steps must be at least 1, got 0',)),
        (dict(evaluate_every=-1), ('evaluate_every must be 0', 'got -1')),
        (dict(evaluate__images=-1), ('evaluate.images must be 0', 'got -1')),
        (dict(ema_decay=1.5), ('ema_decay must be', 'got 1.5')),
        (dict(init_from='elsewhere'), ('init_from', "'elsewhere'")),
        (dict(model__levels=1), ('model.levels must be from 2 to 256, got 1',)),
        (dict(model__levels=257), ('model.levels must be from 2 to 256, got 257',)),
        (dict(model__network='pixelsnail'), ("'pixelsnail'", "'gated_pixelcnn'")),
        (dict(model__network='pixelcnn'), ('model', 'kernel_size')),
        (dict(model__features=2), ('features must be 3 or more', 'got 2')),
        (dict(model__kernel_size=4), ('kernel_size must be odd', 'got 4')),
        (dict(model__shift='up'), ("'up'", "'input'")),
        (dict(model__dtype='float16'), ("'float16'", "'bfloat16'")),
        (dict(optimizer__name='sgd'), ("'sgd'", "'rmsprop'")),
        (dict(data__size=0), ('data.size must be 1 or more, got 0',)),
        (dict(data__size=8), ('8×8', "'tiny'", '4×4')),
        (dict(model__colours=1), ('model.colours', '1 channels', '3 channels')),
        (dict(model__num_classes=0), ('data.label is True', 'num_classes')),
        (dict(data__label=False), ('num_classes is 3', 'data.label is False')),
        (dict(model__num_classes=4), ('4', "'tiny'", '3')),
        (dict(data__name='plain'), ("'plain' has no labels",)),
        (dict(data__eval_split='last'), ("'last'", 'test')),
        (dict(evaluate_every=1, evaluate__images=12), ('evaluate.images', '12', "'tiny'")),
    ],
    ids=str,
)
def test_a_likelihood_config_that_cannot_be_run(refuses, fields, words):
    refuses(*words, kind='pixelcnn', **fields)


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(model__network='stylegan1'), ("'stylegan1'", "'cips'", "'stylegan3'")),
        (dict(model__size=12), ('model.size must be a power of two from 8', 'got 12')),
        (dict(model__architecture='dense'), ("'dense'", "'skip'")),
        (dict(model__noise='gauss'), ("'gauss'", "'const'")),
        (dict(discriminator__channel_base=4), ('discriminator.channel_base', 'size=8', 'got 4')),
        (dict(discriminator__freeze_layers=9), ('freeze_layers must be at most 3', 'got 9')),
        (dict(discriminator__dtype='float16'), ('discriminator.dtype', "'float16'", "'bfloat16'")),
        (dict(loss__style_mixing=1.5), ('loss.style_mixing must be from 0 to 1', 'got 1.5')),
        (dict(loss__path_length_every=-1), ('loss.path_length_every must be 0', 'got -1')),
        (dict(loss__path_length_shrink=3), ('path_length_shrink=3', 'got 8')),
        (dict(augment__pipeline='gbc'), ('augment.pipeline', "'bgc'", "'gbc'")),
        (dict(augment__p=2.0), ('augment.p must be from 0 to 1', 'got 2.0')),
        (dict(augment__target=1.0), ('augment.target must be 0', 'got 1.0')),
        (dict(ema__kimg=-1.0), ('ema.kimg must be 0', 'got -1.0')),
        (dict(model__size=16), ('model.size', '16×16', "'tiny8'", '8×8')),
        (dict(data__label=False), ('num_classes is 3', 'data.label is False')),
    ],
    ids=str,
)
def test_a_stylegan_config_that_cannot_be_run(refuses, fields, words):
    refuses(*words, kind='stylegan2', **fields)


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(batch_size=12), ('batch_size', '8 devices', '12')),
        (dict(mesh__pixel=3), ('mesh.pixel must divide the 8 devices, got 3',)),
        (dict(mesh__data=3), ('must be the 8 devices, got 3 × 1',)),
        (dict(plan='pmap', mesh__pixel=2, batch_size=32), ('mesh.pixel must be 1, got 2',)),
        (dict(plan='pmap', batch_size=8), ('batch_size', '8 devices × 4', 'got 8')),
        (
            dict(plan='pmap', batch_size=32, discriminator__minibatch_std_grouping='strided'),
            ("'pmap'", "'strided'", "'contiguous'"),
        ),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_the_devices(refuses, fields, words):
    refuses(*words, devices=8, **fields)


def test_a_workdir_below_a_file(refuses, tmp_path):
    (tmp_path / 'file').touch()
    refuses('workdir', str(tmp_path / 'file' / 'run'), folder=tmp_path / 'file' / 'run')


def test_a_workdir_of_another_model(refuses, tmp_path, tiny_data):
    from configs.cips import get_config

    folder = workdir.create(str(tmp_path / 'other'))
    workdir.adopt_config(folder, get_config('smoke'))
    before = (folder / 'config.json').read_text()
    refuses(str(folder), 'another model', 'model.size: 32 before, 4 now', folder=folder)
    assert (folder / 'config.json').read_text() == before


def test_a_workdir_of_another_kind_of_model(refuses, tmp_path):
    folder = workdir.create(str(tmp_path / 'other'))
    workdir.adopt_config(folder, tiny.config())
    refuses('another model', 'task: adversarial before', folder=folder, kind='pixelcnn')


def test_a_workdir_whose_config_is_not_json(refuses, tmp_path):
    folder = workdir.create(str(tmp_path / 'broken'))
    (folder / 'config.json').write_text('{"steps": ')
    refuses(str(folder / 'config.json'), 'not valid JSON', folder=folder)


def test_the_shipped_config_says_how_to_prepare_its_data_before_anything_is_compiled():
    # The real command, as an ordinary user starts it.
    done = subprocess.run(
        [sys.executable, '-m', 'jaxgen.train', CIPS, '--workdir=unused'],
        cwd=ROOT,
        env=os.environ | {'JAXGEN_DATA_DIR': '/nonexistent'},
        capture_output=True,
        text=True,
    )
    prepare = 'python -m jaxgen.data.prepare --source=FOLDER --name=ffhq256 --size=256'
    assert_one_line(done.returncode, done.stderr, ("'ffhq256' is not prepared", prepare))
    assert not (ROOT / 'unused').exists()
