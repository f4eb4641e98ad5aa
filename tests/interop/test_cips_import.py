"""State dicts of the released CIPS: what is read off them, what is refused, the way back."""

import json
import math
import pathlib
import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import cips
from jaxgen.models.cips import CIPSGenerator, released_residual_widths, released_widths
from tests import tiny
from tests.parity.cips_checkpoints import fields
from tests.parity.cips_discriminator import discriminator_from
from tests.parity.cips_generator import generator_from

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'cips'


def golden(name):
    """The published parameters of a case, and its config."""
    with np.load(GOLDEN / f'{name}.npz') as stored:
        named = {key[6:]: stored[key] for key in stored.files if key.startswith('param/')}
    return named, json.loads((GOLDEN / f'{name}.json').read_text())['config']


def names_of(kind):
    return sorted(path.stem for path in GOLDEN.glob(f'{kind}.npz'))


@pytest.fixture
def published():
    """A state dict of each kind: 'skip' and 'res'."""
    return {kind: golden(f'generator_{kind}_8')[0] for kind in ('skip', 'res')}


@pytest.mark.parametrize('name', names_of('generator_*_[1-9]*'))
def test_every_field_is_read_off_the_names_and_shapes(name):
    named, config = golden(name)
    model, variables = cips.from_torch(named, activation=config['activation'])
    # The strengths of the noise are zero in these cases.
    assert fields(model) == fields(generator_from(config, noise='none', lookup='reference'))
    back = cips.to_torch(model, variables)
    assert set(back) == set(named)
    for key, array in named.items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)


@pytest.mark.parametrize(
    ('fields', 'parameters'),
    [
        (dict(block_widths=released_widths(256)), 44_317_092),
        (dict(block_widths=released_residual_widths(256), residual=True), 43_027_858),
    ],
    ids=['skip', 'res'],
)
def test_the_names_hold_as_many_parameters_as_the_released_networks(fields, parameters):
    shapes = cips.generator_shapes(CIPSGenerator(**fields))
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters


@pytest.mark.parametrize('name', names_of('discriminator_[1-9]*'))
def test_every_field_of_the_discriminator_is_read_off_too(name):
    named, config = golden(name)
    model, variables = cips.discriminator_from_torch(named)
    assert fields(model) == fields(discriminator_from(config))
    assert list(variables) == ['params']


def test_the_names_of_sine_are_those_of_sinrelu_unless_the_caller_knows():
    named, _ = golden('generator_skip_8_sinrelu')
    assert cips.from_torch(named)[0].activation == 'sin'
    with pytest.raises(UserError, match=r"'sin', 'sinrelu'.*got 'lrelu'"):
        cips.from_torch(named, activation='lrelu')
    with pytest.raises(UserError, match=r"'lrelu'.*got 'sin'"):
        cips.from_torch(golden('generator_skip_8')[0], activation='sin')


def test_noise_is_drawn_where_it_has_a_strength_unless_the_caller_says_otherwise(published):
    named = published['skip']
    assert cips.from_torch(named)[0].noise == 'none'
    named['linears.2.noise.weight'] = np.full(1, 0.5, np.float32)
    model, variables = cips.from_torch(named)
    assert model.noise == 'random'
    assert variables['params']['block_1']['layer_0']['noise_scale'] == 0.5
    model, variables = cips.from_torch(named, noise='none')
    assert model.noise == 'none'
    assert 'noise_scale' not in variables['params']['input']
    assert cips.to_torch(model, variables)['linears.2.noise.weight'] == np.zeros(1)


@pytest.mark.parametrize('kind', ['skip', 'res'])
def test_what_is_missing_unused_or_misshapen_is_listed(published, kind):
    named = published[kind]
    layer = {'skip': 'linears.1', 'res': 'linears.1.conv2'}[kind]
    del named[f'{layer}.conv.modulation.bias']
    named['num_batches'] = np.zeros(1, np.float32)
    named['lff.ffm.conv.bias'] = np.zeros(3, np.float32)
    with pytest.raises(UserError) as caught:
        cips.from_torch(named)
    for words in (
        f'missing: {layer}.conv.modulation.bias',
        'unused: num_batches',
        'of another shape: lff.ffm.conv.bias (3,) instead of (8,)',
    ):
        assert words in str(caught.value)


def test_a_long_list_is_cut(published):
    named = published['skip'] | {f'extra.{i}': np.zeros(1, np.float32) for i in range(500)}
    with pytest.raises(UserError, match=r'extra\.5 and 494 more'):
        cips.from_torch(named)


@pytest.mark.parametrize('kind', ['skip', 'res'])
def test_any_name_that_is_missing_is_an_error_that_names_it(published, kind):
    for name in published[kind]:
        rest = {other: array for other, array in published[kind].items() if other != name}
        with pytest.raises(UserError, match=re.escape(name)):
            cips.from_torch(rest)


