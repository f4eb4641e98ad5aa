"""What `jaxgen.export` writes: the published names and numbers, and PyTorch reads it."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import (
    imported,
    rosinality,
    stylegan2,
    stylegan3,
    stylegan_pickle,
    torch_reader,
    torch_writer,
)
from jaxgen.interop.abstract import abstract_variables
from jaxgen.interop.published import published
from jaxgen.models import StyleGAN2Generator, StyleGAN3Generator
from jaxgen.objectives.sampling import draw_at_once
from jaxgen.training.restore import from_weights, restore
from tests import tiny
from tests.interop.test_convert import assert_trees_equal
from tests.interop.test_stylegan_rosinality import STYLE, generator_dict
from tests.test_bad_input import assert_one_line

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'stylegan' / 'pkl'
FAMILIES = {'sg2_uncond': stylegan2, 'sg2_cond': stylegan2, 'sg3t': stylegan3}
VALUE = {
    'nothing': None,
    'answers': (True, False),
    'numbers': [0, -1, 2**31 - 1, 0.1],
    'name': 'ψ',
    'empty': {},
    'arrays': {
        'scalar': np.full((), 3, np.float32),
        'vector': np.arange(3, dtype=np.float32),
        'none': np.zeros((2, 0, 3), np.float32),
        'transposed': np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    },
}
# Reads a file the way users do, and says what it found.
READ = """
import json, sys, torch
value = torch.load(sys.argv[1])
arrays = value.pop('arrays')
assert all(x.dtype == torch.float32 and x.is_contiguous() for x in arrays.values())
value['arrays'] = {name: [list(x.shape), x.flatten().tolist()] for name, x in arrays.items()}
print(json.dumps(value))
"""


def variants():
    """A generator of each kind with arguments that are not the default's."""
    common = tiny.NARROW | dict(size=16, channel_base=64, num_classes=2)
    return {
        'stylegan2': StyleGAN2Generator(
            **common, architecture='resnet', resample_filter=(1, 2, 1), noise='random', clamp=None
        ),
        'without noise': StyleGAN2Generator(**common, noise='none', activation='relu'),
        'stylegan3': StyleGAN3Generator(
            **common, num_layers=3, radial=True, kernel_size=1, margin=3, filter_size=4, clamp=9.0
        ),
    }


def test_whatever_is_written_is_read_again(tmp_path):
    torch_writer.write(tmp_path / 'a.pt', VALUE)
    found = torch_reader.read(tmp_path / 'a.pt')
    for name, array in VALUE['arrays'].items():
        np.testing.assert_array_equal(found['arrays'][name], array)
        assert found['arrays'][name].dtype == np.float32
    assert {**found, 'arrays': 0} == {**VALUE, 'arrays': 0}


@pytest.mark.skipif(
    importlib.util.find_spec('torch') is None,
    reason='torch is not installed; .ci/run installs it',
)
def test_pytorch_reads_what_was_written(tmp_path):
    torch_writer.write(tmp_path / 'a.pt', VALUE)
    command = [sys.executable, '-c', READ, str(tmp_path / 'a.pt')]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for name, array in VALUE['arrays'].items():
        assert found['arrays'][name] == [list(array.shape), array.ravel().tolist()]
    assert {**found, 'arrays': 0} == {**VALUE, 'answers': [True, False], 'arrays': 0}


@pytest.mark.parametrize('value', [np.zeros(2), np.zeros(2, np.int32), 2**31, {1}, b'x'], ids=str)
def test_what_cannot_be_written_is_an_error(tmp_path, value):
    with pytest.raises(TypeError):
        torch_writer.write(tmp_path / 'a.pt', {'x': value})


@pytest.mark.parametrize('stem', FAMILIES)
def test_an_official_state_dict_comes_back_name_by_name(stem):
    network = stylegan_pickle.read(GOLDEN / f'{stem}.pkl')[0]['G_ema']
    family = FAMILIES[stem]
    generator, variables = family.from_torch(network.state_dict, network.init_kwargs)
    state_dict, init_kwargs = family.to_torch(generator, variables)
    assert state_dict.keys() == network.state_dict.keys()
    for name, array in network.state_dict.items():
        assert state_dict[name].shape == array.shape, name
        # Filters are designed anew.
        np.testing.assert_allclose(state_dict[name], array, rtol=0, atol=1e-7, err_msg=name)
    again, _ = family.from_torch(state_dict, init_kwargs)
    # An export computes in float32.
    assert again.clone(low_precision_blocks=generator.low_precision_blocks) == generator


