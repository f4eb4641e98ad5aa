"""`jaxgen.apps.resolution_usage`: what each resolution adds, image by image and run by run."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from jaxgen.apps import plots
from jaxgen.apps import resolution_usage as ru
from jaxgen.objectives.sampling import image_keys
from jaxgen.training.restore import each_checkpoint
from tests import tiny
from tests.test_bad_input import assert_one_line


@pytest.fixture(scope='module')
def run(stylegans):
    return stylegans['stylegan2']


@pytest.fixture(scope='module')
def parts(run):
    """Contributions to the images 0 to 4 by resolution."""
    slots = np.arange(5, dtype=np.int32)
    _, w = run.styles(slots)
    draw = jax.jit(lambda v, w, noise: ru.contributions(run.generator, v, w, {'noise': noise}))
    return draw(run.variables, w, image_keys(0, slots))


def test_the_contributions_add_up_to_the_image(run, parts):
    assert list(parts) == [4, 8, 16]
    image = run.sample(5)
    np.testing.assert_allclose(sum(parts.values()), image, atol=1e-4 * np.abs(image).max())


def test_the_deviation_is_over_images_and_pixels_whatever_the_batches(run, parts):
    sums = ru.make_sums(run.generator)
    found = ru.deviations(run, sums, 5, batch=2)
    for side, x in parts.items():
        variance = np.var(np.asarray(x, np.float64), axis=(0, 1, 2)).mean()
        np.testing.assert_allclose(found[side], np.sqrt(variance), rtol=1e-4)


def test_shares_add_up_and_a_louder_resolution_has_more(run):
    params = dict(run.variables['params'])
    block = dict(params['block_16'])
    block['to_rgb'] = block['to_rgb'] | {'kernel': 10 * block['to_rgb']['kernel']}
    louder = {**run.variables, 'params': params | {'block_16': block}}
    runs = [run, dataclasses.replace(run, variables=louder, step=7)]
    result = ru.usage(iter(runs), 4, batch=4)
    np.testing.assert_allclose(result['share'].sum(axis=1), 1)
    assert list(result['resolution']) == [4, 8, 16]
    assert list(result['step']) == [0, 7]
    np.testing.assert_allclose(result['deviation'][1, 2], 10 * result['deviation'][0, 2], rtol=1e-4)
    assert result['share'][1, 2] > result['share'][0, 2]


def test_only_the_skip_architecture_has_shares(run):
    other = dataclasses.replace(run, generator=run.generator.clone(architecture='resnet'))
    with pytest.raises(Exception, match="architecture='resnet', this app needs 'skip'"):
        ru.check(other)


def test_stylegan3_has_none(commands, folders, tmp_path):
    flags = [f'--workdir={folders["stylegan3"]}', f'--out={tmp_path / "a.png"}']
    done = commands.run('jaxgen.apps.resolution_usage', *flags)
    assert_one_line(done.code, done.err, ('StyleGAN3Generator', 'needs a StyleGAN2 generator'))
    assert not list(tmp_path.iterdir())


def test_every_checkpoint_of_a_run_is_measured_the_oldest_first(tmp_path):
    folder = tiny.make_run(tmp_path / 'run', 'stylegan2', batch_size=6)
    checkpoints = folder / 'checkpoints'
    shutil.copytree(checkpoints / '5', checkpoints / '12')
    result = ru.usage(each_checkpoint(folder), 2, batch=2)
    assert list(result['step']) == [5, 12]
    assert list(result['images']) == [30, 72]
    assert list(result['resolution']) == [4, 8]
    np.testing.assert_allclose(result['share'][1], result['share'][0], rtol=1e-6)
    figure = plots.resolution_usage(result)
    assert 'images seen' in figure.axes[0].get_xlabel()