def test_any_name_that_the_discriminator_misses_is_an_error_that_names_it():
    named, _ = golden('discriminator_16_in3_first2')
    for name in named:
        rest = {other: array for other, array in named.items() if other != name}
        with pytest.raises(UserError, match=re.escape(name)):
            cips.discriminator_from_torch(rest)


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('emb.input', np.zeros((1, 8, 0, 0), np.float32), 'size must be positive'),
        ('emb.input', np.zeros((1, 8, 8, 4), np.float32), r'\(1, 8, 8, 4\) instead of'),
        ('emb.input', np.zeros((8, 8), np.float32), 'must have 4 dimensions'),
        ('style.1.weight', np.full((6, 6), np.nan, np.float32), 'not finite'),
        ('style.1.weight', np.full((6, 6), 1e300), 'not finite'),
        ('style.1.weight', np.full((6, 6), 1e38, np.float32), 'w is not finite'),
        ('style.1.weight', np.zeros((6, 6), np.int64), 'floats, got int64'),
        ('style.1.weight', [[1.0]], 'floats, got list'),
        (3, np.zeros(3, np.float32), 'got a int'),
        ('a\nb', np.zeros(3, np.float32), r'unused: a\\nb'),
    ],
)
def test_values_that_are_no_weights_are_refused(published, name, value, words):
    with pytest.raises(UserError, match=words):
        cips.from_torch(published['skip'] | {name: value})


def test_more_layers_than_any_network_has_are_refused(published):
    more = {f'style.{i}.weight': np.zeros((6, 6), np.float32) for i in range(1, 99)}
    with pytest.raises(UserError, match='more than 64'):
        cips.from_torch(published['skip'] | more)


@pytest.mark.parametrize('dtype', [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_float_dtypes_become_float32(published, dtype):
    named = {name: array.astype(dtype) for name, array in published['res'].items()}
    model, variables = cips.from_torch(named)
    back = cips.to_torch(model, variables)
    for name, array in named.items():
        assert back[name].dtype == np.float32
        np.testing.assert_array_equal(back[name], array.astype(np.float32), err_msg=name)


def test_the_mean_of_w_is_that_of_any_large_sample(published):
    named = published['skip']
    _, variables = cips.from_torch(named)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(100_000, 6))
    x /= np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)
    for i in (1, 2):
        x = x @ (named[f'style.{i}.weight'].T * 0.01 / np.sqrt(6)) + named[f'style.{i}.bias'] * 0.01
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    deviation = np.abs(variables['stats']['mapping']['w_avg'] - x.mean(0))
    assert (deviation < 5 * x.std(0) / np.sqrt(cips.AVERAGED)).all()
    assert (x.std(0) > 0).any()


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(size=(4, 8)), 'frame of 8×4'),
        (dict(cylindrical=True), 'cylindrical'),
        (dict(embedding=False), 'only one of its encodings'),
        (dict(fourier=False), 'only one of its encodings'),
        (dict(cumulative_rgb=False), 'single ToRGB'),
        (dict(num_classes=2), 'classes'),
    ],
    ids=str,
)
def test_variants_that_were_not_released_have_no_state_dict(fields, words):
    with pytest.raises(UserError, match=words):
        cips.to_torch(tiny.generator(**fields), {})


def test_a_discriminator_that_does_not_fit_is_refused():
    named, _ = golden('discriminator_8_in3_first0')
    wrong = named | {'convs.1.conv2.0.kernel': np.full((4, 4), 1 / 16, np.float32)}
    with pytest.raises(UserError, match=r'blur .*convs\.1\.conv2\.0\.kernel'):
        cips.discriminator_from_torch(wrong)
    with pytest.raises(UserError, match=r'unused: convs\.9\.bias'):
        cips.discriminator_from_torch(named | {'convs.9.bias': np.zeros(1, np.float32)})
    grey = named | {'convs.0.0.weight': named['convs.0.0.weight'][:, :1]}
    with pytest.raises(UserError, match='3 input channels'):
        cips.discriminator_from_torch(grey)
    with pytest.raises(UserError, match='missing'):
        cips.discriminator_from_torch({})


def test_an_export_of_our_own_generator_comes_back():
    model = tiny.generator(residual=True, noise='random', lookup='reference')
    variables = tiny.variables(model)
    published = cips.to_torch(model, variables)
    again, imported = cips.from_torch(published, mapping_lr_multiplier=1.0)
    assert fields(again) == fields(model)
    for name, array in cips.to_torch(again, imported).items():
        np.testing.assert_array_equal(array, published[name], err_msg=name)
    assert jnp.isfinite(imported['stats']['mapping']['w_avg']).all()
