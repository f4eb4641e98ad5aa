"""Evaluation of runs and folders: figures, resuming, caches, and mistakes in one line."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.evaluation import collect, networks, protocols, runs
from jaxgen.evaluation.image_folder import ImageFolder
from jaxgen.metrics.frechet import feature_distance
from tests import tiny
from tests.test_bad_input import assert_one_line

WIDTH = 6


@pytest.fixture(autouse=True)
def homes(monkeypatch, tmp_path, tiny_data):
    """Nothing outside of the test's own folders."""
    monkeypatch.setenv('JAXGEN_DATA_DIR', str(tiny_data))
    monkeypatch.setenv('JAXGEN_WEIGHTS_DIR', str(tmp_path / 'weights'))


@pytest.fixture
def small_network(monkeypatch):
    """In the place of Inception: a few sines of linear features. Gives what it makes of images."""
    rng = np.random.default_rng(0)
    weights = {'w': rng.normal(size=(4 * 4 * 3, WIDTH)).astype(np.float32) / 300}

    def see(variables, images):
        pool = jnp.sin(images.reshape(len(images), -1) @ variables['w'])
        return {'pool': pool, 'logits': 3 * pool}

    def make(flag, metric, mesh):
        return networks.make_network('small', weights, see, mesh)

    monkeypatch.setattr(networks, 'inception', make)
    return lambda images: np.asarray(see(weights, jnp.asarray(images, jnp.float32))['pool'])


def write_images(folder, count=30, size=(4, 4), mode='RGB', seed=0):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (*size[::-1], 3)
    pictures = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        end = 'jpg' if mode == 'CMYK' else 'png'
        Image.fromarray(picture).convert(mode).save(folder / f'{i:03}.{end}')
    return pictures


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory, tiny_data):
    return tiny.make_run(tmp_path_factory.mktemp('run') / 'run', data__dir=str(tiny_data))


def images_of(folder, names, tmp_path, **options):
    options = runs.Options(cache=str(tmp_path / 'cache'), progress=False, **options)
    return runs.evaluate_images(str(folder), protocols.parse(names), options)


def test_fid_of_a_set_with_itself_is_zero(small_network, tmp_path):
    write_images(tmp_path / 'a')
    (result,) = images_of(tmp_path / 'a', 'fid30_full', tmp_path, reference=str(tmp_path / 'a'))
    assert abs(result.values['fid30_full']) < 1e-3


@pytest.mark.parametrize('batch', [8, 16, 40])
def test_fid_is_that_of_all_features_at_once_for_any_batch(small_network, tmp_path, batch):
    ours, theirs = write_images(tmp_path / 'a', 30), write_images(tmp_path / 'b', 21, seed=1)
    expected = feature_distance(small_network(ours), small_network(theirs), ddof=0)
    (result,) = images_of(
        tmp_path / 'a', 'fid30_full', tmp_path, reference=str(tmp_path / 'b'), batch=batch
    )
    assert result.values['fid30_full'] == pytest.approx(expected, rel=1e-5)


def test_an_interrupted_collection_goes_on_and_ends_the_same(small_network, tmp_path, monkeypatch):
    write_images(tmp_path / 'a', 40), write_images(tmp_path / 'b', 40, seed=1)
    names, given = 'fid40_full,kid40_full', dict(reference=str(tmp_path / 'b'), batch=8)
    whole = images_of(tmp_path / 'a', names, tmp_path / 'one', **given)
    monkeypatch.setattr(collect, 'SECONDS', 0.0)
    seen, at = [], ImageFolder.__getitem__

    def read(source, index):
        seen.append(index)
        if stop and len(seen) > stop:
            raise KeyboardInterrupt
        return at(source, index)

    monkeypatch.setattr(ImageFolder, '__getitem__', read)
    stop = 60  # in the middle of the reals
    with pytest.raises(KeyboardInterrupt):
        images_of(tmp_path / 'a', names, tmp_path, **given)
    stop, seen[:] = 0, []
    again = images_of(tmp_path / 'a', names, tmp_path, **given)
    assert len(seen) < 40  # the generated ones and the first reals were not read again
    for one, other in zip(whole, again, strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-6)
    seen.clear()
    images_of(tmp_path / 'a', names, tmp_path, **given)
    assert len(seen) == 40  # the reals come from the cache


