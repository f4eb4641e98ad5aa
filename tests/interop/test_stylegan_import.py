"""State dicts of the official StyleGAN2 and StyleGAN3: every argument counts."""

import pathlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxgen.errors import UserError
from jaxgen.interop import stylegan2, stylegan3, stylegan_pickle
from jaxgen.interop.abstract import abstract_variables
from jaxgen.interop.keywords import Keywords
from jaxgen.interop.stylegan_names import published_names, to_published
from jaxgen.models.discriminator import Discriminator
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator
from tests.parity.cips_checkpoints import fields

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'stylegan' / 'pkl'
IMPORTERS = {
    'sg2 G': (stylegan2.from_torch, 'sg2_cond', 'G_ema'),
    'sg2 D': (stylegan2.discriminator_from_torch, 'sg2_cond', 'D'),
    'sg3 G': (stylegan3.from_torch, 'sg3t', 'G_ema'),
}
REQUIRED = dict(z_dim=4, c_dim=0, w_dim=6, img_resolution=16, img_channels=3)
TINY = REQUIRED | dict(channel_base=64, channel_max=4)
TINY_D = {name: x for name, x in TINY.items() if name not in ('z_dim', 'w_dim')}
ONE = np.ones(1, np.float32)


@pytest.fixture(scope='module')
def stored():
    return {stem: stylegan_pickle.read(GOLDEN / f'{stem}.pkl')[0] for stem in ('sg2_cond', 'sg3t')}


@pytest.fixture
def import_(stored):
    """Imports a network of a snapshot with changes; None takes an entry away."""

    def run(which, change=None, **kwargs):
        importer, stem, key = IMPORTERS[which]
        network = stored[stem][key]
        arrays = {**network.state_dict, **(change or {})}
        arrays = {name: x for name, x in arrays.items() if x is not None}
        return importer(arrays, {**network.init_kwargs, **kwargs})

    return run


def published(module, modules, rules=stylegan2.names.STYLEGAN2, seed=0):
    """Random variables of a module as a published state dict, without filters."""
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), abstract_variables(module)
    )
    return to_published(variables, published_names(variables, modules, rules), rules), variables


def tiny_stylegan2(**changes):
    module = StyleGAN2Generator(**(dict(
        size=16, latent=4, style=6, channel_base=64, channel_max=4, clamp=256.0, noise='const',
    ) | changes))  # fmt: skip
    return module, *published(module, stylegan2._generator_modules(module)[0])


@pytest.mark.parametrize(
    ('kwargs', 'changes'),
    [
        ({}, {}),
        (dict(mapping_kwargs=dict(num_layers=2)), dict(mapping_layers=2)),
        (dict(mapping_kwargs=dict(lr_multiplier=0.1)), dict(mapping_lr_multiplier=0.1)),
        (dict(c_dim=3), dict(num_classes=3)),
        (dict(img_channels=1), dict(image_channels=1)),
        (dict(architecture='resnet'), dict(architecture='resnet')),
        (dict(architecture='orig'), dict(architecture='orig')),
        (dict(activation='relu'), dict(activation='relu')),
        (dict(resample_filter=[1, 2, 1]), dict(resample_filter=(1, 2, 1))),
        (dict(conv_clamp=None), dict(clamp=None)),
        (dict(use_noise=False), dict(noise='none')),
        (dict(num_fp16_res=2), dict(low_precision_blocks=2)),
        (dict(fused_modconv_default='inference_only', fp16_channels_last=True), {}),
        (dict(mapping_kwargs=dict(w_avg_beta=0.9, embed_features=6, layer_features=None)), {}),
    ],
)
def test_every_argument_of_the_stylegan2_generator_reaches_its_field(kwargs, changes):
    expected, arrays, variables = tiny_stylegan2(**changes)
    module, found = stylegan2.from_torch(arrays, TINY | kwargs)
    assert fields(module) == fields(expected)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert jax.tree.structure(found) == jax.tree.structure(variables)


def test_the_grouped_arguments_of_the_ada_code_do_not_clamp_by_default():
    _, arrays, _ = tiny_stylegan2()
    own = dict(channel_base=64, channel_max=4)
    module, _ = stylegan2.from_torch(arrays, REQUIRED | dict(synthesis_kwargs=own))
    assert module.clamp is None
    module, _ = stylegan2.from_torch(
        arrays, REQUIRED | dict(synthesis_kwargs=own | dict(conv_clamp=256))
    )
    assert module.clamp == 256
    assert stylegan2.from_torch(arrays, TINY)[0].clamp == 256
    with pytest.raises(UserError, match=r"\['channel_max'\] twice"):
        stylegan2.from_torch(arrays, TINY | dict(synthesis_kwargs=dict(channel_max=4)))


