"""From a published StyleGAN2 or StyleGAN3 to a folder that samples, by the commands."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.interop import imported
from jaxgen.training import workdir
from jaxgen.training.restore import from_weights, restore
from tests.interop import torch_files as files
from tests.interop.test_convert import assert_trees_equal, refuses
from tests.interop.test_stylegan_rosinality import STYLE, discriminator_dict, generator_dict

__all__ = ['refuses']  # a fixture

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'stylegan' / 'pkl'
SECOND, CONDITIONAL, THIRD = (GOLDEN / f'{x}.pkl' for x in ('sg2_uncond', 'sg2_cond', 'sg3t'))


@pytest.fixture(scope='module')
def rosinality(tmp_path_factory):
    path = tmp_path_factory.mktemp('rosinality') / 'net.pt'
    value = {'g_ema': generator_dict(), 'd': discriminator_dict(), 'latent_avg': np.ones(STYLE)}
    path.write_bytes(files.save_zip(value))
    return path


@pytest.fixture(params=[SECOND, CONDITIONAL, THIRD, 'rosinality'], ids=['sg2', 'cond', 'sg3', 'pt'])
def source(request, rosinality):
    return rosinality if request.param == 'rosinality' else request.param


def test_a_folder_gives_back_everything_that_was_imported(source, tmp_path):
    found = imported.read_published(source)
    imported.save(tmp_path / 'run', found)
    again = imported.load(tmp_path / 'run')
    assert_trees_equal(dict(again.networks), dict(found.networks))
    assert again.generator == found.generator
    # Keys of the channels are text where they came through a module.
    assert str(again.discriminator) == str(found.discriminator)
    assert (again.kind, again.frame, again.provenance) == (found.kind, None, found.provenance)


def test_a_snapshot_says_where_it_came_from():
    found = imported.read_published(CONDITIONAL)
    assert found.kind == 'stylegan2'
    assert set(found.networks) == {'ema', 'generator', 'discriminator'}
    assert found.provenance['format'] == 'snapshot'
    assert found.provenance['dropped'] == ['augment_pipe', 'training_set_kwargs']
    assert imported.read_published(THIRD).kind == 'stylegan3'


@pytest.mark.parametrize(
    ('path', 'lines'),
    [
        (SECOND, ('StyleGAN2: images 16²', 'architecture skip', 'noise: const', 'no classes')),
        (THIRD, ('StyleGAN3: images 32²', '14 layers', '3×3 convolutions, separable filters')),
    ],
    ids=['sg2', 'sg3'],
)
def test_a_converted_folder_samples_like_the_file_itself(commands, tmp_path, path, lines):
    folder = tmp_path / 'run'
    child = commands.run('jaxgen.interop.convert', f'--source={path}', f'--out={folder}')
    assert child.code == 0, child.err
    counts = ('ema: ', 'generator: ', 'discriminator: ', 'left out: augment_pipe')
    for words in (*lines, *counts):
        assert words in child.out
    out = tmp_path / 'a.png'
    child = commands.run(
        'jaxgen.sample', f'--workdir={folder}', f'--out={out}', '--num=1', '--truncation=0.5'
    )
    assert child.code == 0, child.err
    expected = from_weights(path).sample(1, truncation=0.5)[0]
    drawn = np.asarray(Image.open(out), np.int32)
    assert np.abs(drawn - workdir.to_uint8(expected).astype(np.int32)).max() <= 1


@pytest.fixture(scope='module')
def conditional():
    return from_weights(CONDITIONAL)


def test_truncation_to_nothing_is_the_image_of_the_mean_of_w(conditional):
    run, shape = conditional, (1, conditional.generator.num_ws, 1)
    mean = np.tile(run.variables['stats']['mapping']['w_avg'][None, None], shape)
    draw = jax.jit(lambda w: run.generator.apply(run.variables, w, method='synthesize'))
    images = run.sample(2, truncation=0.0)
    np.testing.assert_allclose(images, np.repeat(draw(mean), 2, 0), atol=1e-4)
    assert np.abs(run.sample(2) - images).max() > 0.1


def test_image_i_is_a_function_of_the_seed_and_i(conditional):
    many = conditional.sample(5)
    assert many.shape == (5, 16, 16, 3)
    np.testing.assert_allclose(conditional.sample(3), many[:3], atol=1e-5)
    assert np.abs(conditional.sample(3, seed=1) - many[:3]).max() > 0.1


def test_each_class_has_its_images_and_another_is_refused(conditional):
    in_turn = conditional.sample(3)
    np.testing.assert_allclose(conditional.sample(2, label=1)[1], in_turn[1], atol=1e-5)
    with pytest.raises(UserError, match='label must be from 0 to 2, got 3'):
        conditional.sample(1, label=3)


def test_noise_that_is_random_is_new_for_every_image():
    found = imported.read_published(SECOND, noise='random')
    assert found.generator.noise == 'random'
    assert from_weights(SECOND).generator.noise == 'const'


def test_another_size_than_the_models_is_refused(conditional):
    with pytest.raises(UserError, match='size must be 16x16 for this model, got 8x16'):
        conditional.sample(1, size=(16, 8))


def test_the_noise_that_was_asked_for_reaches_the_folder(tmp_path):
    for noise in ('none', 'random'):
        folder = tmp_path / noise
        imported.save(folder, imported.read_published(SECOND, noise=noise))
        assert json.loads((folder / 'config.json').read_text())['model']['noise'] == noise
        run = restore(folder, ema=False)
        assert run.sample(2).shape == (2, 16, 16, 3)
        assert ('noise_scale' in run.variables['params']['block_8']['conv0']) == (noise != 'none')


def test_options_of_other_models_and_spoiled_files_are_one_line(refuses, tmp_path):
    refuses('lookup does not go with', 'StyleGAN2', source=SECOND, extra=('--lookup=exact',))
    refuses('size does not go with', source=SECOND, extra=('--size=32',))
    refuses('activation does not', source=THIRD, extra=('--activation=sin',))
    refuses('noise does not go with', 'StyleGAN3', source=THIRD, extra=('--noise=none',))
    path = tmp_path / 'spoiled.pkl'
    path.write_bytes(b'\x80\4cposix\nsystem\nX\x02\0\0\0ls\x85R.')
    refuses("'posix.system', which is not allowed", source=path)
    path.write_bytes(SECOND.read_bytes()[:-9])
    refuses('spoiled.pkl', 'refused', source=path)


def test_networks_that_are_exchanged_are_refused(monkeypatch):
    read = imported.stylegan_pickle.read

    def exchanged(path):
        networks, rest = read(path)
        return {**networks, 'D': networks['G']}, rest

    monkeypatch.setattr(imported.stylegan_pickle, 'read', exchanged)
    with pytest.raises(UserError, match='D is a Generator'):
        imported.read_published(SECOND)
