"""`jaxgen.apps.compression`: byte for byte back, at the length that the likelihood says."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import compression
from jaxgen.apps.compression import (
    compress,
    decompress,
    fingerprint,
    first_bytes,
    representatives,
)
from jaxgen.errors import UserError
from jaxgen.parallel.mesh import make_mesh
from jaxgen.training.restore import LikelihoodRun
from tests import autoregressive, tiny
from tests.test_bad_input import assert_one_line

SIZE, LABEL = (3, 4), 2


def in_memory(model, size, **condition):
    pixels = autoregressive.images(model, 1, size)
    variables = autoregressive.random_variables(model, pixels, **condition)
    variables = jax.tree.map(lambda x: 0.5 * x, variables)
    objective = tiny.likelihood(model, frame=size)
    return LikelihoodRun('tiny', objective, variables, make_mesh(), 0, None)


@pytest.fixture(scope='module')
def run():
    return in_memory(autoregressive.gated(num_classes=3, blocks=1), SIZE, label=np.array([LABEL]))


@pytest.fixture(scope='module', autouse=True)
def compiled_once():
    """Of a run, a size and a class all walks are one; that of the command is compiled anew."""
    made, walk = {}, compression._walk

    def kept(run, size, label):
        _, found = made.setdefault((id(run), size, label), (run, walk(run, size, label)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, '_walk', kept)
        yield


def picture_of(run, seed=0):
    """One whose bytes are all levels of the model."""
    pixels = autoregressive.images(run.generator, 1, run.frame, seed)[0]
    return representatives(run.generator.levels)[pixels]


@pytest.mark.parametrize('levels', [2, 5, 17, 32, 200, 256])
def test_levels_divide_the_bytes_as_the_objective_does(levels):
    level = np.arange(256) * levels // 256
    first = first_bytes(levels)
    assert first[0] == 0
    assert first[-1] == 256
    np.testing.assert_array_equal(level[first[:-1]], np.arange(levels))
    np.testing.assert_array_equal(level[first[1:] - 1], np.arange(levels))


def test_a_picture_comes_back_at_the_length_that_the_likelihood_says(run):
    for seed in range(3):
        picture = picture_of(run, seed)
        made = compress(run, picture, LABEL)
        np.testing.assert_array_equal(decompress(run, made.data), picture)
        batch = {
            'image': picture[None] / np.float32(127.5) - np.float32(1),
            'label': np.array([LABEL]),
        }
        expected = -float(run.objective.log_prob(run.variables, batch)[0]) / np.log(2)
        assert made.information == pytest.approx(expected, rel=1e-5)
        assert abs(made.bits - expected) <= 2 + 1e-3 * expected
        assert len(made.data) <= 20 + -(-made.bits // 8)


def test_a_picture_that_is_no_level_of_the_model_comes_back_too(run):
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    made = compress(run, picture, LABEL)
    np.testing.assert_array_equal(decompress(run, made.data), picture)
    assert abs(made.bits - made.information) <= 2 + 1e-3 * made.information
    coarse = compress(run, representatives(5)[picture.astype(int) * 5 // 256], LABEL)
    # The rest is coded plainly: log2 of some 51 bytes a level.
    assert made.information - coarse.information == pytest.approx(
        np.log2(256 / 5) * picture.size, rel=0.01
    )


def test_the_file_is_the_same_each_time_and_says_when_it_does_not_fit(run):
    data = compress(run, picture_of(run), LABEL).data
    assert compress(run, picture_of(run), LABEL).data == data
    other = dataclasses.replace(run, variables=jax.tree.map(lambda x: x + 1, run.variables))
    assert fingerprint(other) != fingerprint(run)
    with pytest.raises(UserError, match='other weights'):
        decompress(other, data)
    with pytest.raises(UserError, match='damaged'):
        decompress(run, data[:-3] + bytes(x ^ 255 for x in data[-3:]))
    with pytest.raises(UserError, match='not a file that this app made'):
        decompress(run, b'JXC')


@pytest.mark.parametrize(
    ('shape', 'label', 'words'),
    [
        ((3, 4, 1), LABEL, r'must be bytes \[H, W, 3\]'),
        ((3, 4, 3), 3, 'label must be from 0 to 2, got 3'),
        ((3, 4, 3), None, 'label must be from 0 to 2, got None'),
    ],
)
def test_a_picture_or_class_that_the_model_has_not_is_an_error(run, shape, label, words):
    with pytest.raises(UserError, match=words):
        compress(run, np.zeros(shape, np.uint8), label)


@pytest.fixture
def files(tmp_path):
    """`a.png`, 5×4 grey pixels, and these pixels; and the flags for a source and a target."""
    picture = np.random.default_rng(0).integers(0, 256, (5, 4), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / 'a.png')
    return picture, lambda a, b: (f'--input={tmp_path / a}', f'--out={tmp_path / b}')


def test_the_command_goes_there_and_back(commands, tmp_path, digits_runs, files):
    picture, between = files
    command = 'jaxgen.apps.compression', f'--workdir={digits_runs["pixelcnn"]}'
    done = commands.run(*command, *between('a.png', 'a.jxc'), '--label=3')
    assert done.code == 0, done.err
    assert 'bits for −log2 p =' in done.out
    done = commands.run(*command, *between('a.jxc', 'b.png'))
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'b.png')), picture)


def test_what_the_command_cannot_do_is_one_line(in_process, tmp_path, digits_runs, files):
    picture, between = files
    command = 'jaxgen.apps.compression', f'--workdir={digits_runs["pixelcnn"]}'
    Image.fromarray(picture).convert('RGB').save(tmp_path / 'rgb.png')
    (tmp_path / 'text.jxc').write_text('no such file')
    for source, out, flags, words in (
        ('rgb.png', 'c.jxc', ['--label=3'], ('1 colours', "'RGB'")),
        ('a.png', 'c.png', [], ('must end in', '.jxc')),
        ('a.png', 'c.jxc', [], ('--label is missing', '0 to 9')),
        ('text.jxc', 'c.jpg', [], ('must end in', '.png')),
        ('none.png', 'c.jxc', [], ('none.png', 'No such file')),
        ('text.jxc', 'c.png', [], ('not a file that this app made',)),
    ):
        refused = in_process(*command, *between(source, out), *flags)
        assert_one_line(refused.code, refused.err, words)
    assert not list(tmp_path.glob('c.*'))