def test_a_damaged_cache_is_made_again(small_network, tmp_path, capsys):
    write_images(tmp_path / 'a'), write_images(tmp_path / 'b', seed=1)
    given = dict(reference=str(tmp_path / 'b'))
    (first,) = images_of(tmp_path / 'a', 'fid30_full', tmp_path, **given)
    (kept,) = (tmp_path / 'cache').glob('*.npz')
    kept.write_bytes(kept.read_bytes()[:-200])
    (second,) = images_of(tmp_path / 'a', 'fid30_full', tmp_path, **given)
    assert first.values == second.values
    assert 'damaged' in capsys.readouterr().out
    assert {p.name for p in (tmp_path / 'cache').iterdir()} == {kept.name, 'unfinished'}
    assert not list((tmp_path / 'cache' / 'unfinished').iterdir())


def test_other_images_under_the_same_name_are_other_statistics(small_network, tmp_path):
    write_images(tmp_path / 'a'), write_images(tmp_path / 'b', seed=1)
    given = dict(reference=str(tmp_path / 'b'))
    (first,) = images_of(tmp_path / 'a', 'fid30_full', tmp_path, **given)
    write_images(tmp_path / 'b', seed=2)
    (second,) = images_of(tmp_path / 'a', 'fid30_full', tmp_path, **given)
    assert first.values != second.values


def test_results_of_a_run_are_lines_with_their_protocol(small_network, run_folder, tmp_path):
    options = runs.Options(cache=str(tmp_path), out=str(tmp_path / 'out.jsonl'), progress=False)
    metrics = protocols.parse('fid20_full,is20,spectrum10')
    runs.evaluate_run(str(run_folder), metrics, 'all', options)
    lines = [json.loads(text) for text in (tmp_path / 'out.jsonl').read_text().splitlines()]
    names = {'fid20_full', 'is20_mean', 'is20_std', 'spectrum10'}
    assert names <= {name for line in lines for name in line}
    assert {line['step'] for line in lines} == {5}
    fid = next(line for line in lines if 'fid20_full' in line)['protocol']
    assert 'covariance /N' in fid['is']
    assert re.fullmatch('[0-9a-f]{32}', fid['weights'])
    assert fid['networks'].keys() == {'small'}
    assert 'revision' in fid
    assert not list((run_folder / 'evaluation').iterdir())
    runs.evaluate_run(str(run_folder), metrics, 'all', options)  # all are known
    assert len((tmp_path / 'out.jsonl').read_text().splitlines()) == len(lines)


def test_scores_of_every_image_are_written_and_their_mean_is_the_metric(tmp_path, tiny_data):
    folder = tiny.make_run(tmp_path / 'pixelcnn', 'pixelcnn', data__dir=str(tiny_data))
    options = runs.Options(cache=str(tmp_path / 'cache'), progress=False)
    table = tmp_path / 'scores.csv'
    mean = runs.score_examples(str(folder), str(table), 'newest', options)
    rows = np.genfromtxt(table, delimiter=',', names=True)
    assert rows.dtype.names == ('index', 'label', 'bits_per_dim')
    assert len(rows) == 12
    assert rows['bits_per_dim'].mean() == pytest.approx(mean, abs=1e-5)
    (result,) = runs.evaluate_run(str(folder), protocols.parse('bits_per_dim'), 'newest', options)
    assert result.values['bits_per_dim'] == pytest.approx(mean, rel=1e-6)


