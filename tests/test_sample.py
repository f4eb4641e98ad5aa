"""`jaxgen.sample`: each flag gives the picture that it promises."""

import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.parallel.mesh import make_mesh
from jaxgen.training import workdir
from jaxgen.training.restore import LikelihoodRun, restore
from tests import autoregressive, tiny
from tests.test_bad_input import assert_one_line


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of a model without classes."""
    return tiny.make_run(tmp_path_factory.mktemp('sample') / 'run')


@pytest.fixture(scope='module')
def labelled(tmp_path_factory):
    """A run of a model with three classes."""
    folder = tmp_path_factory.mktemp('sample') / 'labelled'
    return tiny.make_run(folder, model__num_classes=3, data__label=True)


@pytest.fixture(scope='module')
def pixelcnn(tmp_path_factory):
    """A run of a PixelCNN with three classes."""
    folder = tmp_path_factory.mktemp('sample') / 'pixelcnn'
    return tiny.make_run(folder, 'pixelcnn', model__features=12, model__head=24)


@pytest.fixture
def sample(commands, run, tmp_path):
    """Draws into a file or folder of this test and gives what is there, as integers."""

    def draw(*flags, folder=run):
        name = str(len(list(tmp_path.iterdir())))
        out = tmp_path / (name if '--individual' in flags else f'{name}.png')
        child = commands.run('jaxgen.sample', f'--workdir={folder}', f'--out={out}', *flags)
        assert child.code == 0, child.err
        assert f'images of step 5 in {out}' in child.out
        if out.is_dir():
            files = sorted(out.iterdir())
            assert [path.name for path in files] == [f'{i:06d}.png' for i in range(len(files))]
            return np.stack([np.asarray(Image.open(path), np.int32) for path in files])
        return np.asarray(Image.open(out), np.int32)

    return draw


@pytest.fixture(scope='module')
def restored(run):
    return restore(run)


def as_picture(images):
    return workdir.to_uint8(images).astype(np.int32)


def assert_pictures_equal(a, b):
    """Up to the rounding of a value that lies between two grey levels."""
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= 1


def test_the_grid_holds_the_individual_images(sample, restored):
    images = sample('--num=5', '--individual')
    assert images.shape == (5, 4, 4, 3)
    assert_pictures_equal(images, as_picture(restored.sample(5)))
    grid = sample('--num=5')
    assert grid.shape == (8, 12, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        tile = grid[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert_pictures_equal(tile, images[i])
    assert not grid[4:, 8:].any()


def test_an_image_depends_on_the_seed_and_its_number_and_not_on_how_many_there_are(restored):
    many = restored.sample(7, 3)
    np.testing.assert_allclose(restored.sample(2, 3), many[:2], atol=1e-5)
    assert np.abs(restored.sample(2, 4) - many[:2]).max() > 1e-2
    assert np.abs(many[0] - many[1]).max() > 1e-2


def test_a_truncation_of_zero_is_the_mean_image_for_all(restored):
    images = restored.sample(3, truncation=0.0)
    np.testing.assert_allclose(images[1:], images[:-1], atol=1e-5)
    variables = restored.variables
    generator = restored.generator
    mean = generator.apply(variables, None, variables['stats']['mapping']['w_avg'][None])
    np.testing.assert_allclose(images[0].reshape(16, 3), mean[0], atol=1e-5)
    half = restored.sample(3, truncation=0.5)
    assert np.abs(half - images).max() > 1e-3


def test_the_flags_reach_the_picture(sample, restored, run):
    drawn = sample('--num=2', '--seed=3', '--truncation=0.5', '--size=7x5', '--individual')
    expected = restored.sample(2, 3, truncation=0.5, size=(5, 7))
    assert drawn.shape == (2, 5, 7, 3)
    assert_pictures_equal(drawn, as_picture(expected))
    current = sample('--num=2', '--noema', '--individual')
    expected = restore(run, ema=False).sample(2)
    assert_pictures_equal(current, as_picture(expected))
    assert np.abs(expected - restored.sample(2)).max() > 1e-2


def test_a_larger_picture_meets_the_smaller_at_the_pixels_that_they_share(restored):
    # On 7 × 7 every other pixel lies on the 4 × 4 grid: both have their ends at -1 and 1.
    np.testing.assert_allclose(
        restored.sample(2, size=(7, 7))[:, ::2, ::2], restored.sample(2), atol=1e-4
    )


def test_classes_come_in_turn_or_one_is_chosen(sample, labelled):
    run = restore(labelled)
    ones = run.sample(4, label=1)
    turns = run.sample(4)
    np.testing.assert_allclose(turns[1], ones[1], atol=1e-5)
    for other in (0, 2, 3):
        assert np.abs(turns[other] - ones[other]).max() > 1e-3
    drawn = sample('--num=4', '--label=1', '--individual', folder=labelled)
    assert_pictures_equal(drawn, as_picture(ones))


def test_a_pixelcnn_draws_its_levels_by_class_size_and_temperature(sample, pixelcnn):
    run = restore(pixelcnn)
    images = sample('--num=5', '--individual', folder=pixelcnn)
    assert images.shape == (5, 4, 4, 3)
    # Four levels, evenly spaced.
    assert set(np.unique(images)) <= {0, 85, 170, 255}
    np.testing.assert_array_equal(images, as_picture(run.sample(5)))
    ones = sample('--num=5', '--individual', '--label=1', folder=pixelcnn)
    assert [np.array_equal(a, b) for a, b in zip(images, ones, strict=True)][1::3] == [True, True]
    assert not np.array_equal(images, ones)
    larger = sample('--num=2', '--individual', '--size=6x5', '--seed=3', folder=pixelcnn)
    assert larger.shape == (2, 5, 6, 3)
    cold = sample('--num=6', '--individual', '--temperature=0', folder=pixelcnn)
    np.testing.assert_array_equal(cold[:3], cold[3:])
    assert not np.array_equal(run.sample(5), restore(pixelcnn, ema=False).sample(5))


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (('--truncation=0.7',), ('truncation must be left out', 'got 0.7')),
        (('--temperature=-1',), ('temperature must be 0 or more, got -1',)),
        (('--temperature=inf',), ('temperature must be 0 or more, got inf',)),
        (('--label=3',), ('label must be from 0 to 2, got 3',)),
        (('--size=0',), ('--size', "'0'")),
    ],
)
def test_a_flag_that_is_wrong_for_a_pixelcnn_is_one_line(commands, pixelcnn, flags, words):
    child = commands.run('jaxgen.sample', f'--workdir={pixelcnn}', '--num=1', *flags)
    assert_one_line(child.code, child.err, words)


def test_a_size_that_the_network_does_not_take_is_a_mistake_of_the_users():
    model = autoregressive.plus_plus()
    objective = tiny.likelihood(model)
    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    run = LikelihoodRun('w', objective, {'params': shapes.ema}, make_mesh(), 1, ConfigDict())
    with pytest.raises(UserError, match=r'size: height and width must be multiples of 4'):
        run.sample(1, size=(8, 6))


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (('--temperature=0.5',), ('temperature must be left out', 'got 0.5')),
        (('--size=0x5',), ('--size', 'WIDTHxHEIGHT', "'0x5'")),
        (('--size=big',), ('--size', "'big'")),
        (('--size=4x4x4',), ('--size', "'4x4x4'")),
        (('--label=1',), ('label', 'no classes', 'got 1')),
        (('--num=0',), ('num', '0')),
        (('--seed=-1',), ('seed', '-1')),
        (('--seed=4294967296',), ('seed', '4294967296')),
        (('--truncation=much',), ('truncation', 'much')),
        (('--out=picture.abc',), ('picture.abc',)),
        (('--out=/dev/null/grid.png',), ('/dev/null/grid.png',)),
        (('--out=/dev/null/folder', '--individual'), ('/dev/null/folder',)),
        (('--tile=3',), ('tile',)),
    ],
)
def test_a_wrong_flag_is_one_line(commands, run, tmp_path, flags, words):
    child = commands.run(
        'jaxgen.sample', f'--workdir={run}', '--num=1', f'--out={tmp_path / "a.png"}', *flags
    )
    assert_one_line(child.code, child.err, words)


def test_a_label_outside_the_classes_is_one_line(commands, labelled):
    child = commands.run('jaxgen.sample', f'--workdir={labelled}', '--label=3')
    assert_one_line(child.code, child.err, ('label must be from 0 to 2, got 3',))


def test_a_folder_without_a_run_or_a_checkpoint_is_one_line_and_left_alone(commands, tmp_path):
    child = commands.run('jaxgen.sample', f'--workdir={tmp_path}')
    assert_one_line(child.code, child.err, (str(tmp_path), 'holds no run'))
    workdir.adopt_config(tmp_path, tiny.config())
    child = commands.run('jaxgen.sample', f'--workdir={tmp_path}')
    assert_one_line(child.code, child.err, (str(tmp_path), 'no checkpoint yet'))
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']
    child = commands.run('jaxgen.sample')
    assert_one_line(child.code, child.err, ('--workdir is missing',))


def test_a_checkpoint_can_be_chosen(sample, commands, run, tmp_path):
    np.testing.assert_array_equal(sample('--num=2', '--checkpoint=5'), sample('--num=2'))
    for chosen, words in {
        '4': ('has checkpoints of the steps [5], not of 4',),
        'best': ('no best checkpoint',),
        '-5': ('checkpoint must be newest, best or the number of a step', "got '-5'"),
    }.items():
        child = commands.run('jaxgen.sample', f'--workdir={run}', f'--checkpoint={chosen}')
        assert_one_line(child.code, child.err, words)


def test_the_best_checkpoint_is_found_where_it_is_kept(run, restored, tmp_path):
    shutil.copytree(run, tmp_path / 'run')
    (tmp_path / 'run' / 'checkpoints').rename(tmp_path / 'run' / 'checkpoints-best')
    best = restore(tmp_path / 'run', checkpoint='best')
    assert best.step == 5
    jax.tree.map(np.testing.assert_array_equal, best.variables, restored.variables)
    with pytest.raises(UserError, match='no checkpoint yet'):
        restore(tmp_path / 'run')