def test_a_state_dict_of_rosinality_comes_back_name_by_name():
    named, mean = generator_dict(), np.arange(STYLE, dtype=np.float32)
    state_dict, back = rosinality.to_torch(*rosinality.from_torch(named, mean, noise='random'))
    assert state_dict.keys() == named.keys()
    for name, array in named.items():
        np.testing.assert_array_equal(state_dict[name], array, err_msg=name)
    np.testing.assert_array_equal(back, mean)


@pytest.mark.parametrize('name', variants())
def test_a_generator_of_our_own_comes_back_from_the_file(name, tmp_path):
    generator = variants()[name]
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), abstract_variables(generator)
    )
    torch_writer.write(tmp_path / 'g.pt', published(generator, variables))
    found = imported.read_published(tmp_path / 'g.pt', noise=getattr(generator, 'noise', None))
    assert found.generator.clone(low_precision_blocks=4) == generator
    assert_trees_equal(dict(found.variables()), variables)
    assert found.provenance['format'] == 'state dict with arguments'


@pytest.mark.parametrize(
    ('generator', 'layout', 'words'),
    [
        (StyleGAN2Generator(size=16, normalization='instance'), 'official', 'normalization'),
        (StyleGAN2Generator(size=16, fourier_input=True), 'official', 'fourier_input=True'),
        (StyleGAN2Generator(size=16, mapping_features=8), 'official', 'mapping_features=8'),
        (StyleGAN2Generator(size=16, activation='sin'), 'official', "got 'sin'"),
        (StyleGAN3Generator(size=16, flexible=False), 'official', 'flexible=False'),
        (StyleGAN2Generator(size=16, architecture='resnet'), 'rosinality', 'architecture=resnet'),
        (StyleGAN2Generator(size=16, noise='none'), 'rosinality', 'noise'),
        (StyleGAN3Generator(size=16), 'rosinality', 'that of StyleGAN2'),
        (tiny.generator(cylindrical=True), 'official', 'cylindrical'),
        (tiny.discriminator(), 'official', 'a Discriminator has no published format'),
        (StyleGAN2Generator(size=16), 'pickle', "got 'pickle'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_the_published_code_does_not_have_is_refused(generator, layout, words):
    with pytest.raises(UserError, match=words):
        published(generator, {'params': {}}, layout=layout)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    return {
        'cips': tiny.make_run(folder / 'cips'),
        'stylegan2': tiny.make_run(folder / 'stylegan2', 'stylegan2', model__num_classes=0),
        'pixelcnn': tiny.make_run(folder / 'pixelcnn', 'pixelcnn'),
    }


def draw(generator, variables, w):
    """Images of w, with what a file does not tell: float32, no clamp, no noise that is new."""
    if isinstance(generator, StyleGAN2Generator):
        generator = generator.clone(noise='const', dtype=None, clamp=None)
    else:
        generator = generator.clone(noise='none', lookup='exact')
    return draw_at_once(generator, variables, w, generator.frame)


@pytest.mark.parametrize(
    ('kind', 'flags', 'says'),
    [
        ('cips', [], 'g_ema with '),
        ('stylegan2', ['--noema', '--checkpoint=5'], 'of step 5, G_ema with '),
        ('stylegan2', ['--layout=rosinality'], '; latent_avg'),
    ],
    ids=['cips', 'stylegan2', 'rosinality'],
)
def test_a_run_that_was_exported_draws_the_same_images(commands, runs, tmp_path, kind, flags, says):
    path = tmp_path / 'g.pt'
    child = commands.run('jaxgen.export', f'--workdir={runs[kind]}', f'--out={path}', *flags)
    assert child.code == 0, child.err
    assert says in child.out
    run, again = restore(runs[kind], ema='--noema' not in flags), from_weights(path)
    w = jax.random.normal(jax.random.key(0), (2, run.generator.style))
    images = [draw(each.generator, each.variables, w) for each in (run, again)]
    np.testing.assert_allclose(*images, atol=1e-5)


@pytest.mark.parametrize(
    ('kind', 'flags', 'words'),
    [
        ('pixelcnn', [], ('GatedPixelCNN has no published format',)),
        ('cips', ['--checkpoint=last'], ('checkpoint must be newest, best or', "got 'last'")),
        ('cips', ['--checkpoint=7'], ('has checkpoints of the steps [5], not of 7',)),
        ('cips', ['--checkpoint=best'], ('has no best checkpoint',)),
        ('cips', ['--out=g.pkl'], ('--out must end in one of .pt, .pth', "got 'g.pkl'")),
    ],
)
def test_a_mistake_is_one_line(commands, runs, tmp_path, kind, flags, words):
    out = [] if '--out=g.pkl' in flags else [f'--out={tmp_path}/g.pt']
    child = commands.run('jaxgen.export', f'--workdir={runs[kind]}', *out, *flags)
    assert_one_line(child.code, child.err, words)
    assert list(tmp_path.iterdir()) == []