@pytest.mark.parametrize(
    ('kwargs', 'changes'),
    [
        ({}, {}),
        (dict(c_dim=3), dict(num_classes=3)),
        (dict(c_dim=3, cmap_dim=5), dict(num_classes=3, label_features=5)),
        (
            dict(c_dim=3, mapping_kwargs=dict(num_layers=2, w_avg_beta=None)),
            dict(num_classes=3, label_layers=2),
        ),
        (dict(architecture='skip'), dict(architecture='skip')),
        (dict(architecture='orig'), dict(architecture='orig')),
        (dict(conv_clamp=None), dict(clamp=None)),
        (dict(img_channels=1), dict(image_channels=1)),
        (dict(epilogue_kwargs=dict(mbstd_group_size=8)), dict(minibatch_std_group=8)),
        (
            dict(epilogue_kwargs=dict(mbstd_group_size=None)),
            dict(minibatch_std_group=stylegan2.WHOLE_BATCH),
        ),
        (dict(epilogue_kwargs=dict(mbstd_num_channels=2)), dict(minibatch_std_features=2)),
        (
            dict(epilogue_kwargs=dict(mbstd_num_channels=0)),
            dict(minibatch_std_group=0, minibatch_std_features=0),
        ),
        (dict(block_kwargs=dict(resample_filter=[1, 2, 1])), dict(blur_kernel=(1, 2, 1))),
        (dict(num_fp16_res=2, block_kwargs=dict(freeze_layers=3, fp16_channels_last=True)), {}),
    ],
)
def test_every_argument_of_the_discriminator_reaches_its_field(kwargs, changes):
    expected = Discriminator(**(dict(
        size=16, channels={4: 4, 8: 4, 16: 4}, minibatch_std_grouping='strided', clamp=256.0,
        label_layers=8,
    ) | changes))  # fmt: skip
    rules = stylegan2.names.discriminator_modules(16)
    modules = stylegan2._discriminator_modules(expected)[0]
    arrays, variables = published(expected, modules, rules)
    module, found = stylegan2.discriminator_from_torch(arrays, TINY_D | kwargs)
    assert fields(module) == fields(expected)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize(
    ('kwargs', 'changes'),
    [
        ({}, {}),
        (
            dict(conv_kernel=1, use_radial_filters=True, lrelu_upsampling=1, filter_size=4),
            dict(kernel_size=1, radial=True, lrelu_upsampling=1, filter_size=4),
        ),
        (
            dict(num_critical=1, first_cutoff=2.5, first_stopband=5.0, last_stopband_rel=1.3,
                 margin_size=4, output_scale=0.5, magnitude_ema_beta=0.9, num_fp16_res=0),
            dict(num_critical=1, first_cutoff=2.5, first_stopband=5.0, last_stopband_rel=1.3,
                 margin=4, output_scale=0.5, magnitude_decay=0.9, low_precision_blocks=0),
        ),
        (
            dict(c_dim=3, conv_clamp=None, mapping_kwargs=dict(num_layers=1, lr_multiplier=0.1)),
            dict(num_classes=3, clamp=None, mapping_layers=1, mapping_lr_multiplier=0.1),
        ),
    ],
)  # fmt: skip
def test_every_argument_of_the_stylegan3_generator_reaches_its_field(kwargs, changes):
    expected = StyleGAN3Generator(**(dict(
        size=16, latent=4, style=6, channel_base=64, channel_max=4, num_layers=3,
    ) | changes))  # fmt: skip
    modules = stylegan2.mapping_modules(expected.mapping_layers, expected.num_classes)
    modules += ['synthesis.input', *stylegan3._layers(expected)]
    arrays, variables = published(expected, modules, stylegan3.names.stylegan3_modules(3))
    module, found = stylegan3.from_torch(arrays, TINY | dict(num_layers=3) | kwargs)
    assert fields(module) == fields(expected)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize('which', IMPORTERS)
