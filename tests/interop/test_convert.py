"""From a published file to a folder that samples: the same images, or one line and no trace."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.interop import imported, torch_reader
from jaxgen.training import workdir
from jaxgen.training.restore import from_weights, restore
from tests.fork_server import ROOT
from tests.interop import torch_files as files
from tests.interop.test_hostile_files import CALLS, archive, pickled
from tests.interop.test_torch_reader import PUBLISHED, copied
from tests.test_bad_input import assert_one_line

BARE = PUBLISHED / 'g_ema_res8.pt'
TRAINED = PUBLISHED / 'train_skip8.pt'
ONES = np.ones(3, np.float32)


@pytest.fixture
def refuses(commands, tmp_path):
    """Runs the converter and checks the line, and that there is nothing at --out."""

    def check(*words, source=BARE, out=None, extra=()):
        out = out or tmp_path / 'out'
        child = commands.run('jaxgen.interop.convert', f'--source={source}', f'--out={out}', *extra)
        assert_one_line(child.code, child.err, words)
        assert not (tmp_path / 'out').exists()

    return check


@pytest.fixture
def write(tmp_path):
    def to_file(value):
        path = tmp_path / 'source.pt'
        path.write_bytes(value if isinstance(value, bytes) else files.save_zip(value))
        return path

    return to_file


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('source', [BARE, TRAINED], ids=lambda path: path.stem)
def test_a_folder_gives_back_everything_that_was_imported(source, tmp_path):
    found = imported.read_published(source, frame=(6, 12))
    imported.save(tmp_path / 'deep' / 'run', found)
    assert sorted(path.name for path in (tmp_path / 'deep' / 'run').iterdir()) == [
        'config.json', 'weights.npz',
    ]  # fmt: skip
    again = imported.load(tmp_path / 'deep' / 'run')
    assert_trees_equal(dict(again.networks), dict(found.networks))
    assert again.generator == found.generator
    # Keys of the channels are text where they came through a module.
    assert str(again.discriminator) == str(found.discriminator)
    assert (again.kind, again.frame, again.provenance) == ('cips', (6, 12), found.provenance)
    assert again.provenance['file'] == source.name


def test_the_networks_of_a_training_dictionary_are_told_apart():
    found = imported.read_published(TRAINED)
    stored = torch_reader.read(TRAINED)
    for key, ema in (('g_ema', True), ('g', False)):
        table = found.variables(ema=ema)['params']['embedding']['table']
        np.testing.assert_array_equal(table[..., 0], stored[key]['emb.input'][0, 0])
    assert found.provenance['dropped'] == ['g_optim', 'd_optim']
    means = [found.variables(ema=ema)['stats']['mapping']['w_avg'] for ema in (True, False)]
    assert np.abs(means[0] - means[1]).max() > 0


def test_a_state_dict_alone_has_averaged_parameters_only(tmp_path):
    with pytest.raises(UserError, match=r'g_ema_res8\.pt.*--noema'):
        from_weights(BARE, ema=False)
    imported.save(tmp_path / 'run', imported.read_published(BARE))
    with pytest.raises(UserError, match=r'g_ema_res8\.pt.*--noema'):
        restore(tmp_path / 'run', ema=False)


def test_a_converted_folder_samples_like_the_file_itself(commands, tmp_path):
    folder = tmp_path / 'run'
    child = commands.run(
        'jaxgen.interop.convert', f'--source={TRAINED}', f'--out={folder}', '--size=12x6'
    )
    assert child.code == 0, child.err
    for words in ('CIPSskip', 'grid 8×8', 'images 12×6', '5 layers', 'lrelu', 'random'):
        assert words in child.out
    for words in ('ema: ', 'generator: ', 'discriminator: ', 'left out: g_optim, d_optim'):
        assert words in child.out
    child = commands.run(
        'jaxgen.sample', f'--workdir={folder}', f'--out={tmp_path / "a.png"}', '--num=1',
        '--truncation=0.5',
    )  # fmt: skip
    assert child.code == 0, child.err
    drawn = np.asarray(Image.open(tmp_path / 'a.png'), np.int32)
    expected = from_weights(TRAINED).sample(1, truncation=0.5, size=(6, 12))[0]
    assert np.abs(drawn - workdir.to_uint8(expected).astype(np.int32)).max() <= 1
    assert restore(folder, ema=False).variables['params'] is not None


def test_truncation_to_nothing_is_the_image_of_the_mean_of_w():
    run = from_weights(TRAINED)
    z = jax.random.normal(jax.random.key(3), (2, run.generator.latent))
    w = run.mapping(z, truncation=0.0)
    mean = run.variables['stats']['mapping']['w_avg']
    np.testing.assert_allclose(w, np.stack([mean, mean]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('flag', 'field', 'value'),
    [('--lookup=exact', 'lookup', 'exact'), ('--noise=none', 'noise', 'none')],
)
def test_the_flags_reach_the_config(commands, tmp_path, flag, field, value):
    out = tmp_path / 'run'
    child = commands.run('jaxgen.interop.convert', f'--source={BARE}', f'--out={out}', flag)
    assert child.code == 0, child.err
    config = json.loads((out / 'config.json').read_text())
    assert config['model'][field] == value
    assert config['model'][field] != imported.read_published(BARE).generator.__dict__[field]
    assert getattr(restore(out).generator, field) == value


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ([ONES], 'found a list'),
        (ONES, 'found a ndarray'),
        ({}, 'a dictionary of 0 entries'),
        ({'a': ONES, 'b': 1, 'c': 2, 'd': 3, 'e': 4}, 'of 5 entries (a, b, c, d, …)'),
        ({'synthesis.b4.const': ONES}, 'a generator of StyleGAN2 without its snapshot'),
        ({'g_ema': {'synthesis.input.freqs': ONES}}, 'a generator of StyleGAN3 without'),
        ({'input.input': ONES}, 'missing: conv1.conv.weight'),
        ({'final_linear.0.weight': ONES}, 'a discriminator alone'),
        ({'g': {'emb.input': ONES}, 'd': {}}, 'without g_ema'),
        ({'emb.input': ONES}, "'emb.input' must have 4 dimensions"),
        ({'lff.ffm.conv.weight': ONES}, "'emb.input' is missing"),
        (
            {'g_ema': {'emb.input': 'text'}},
            "'emb.input' of the generator must be an array of floats",
        ),
        ({1: ONES, 'emb.input': ONES}, 'names as keys'),
        ({1: 2}, 'of 1 entries (1)'),
    ],
)
def test_what_is_no_cips_is_named(write, value, words):
    with pytest.raises(UserError) as caught:
        imported.read_published(write(value))
    line = str(caught.value)
    assert words in line
    assert 'source.pt' in line
    assert '\n' not in line
    if 'found' in line:
        assert 'needed is a state dict of the released CIPS' in line


def test_g_and_g_ema_of_two_networks_are_refused(write):
    published = copied(torch_reader.read(TRAINED))
    published['g'] = copied(torch_reader.read(BARE))
    with pytest.raises(UserError, match='not the same network'):
        imported.read_published(write(published))


def test_strengths_of_zero_in_one_of_the_two_networks_are_no_other_network(write):
    published = copied(torch_reader.read(TRAINED))
    for name, array in published['g'].items():
        if name.endswith('.noise.weight'):
            array[:] = 0
    found = imported.read_published(write(published))
    assert found.generator.noise == 'random'
    assert found.variables(ema=False)['params']['input']['noise_scale'] == 0
    assert found.variables()['params']['input']['noise_scale'] != 0


def test_wrong_flags_and_files_are_one_line_and_leave_nothing(refuses, write):
    refuses('no.pt', 'No such file', source='no.pt')
    refuses('posix.mkdir', source=write(archive(pickled(CALLS['posix.mkdir']))))
    refuses('found a list', source=write([1]))
    refuses('--size', "'0'", extra=('--size=0',))
    refuses('--size', "''", extra=('--size=',))
    refuses('--size', "'-3x4'", extra=('--size=-3x4',))
    refuses('lookup', 'nearest', extra=('--lookup=nearest',))
    refuses('noise', 'loud', extra=('--noise=loud',))
    refuses('activation', "'lrelu'", "'sin'", extra=('--activation=sin',))
    refuses('/dev/null/run', 'not writable', out='/dev/null/run')


def test_missing_flags_are_one_line(commands):
    child = commands.run('jaxgen.interop.convert', f'--source={BARE}')
    assert_one_line(child.code, child.err, ('--out is missing',))
    child = commands.run('jaxgen.interop.convert', '--out=x')
    assert_one_line(child.code, child.err, ('--source is missing',))


def test_a_folder_that_holds_a_run_is_left_alone(commands, tmp_path):
    folder = tmp_path / 'run'
    imported.save(folder, imported.read_published(BARE))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    child = commands.run('jaxgen.interop.convert', f'--source={TRAINED}', f'--out={folder}')
    assert_one_line(child.code, child.err, (str(folder), 'already holds a run'))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / 'other' / 'checkpoints').mkdir(parents=True)
    with pytest.raises(UserError, match='checkpoints'):
        imported.save(tmp_path / 'other', imported.read_published(BARE))


def test_a_write_that_fails_leaves_no_run_and_can_be_repeated(tmp_path, monkeypatch):
    found = imported.read_published(BARE)

    def full(file, **arrays):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as broken:
        broken.setattr(imported.np, 'savez', full)
        with pytest.raises(UserError, match='No space left'):
            imported.save(tmp_path / 'run', found)
    assert list((tmp_path / 'run').iterdir()) == []
    imported.save(tmp_path / 'run', found)
    assert imported.load(tmp_path / 'run').generator == found.generator


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp('converted') / 'run'
    imported.save(folder, imported.read_published(TRAINED))
    return folder


@pytest.fixture
def damaged(converted, tmp_path):
    """A copy of a converted folder, to be spoiled."""
    return shutil.copytree(converted, tmp_path / 'run')


def edit(path, **changes):
    """Sets entries of a JSON file: `a__b` is entry b of entry a."""
    config = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split('__')
        node = config
        for key in parents:
            node = node[key]
        node[last] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(imported=None), r'config\.json'),
        (dict(imported__kind='stylegan9'), "'stylegan9'"),
        (dict(imported__kind='stylegan2'), r'config\.json'),
        (dict(imported__networks=3), r'config\.json'),
        (dict(imported__networks=['ema']), r'weights\.npz.*does not fit'),
        (dict(imported__frame=['a', 'b']), r'config\.json'),
        (dict(imported__discriminator=None), r'config\.json'),
        (dict(imported__frame=[0, 4]), 'frame must be positive'),
        (dict(model__features=2.5), r'config\.json'),
        (dict(model__block_widths=['a', 'b']), r'config\.json'),
        (dict(model__features=0), 'features must be positive'),
        (dict(model__features=6), r'weights\.npz.*does not fit.*ema/params'),
        (dict(model__depth=3), 'depth'),
        (dict(model__dtype='bfloat16'), 'dtype'),
        (dict(model=[]), r'config\.json'),
    ],
    ids=str,
)
def test_a_config_that_was_changed_is_one_line(damaged, changes, words):
    edit(damaged / 'config.json', **changes)
    with pytest.raises(UserError, match=words) as caught:
        imported.load(damaged)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99])
def test_weights_that_end_early_are_one_line(damaged, share):
    path = damaged / imported.WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r'weights\.npz.*(damaged|read)') as caught:
        imported.load(damaged)
    assert '\n' not in str(caught.value)


def test_weights_with_objects_or_of_another_dtype_are_refused(damaged):
    path = damaged / imported.WEIGHTS
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    key = 'ema/stats/mapping/w_avg'
    for wrong, words in (
        (np.array([print], object), 'damaged'),
        (arrays[key].astype(np.float64), key),
        (arrays[key][:-1], key),
    ):
        np.savez(path, **{**arrays, key: wrong})
        with pytest.raises(UserError, match=words):
            imported.load(damaged)
    np.savez(path, **{**arrays, 'extra': arrays[key]})
    with pytest.raises(UserError, match='extra'):
        imported.load(damaged)
    path.unlink()
    with pytest.raises(UserError, match=r'weights\.npz.*No such file'):
        imported.load(damaged)


def test_a_damaged_folder_is_one_line_of_the_command(commands, damaged, tmp_path):
    (damaged / imported.WEIGHTS).write_bytes(b'PK\3\4')
    child = commands.run('jaxgen.sample', f'--workdir={damaged}', f'--out={tmp_path / "a.png"}')
    assert_one_line(child.code, child.err, ('weights.npz', 'damaged'))
    assert not (tmp_path / 'a.png').exists()


def test_output_that_nobody_reads_ends_a_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, '-m', 'jaxgen.interop.convert', '--help']
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, '')