def test_names_say_how_many_images():
    parse = protocols.parse
    assert [m.count for m in parse('fid50k_full,pr2003_full,swd,ppl2_wend2k')] == [
        50_000, 200, 512, 2000,
    ]  # fmt: skip
    for kind in protocols.KINDS:
        name = protocols.spell(kind, protocols.KINDS[kind].count or 12_000)
        assert parse(name) == [protocols.Metric(name, kind, parse(name)[0].count)]
    for wrong in ('fid_full', 'fid50k', 'FID50k_full', 'fid1_full', 'eqr50_int', 'eqr6', ''):
        with pytest.raises(UserError):
            parse(wrong)


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda at: at.mkdir(), ('holds no images',)),
        (lambda at: write_images(at, 1), ('fid30_full needs 30', 'fewer than 2')),
        (lambda at: write_images(at, 12), ('fid30_full needs 30', 'has 12', 'fid12_full')),
        (lambda at: write_images(at, 30, mode='L'), ('must be RGB', 'grey')),
        (lambda at: write_images(at, 30, mode='CMYK'), ('must be RGB', 'CMYK')),
        (
            lambda at: [write_images(at), Image.new('RGB', (5, 4)).save(at / 'z.png')],
            ('one size', '4×4', 'z.png is 5×4'),
        ),
        (lambda at: [write_images(at), (at / '1.png').write_bytes(b'no')], ('1.png',)),
    ],
)
def test_images_that_cannot_be_measured(small_network, tmp_path, make, words):
    write_images(tmp_path / 'real')
    make(tmp_path / 'a')
    with pytest.raises(UserError) as error:
        images_of(tmp_path / 'a', 'fid30_full', tmp_path, reference=str(tmp_path / 'real'))
    assert '\n' not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_file_that_ends_too_early_leaves_no_statistics_behind(tmp_path):
    write_images(tmp_path / 'real', size=(40, 40)), write_images(tmp_path / 'a', size=(40, 40))
    broken = tmp_path / 'real' / '020.png'
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(UserError, match=r'020\.png'):
        images_of(tmp_path / 'a', 'spectrum30', tmp_path, reference=str(tmp_path / 'real'))
    assert not list((tmp_path / 'cache').glob('*.np[yz]'))
    write_images(tmp_path / 'real', size=(40, 41))
    with pytest.raises(UserError, match='one size'):
        images_of(tmp_path / 'a', 'spectrum30', tmp_path, reference=str(tmp_path / 'real'))


def test_the_command_says_mistakes_in_one_line(commands, run_folder, tmp_path):
    def refused(words, *flags):
        done = commands.run('jaxgen.evaluate', *flags)
        assert_one_line(done.code, done.err, words)

    workdir, cache = f'--workdir={run_folder}', f'--cache={tmp_path}'
    refused(('exactly one of --workdir and --images',))
    refused(('--metrics must be of', "'fid'"), workdir, '--metrics=fid')
    refused(
        ('fid8_full needs weights', 'pytorch-fid', '--kind=inception', 'inception.npz'),
        workdir, cache, '--metrics=fid8_full',
    )  # fmt: skip
    refused(('swd8 needs 16', 'has 12', 'swd6'), workdir, cache, '--metrics=swd8')
    refused(('swd4 needs sides of 7 pixels',), workdir, cache, '--metrics=swd4')
    refused(('has checkpoints of the steps [5], not of 7',), workdir, '--checkpoint=7')
    refused(('needs a generator that takes a transform',), workdir, cache, '--metrics=eqr8')
    write_images(tmp_path / 'a')
    refused(('needs a model',), f'--images={tmp_path}/a', cache, '--metrics=bits_per_dim')
    done = commands.run('jaxgen.evaluate', workdir, cache, '--metrics=spectrum8,spectrum6')
    assert done.code == 0, done.err
    lines = [json.loads(text) for text in (run_folder / 'metrics.jsonl').read_text().splitlines()]
    assert {'spectrum8', 'spectrum6'} <= {name for line in lines for name in line}
    assert f'{lines[-2]["spectrum8"]:.5g}' in done.out