def test_arguments_that_nobody_knows_are_listed(import_, which):
    with pytest.raises(UserError, match=r"arguments that jaxgen does not know: 'a_b', 'c'$"):
        import_(which, c=1, a_b=None)
    with pytest.raises(UserError, match=r"mapping_kwargs has arguments .* know: 'depth'$"):
        import_(which, mapping_kwargs=dict(depth=3))


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(mapping_kwargs=dict(activation='relu')), "one of ['lrelu'], got 'relu'"),
        (dict(mapping_kwargs=dict(embed_features=5)), 'one of [None, 6], got 5'),
        (dict(mapping_kwargs=dict(layer_features=5)), 'one of [None, 6], got 5'),
        (dict(mapping_kwargs=3), 'must be a dictionary, got 3'),
        (dict(synthesis_kwargs=None), 'must be a dictionary, got None'),
        (dict(mapping_kwargs=dict(num_layers=10**9)), 'whole number from 1 to 64'),
        (dict(img_resolution=2**40), 'whole number from 1 to 8192'),
        (dict(img_resolution=24), 'power of two'),
        (dict(img_resolution=True), 'got True'),
        (dict(w_dim='6'), "got '6'"),
        (dict(w_dim=ONE), 'got a ndarray'),
        (dict(z_dim=4.5), 'got 4.5'),
        (dict(architecture=['skip']), 'got a list'),
        (dict(architecture='pyramid'), "got 'pyramid'"),
        (dict(activation='wave'), 'wave'),
        (dict(conv_clamp=-1), 'positive number'),
        (dict(conv_clamp=float('nan')), 'positive number'),
        (dict(resample_filter=[1, -1]), 'positive sum'),
        (dict(resample_filter=[1.0, float('inf')]), 'positive sum'),
        (dict(resample_filter='1331'), 'positive sum'),
        (dict(use_noise=1), 'True or False'),
        ({'a\x1b[2Jb': 1}, 'a\\x1b[2Jb'),
    ],
)
def test_arguments_with_other_values_are_refused_in_one_line(kwargs, words):
    with pytest.raises(UserError) as caught:
        stylegan2.from_torch({}, TINY | kwargs)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_missing_argument_is_named():
    for name in REQUIRED:
        with pytest.raises(UserError, match=f"the generator has no argument '{name}'"):
            stylegan2.from_torch({}, {key: x for key, x in TINY.items() if key != name})


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(num_layers=2, num_critical=2),
        dict(first_cutoff=100.0),
        dict(first_stopband=1e-300),
        dict(last_stopband_rel=1e300),
        dict(conv_kernel=2),
        dict(margin_size=0, img_resolution=8),
        dict(output_scale='1'),
        dict(lrelu_upsampling=7),
    ],
)
def test_a_plan_that_does_not_go_together_is_refused(kwargs):
    with pytest.raises(UserError) as caught:
        stylegan3.from_torch({}, TINY | dict(num_layers=4) | kwargs)
    assert str(caught.value).isprintable()


