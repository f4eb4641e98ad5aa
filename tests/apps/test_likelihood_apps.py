"""The apps of the PixelCNN family: what they draw, and mistakes in one line."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import code_interpolation, completions, receptive_field, reconstructions
from jaxgen.apps.likelihood_command import held_out
from jaxgen.errors import UserError
from jaxgen.training.restore import restore
from tests import autoregressive
from tests.test_bad_input import assert_one_line

APPS = ['class_samples', 'completions', 'reconstructions', 'code_interpolation']


@pytest.fixture(scope='module')
def runs(digits_runs):
    return {name: restore(folder) for name, folder in digits_runs.items()}


@pytest.fixture(scope='module')
def images(runs):
    return held_out(runs['autoencoder'], 4, seed=1)[0]


def test_given_pixels_stay_and_the_others_are_drawn(runs):
    rng = np.random.default_rng(0)
    given = rng.integers(0, 4, (3, 8, 8, 1), dtype=np.int32)
    observed = rng.random((8, 8, 1)) < 0.5
    label = np.array([1, 2, 3], np.int32)
    drawn = completions.complete(runs['pixelcnn'], given, observed, label=label)
    np.testing.assert_array_equal(drawn[:, observed], given[:, observed])
    assert (drawn != given).any()
    for wrong, words in ((given + 4, 'must be 0 to 3'), (given / 2, 'must be integers')):
        with pytest.raises(UserError, match=words):
            completions.complete(runs['pixelcnn'], wrong, observed, label=label)


def test_what_a_mask_asks_for_in_vain_is_counted():
    mask = np.zeros((3, 4, 1), bool)
    assert completions.drawn_before_given(mask) == (0, 12)
    mask[1, 1] = True
    assert completions.drawn_before_given(mask) == (5, 11)
    mask[:2] = True
    assert completions.drawn_before_given(mask) == (0, 4)


def test_reconstructions_are_drawn_from_the_code_and_the_noise_alone(runs, images):
    drawn = reconstructions.reconstruct(runs['autoencoder'], images, 2)
    assert drawn.shape == (4, 2, 8, 8, 1)
    assert (drawn[:, 0] != drawn[:, 1]).any()
    again = reconstructions.reconstruct(runs['autoencoder'], images, 2)
    np.testing.assert_array_equal(again, drawn)
    smooth = reconstructions.reconstruct(runs['autoencoder_mse'], images)
    run = runs['autoencoder_mse']
    pixels = run.objective.levels_of({'image': images})
    np.testing.assert_allclose(
        smooth[:, 0], run.generator.apply(run.variables, pixels), rtol=1e-4, atol=1e-4
    )


def test_along_a_path_of_codes_the_noise_stays_the_same(runs, images):
    run = runs['autoencoder']
    drawn = code_interpolation.interpolate(run, images[:2], images[2:], 3)
    codes = code_interpolation.encode(run, images)
    ends = code_interpolation.decode(run, codes, np.zeros(4, int))
    np.testing.assert_array_equal(drawn[:, 0], ends[:2])
    np.testing.assert_array_equal(drawn[:, -1], ends[2:])
    same = code_interpolation.interpolate(run, images[:2], images[:2], 3)
    np.testing.assert_array_equal(same[:, 0], same[:, 1])


def test_only_the_masked_network_has_a_blind_spot():
    size, at = (8, 9), (6, 4)
    for name, model in receptive_field.examples().items():
        variables = autoregressive.random_variables(model, np.zeros((1, *size, 1), np.int32))
        field = receptive_field.dependence(model, variables, size, at)
        assert not field.reshape(-1)[at[0] * 9 + at[1] :].any()
        assert (receptive_field.blind(field, at) > 0) == ('masked' in name)
        drawn = receptive_field.picture(field, at)
        red = (drawn == receptive_field._UNSEEN).all(axis=-1).any()
        assert red == ('masked' in name)


def kind(app):
    autoencoding = app in ('reconstructions', 'code_interpolation')
    return 'autoencoder' if autoencoding else 'pixelcnn'


@pytest.fixture
def arguments(tmp_path, digits_runs):
    """`arguments(app, *flags)`: its command line, on the run that it is for or that of `run=`."""

    def of(app, *flags, run=None):
        model = f'--workdir={digits_runs[run or kind(app)]}'
        return f'jaxgen.apps.{app}', model, f'--out={tmp_path / "a.png"}', *flags

    return of


@pytest.mark.parametrize(
    ('app', 'flags'),
    [
        # The others are started by tests/experiments.
        ('completions', ['--rows=2', '--num=2', '--keep=0.3', '--label=3']),
        ('receptive_field', ['--at=3,4']),
    ],
)
def test_the_picture_is_there_and_nothing_beside_it(commands, arguments, tmp_path, app, flags):
    done = commands.run(*arguments(app, *flags))
    assert done.code == 0, done.err
    with Image.open(tmp_path / 'a.png') as picture:
        assert min(picture.size) >= 64
        assert np.ptp(np.asarray(picture.convert('L'))) > 0
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


@pytest.mark.parametrize(
    ('app', 'flags', 'run', 'words'),
    [
        ('class_samples', ['--classes=1,x'], None, ('--classes must be numbers',)),
        ('class_samples', ['--classes=10'], None, ('label must be from 0 to 9, got 10',)),
        ('class_samples', [], 'autoencoder', ('PixelCNNAutoencoder', 'code')),
        ('completions', ['--label=10'], None, ('--label must be from 0 to 9, got 10',)),
        ('completions', ['--temperature=-1'], None, ('--temperature must be 0 or more, got -1',)),
        ('completions', ['--keep=1.5'], None, ('keep', '1.5')),
        ('completions', ['--rows=361'], None, ('361 held-out images', '4')),
        ('completions', ['--mask=none.png'], None, ('none.png', 'No such file')),
        ('reconstructions', [], 'pixelcnn', ('GatedPixelCNN', 'needs an auto-encoder')),
        ('code_interpolation', ['--seed=-1'], None, ('seed', '-1')),
        ('receptive_field', ['--at=8,0'], 'pixelcnn', ('--at must be a column below 8', "'8,0'")),
    ],
)
def test_a_mistake_is_one_line(in_process, arguments, tmp_path, app, flags, run, words):
    done = in_process(*arguments(app, *flags, run=run))
    assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())


def test_a_mask_of_another_size_is_one_line(in_process, arguments, tmp_path):
    Image.new('L', (4, 8)).save(tmp_path / 'mask.png')
    done = in_process(*arguments('completions', f'--mask={tmp_path / "mask.png"}'))
    assert_one_line(done.code, done.err, ('--mask must be of the size', '8×8, got 4×8'))


@pytest.mark.parametrize('app', APPS)
def test_without_a_run_nothing_is_loaded(commands, app, tmp_path):
    done = commands.run(f'jaxgen.apps.{app}', f'--out={tmp_path / "a.png"}')
    assert_one_line(done.code, done.err, ('--workdir is missing',))
