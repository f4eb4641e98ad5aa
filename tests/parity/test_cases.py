"""The comparison itself: it must fail where a value, a name or an array is not as stored."""

import json

import numpy as np
import pytest

from jaxgen.interop.cips_names import discriminator_names, generator_names, noise_modules
from tests.parity.cases import Case, find_cases, kind_of


@pytest.fixture
def stem(tmp_path):
    stem = tmp_path / 'inner' / 'layer_0.5'
    stem.parent.mkdir()
    arrays = {
        'in/x': np.arange(3, dtype=np.float32),
        'out/y': np.array([100.0, 1e-6, 0.0]),
        'grad/weight': np.array([1.0, 2.0]),
        'grad/bias': np.array([1e-9]),
    }
    np.savez(f'{stem}.npz', **arrays)
    (stem.parent / 'layer_0.5.json').write_text(json.dumps({'config': {'width': 3}}))
    return stem


def test_cases_are_found_at_any_depth_and_named_without_their_suffix(stem, tmp_path):
    (tmp_path / 'half.json').write_text('{}')
    (tmp_path / 'weights.pt').write_bytes(b'')
    assert find_cases(tmp_path) == [tmp_path / 'half', stem]
    assert Case(stem, 'float64', 1e-10).config == {'width': 3}


def test_a_kind_is_the_longest_beginning_of_a_name():
    kinds = {'discriminator', 'discriminator_parts', 'training'}
    assert kind_of('discriminator_8_in3', kinds) == 'discriminator'
    assert kind_of('discriminator_parts', kinds) == 'discriminator_parts'
    assert kind_of('trainings_plain', kinds) is None


@pytest.mark.parametrize('precision', ['float64', 'float32'])
def test_arrays_come_in_the_precision_of_the_run(stem, precision):
    case = Case(stem, precision, 1e-10)
    assert case['in/x'].dtype == case['out/y'].dtype == precision


def test_a_deviation_is_relative_to_the_largest_entry(stem):
    case = Case(stem, 'float64', 1e-6)
    case.check('out/y', np.array([100.0, 5e-5, 0.0]))
    with pytest.raises(AssertionError, match='out/y: off by'):
        case.check('out/y', np.array([100.0, 2e-4, 0.0]))
    with pytest.raises(AssertionError, match='out/y: off by'):
        case.check('out/y', np.array([100.0, 0.0, np.nan]))


def test_a_shape_is_compared_before_the_values(stem):
    with pytest.raises(AssertionError, match=r'out/y: \(1, 3\) for \(3,\)'):
        Case(stem, 'float64', 1e-6).check('out/y', np.array([[100.0, 1e-6, 0.0]]))


def test_a_tree_has_the_stored_names_and_its_own_tolerance_for_biases(stem):
    right = {'weight': np.array([1.0, 2.0]), 'bias': np.array([1e-9])}
    case = Case(stem, 'float64', 1e-10, 1e-3)
    case.check_tree('grad', right)
    case.check_tree('grad', {**right, 'bias': np.array([1e-7])})
    with pytest.raises(AssertionError, match='grad/bias'):
        case.check_tree('grad', {**right, 'bias': np.array([1e-6])})
    with pytest.raises(AssertionError, match='grad/weight'):
        case.check_tree('grad', {**right, 'weight': np.array([1.0, 2.001])})
    with pytest.raises(AssertionError, match=r"differ in \['bias'\]"):
        case.check_tree('grad', {'weight': right['weight']})


def test_an_array_that_nothing_looks_at_is_a_failure(stem):
    case = Case(stem, 'float64', 1e-10)
    case.under('grad')
    case.check('out/y', case['out/y'])
    with pytest.raises(AssertionError, match='in/x'):
        case.finish()
    case['in/x']
    case.finish()


def random_arrays(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize('residual', [False, True])
def test_a_generator_comes_back_from_our_names(residual):
    layers = noise_modules(2, residual)
    shapes = {
        'lff.ffm.conv.weight': (5, 2, 1, 1),
        'lff.ffm.conv.bias': (5,),
        'emb.input': (1, 5, 4, 4),
        'style.1.weight': (6, 6),
        'style.1.bias': (6,),
        **{f'{layer}.conv.weight': (1, 7, 3, 1, 1) for layer in layers},
        **{f'{layer}.conv.modulation.weight': (3, 6) for layer in layers},
        **{f'{layer}.noise.weight': (1,) for layer in layers},
        **{f'{layer}.bias': (1, 7, 1, 1) for layer in layers},
        ('linears.1.skip.0.weight' if residual else 'to_rgbs.0.conv.weight'): (3, 7, 1, 1),
    }
    published = random_arrays(shapes)
    names = generator_names(residual)
    tree = names.to_tree(published)
    assert tree['input']['kernel'].shape == (3, 7)
    assert set(tree['block_1']) == {'layer_0', 'layer_1'}
    back = names.to_published(tree, published)
    for name, array in published.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_a_discriminator_comes_back_from_our_names():
    shapes = {
        'convs.0.0.weight': (4, 3, 1, 1),
        'convs.1.0.weight': (4, 4, 3, 3),
        'convs.2.conv2.1.weight': (6, 4, 3, 3),
        'convs.3.skip.1.weight': (8, 6, 1, 1),
        'final_linear.0.weight': (8, 8 * 16),
        'final_linear.1.bias': (1,),
    }
    published = random_arrays(shapes)
    names = discriminator_names(16, 1)
    tree = names.to_tree({**published, 'convs.2.skip.0.kernel': np.zeros((4, 4))})
    assert set(tree) == {'from_rgb', 'first_0', 'block_16', 'block_8', 'final_dense', 'score'}
    back = names.to_published(tree, published)
    for name, array in published.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_a_published_name_without_a_place_is_an_error():
    with pytest.raises(KeyError, match='surprise'):
        discriminator_names(8, 0).to_tree({'convs.1.surprise': np.zeros(1)})
    with pytest.raises(KeyError, match='surprise'):
        generator_names(False).to_tree({'surprise.conv.weight.0': np.zeros(1)})