WRONG = {
    'a parameter is missing': (
        'sg2 G', {'synthesis.b8.conv1.weight': None}, 'missing: synthesis.b8.conv1.weight'),
    'a buffer is missing': ('sg2 G', {'mapping.w_avg': None}, 'missing: mapping.w_avg'),
    'noise is missing': (
        'sg2 G', {'synthesis.b8.conv0.noise_const': None}, 'missing: synthesis.b8.conv0.noise_c'),
    'a name is new': ('sg2 G', {'synthesis.b8.conv2.weight': ONE}, 'unused: synthesis.b8.conv2.w'),
    'a filter is new': (
        'sg2 G', {'synthesis.b8.torgb.resample_filter': ONE}, 'unused: synthesis.b8.torgb.res'),
    'a shape differs': (
        'sg2 G', {'synthesis.b4.const': np.ones((8, 4, 5), np.float32)},
        'synthesis.b4.const (8, 4, 5) instead of (8, 4, 4)'),
    'a filter differs': (
        'sg2 G', {'synthesis.b16.resample_filter': np.full((4, 4), 1 / 16, np.float32)},
        "'synthesis.b16.resample_filter' of the generator is not what its arguments give"),
    'a value is no number': (
        'sg2 G', {'synthesis.b4.torgb.bias': np.array([0, np.nan, 0], np.float32)},
        "'synthesis.b4.torgb.bias' of the generator has values that are not finite"),
    'whole numbers': (
        'sg2 G', {'synthesis.b4.torgb.bias': np.zeros(3, np.int32)}, 'must be an array of floats'),
    'the last dense layer': (
        'sg2 D', {'b4.fc.weight': np.ones((8, 100), np.float32)}, 'b4.fc.weight (8, 100) instead'),
    'a dense layer of a discriminator is missing': (
        'sg2 D', {'b4.out.weight': None}, 'missing: b4.out.weight'),
    'a filter of the discriminator differs': (
        'sg2 D', {'b8.conv1.resample_filter': np.eye(4, dtype=np.float32)}, 'is not what its arg'),
    'a layer of another size': (
        'sg3 G', {'synthesis.L1_36_9.weight': ONE}, 'unused: synthesis.L1_36_9.weight'),
    'frequencies are missing': (
        'sg3 G', {'synthesis.input.freqs': None}, 'missing: synthesis.input.freqs'),
    'a low-pass differs': (
        'sg3 G', {'synthesis.L2_36_8.up_filter': np.full(12, 1 / 12, np.float32)},
        "'synthesis.L2_36_8.up_filter' of the generator is not what its arguments give"),
    'a low-pass where there is none': (
        'sg3 G', {'synthesis.L14_32_3.up_filter': ONE}, 'unused: synthesis.L14_32_3.up_filter'),
    'a transform': (
        'sg3 G', {'synthesis.input.transform': np.diag([1, -1, 1]).astype(np.float32)},
        "'synthesis.input.transform' of the generator is not"),
}  # fmt: skip


@pytest.mark.parametrize('name', WRONG)
def test_what_does_not_fit_is_listed(import_, name):
    which, change, words = WRONG[name]
    with pytest.raises(UserError) as caught:
        import_(which, change)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_file_of_half_precision_becomes_float32(stored):
    network = stored['sg2_cond']['G_ema']
    half = {name: x.astype(np.float16) for name, x in network.state_dict.items()}
    _, variables = stylegan2.from_torch(half, network.init_kwargs)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_buffers_are_in_the_collection_stats(import_, stored):
    arrays = stored['sg2_cond']['G_ema'].state_dict
    _, variables = import_('sg2 G')
    stats = variables['stats']
    np.testing.assert_array_equal(stats['mapping']['w_avg'], arrays['mapping.w_avg'])
    np.testing.assert_array_equal(
        stats['block_8']['conv0']['noise'], arrays['synthesis.b8.conv0.noise_const']
    )
    arrays = stored['sg3t']['G_ema'].state_dict
    _, variables = import_('sg3 G')
    stats = variables['stats']
    np.testing.assert_array_equal(stats['input']['frequencies'], arrays['synthesis.input.freqs'])
    np.testing.assert_array_equal(stats['input']['phases'], arrays['synthesis.input.phases'])
    for layer, name in (('layer_0', 'L0_36_8'), ('to_rgb', 'L14_32_3')):
        magnitude = arrays[f'synthesis.{name}.magnitude_ema']
        assert stats[layer]['magnitude'] == magnitude != 1


def test_the_noise_is_const_unless_asked_for(stored):
    network = stored['sg2_cond']['G_ema']
    arguments = network.state_dict, network.init_kwargs
    for noise in (None, 'const', 'random', 'none'):
        module, variables = stylegan2.from_torch(*arguments, noise=noise)
        assert module.noise == (noise or 'const')
        flat, expected = map(traverse_util.flatten_dict, (variables, abstract_variables(module)))
        assert {path: x.shape for path, x in flat.items()} == {
            path: x.shape for path, x in expected.items()
        }
    with pytest.raises(UserError, match=r"noise must be one of .* got 'loud'"):
        stylegan2.from_torch(*arguments, noise='loud')
    with pytest.raises(UserError, match=r"noise must be one of \('none',\)"):
        stylegan2.from_torch({}, TINY | dict(use_noise=False), noise='random')


def test_keywords_are_taken_once_and_what_is_left_is_told():
    keywords = Keywords('it', {'a': 3.0, 'b': {'c': 1}, 'd': 2})
    assert keywords.integer('a') == 3
    assert keywords.integer('a', 7) == 7  # gone
    group = keywords.group('b')
    keywords.ignore('d', 'e')
    with pytest.raises(UserError, match=r"it's b has arguments .*: 'c'"):
        keywords.finish()
    assert group.number('c') == 1.0
    keywords.finish()
