"""What the variants of a config promise about each other."""

import jax
import pytest

from configs import cips, pixelcnn, pixelcnn_pp, pixelrnn, stylegan2, stylegan3
from jaxgen import tasks
from jaxgen.training.workdir import flatten
from jaxgen.variants import read_variant


def differing(variant, base='ffhq256'):
    """{field: value} where `variant` differs from `base`."""
    a, b = flatten(cips.get_config(base)), flatten(cips.get_config(variant))
    assert a.keys() == b.keys()
    return {name: b[name] for name in a if a[name] != b[name]}


@pytest.mark.parametrize('variant', sorted(set(cips.DATA_SETS) - {'ffhq256'}))
def test_the_full_size_variants_are_one_training_step_on_other_images(variant):
    assert differing(variant).keys() == {'data.name'}


@pytest.mark.parametrize(
    ('variant', 'fields'),
    [
        ('ablation_base', {}),
        ('ablation_ne', {'model.embedding': False}),
        ('ablation_no_fourier', {'model.fourier': False}),
        ('ablation_residual', {'model.residual': True}),
        ('ablation_sine', {'model.activation': 'sin'}),
    ],
)
def test_an_ablation_is_one_field_beside_the_batch_of_the_papers_table(variant, fields):
    assert differing(variant) == {'batch_size': 16} | fields
    assert differing(f'{variant}_smoke', 'smoke') == fields
    assert differing(f'{variant}_demo', 'demo') == fields


@pytest.mark.parametrize('variant', cips.VARIANTS)
def test_every_variant_describes_a_model_at_each_of_its_sizes(variant):
    for size in ('', '_demo', '_smoke'):
        config = cips.get_config(variant + size)
        tasks.check(config)
        objective = tasks.make_objective(config)
        assert objective.discriminator.frame == tasks.training_size(config)
        assert objective.frame == tasks.frame(config)


def test_large_images_are_patches_with_the_embedding_and_the_networks_of_256():
    config, paper = cips.get_config('ffhq1024'), cips.get_config()
    assert config.model == paper.model
    assert config.discriminator == paper.discriminator
    assert tasks.image_shape(config) == (1024, 1024, 3)
    assert tasks.frame(config) == (1024, 1024)
    assert tasks.training_size(config) == (256, 256)


def test_a_panorama_is_a_ring_of_four_windows():
    config = cips.get_config('panorama')
    assert tasks.frame(config) == (256, 1024)
    assert tasks.training_size(config) == (256, 256)
    assert tasks.image_shape(config) == (256, 512, 3)


STYLEGANS = [(module, variant) for module in (stylegan2, stylegan3) for variant in module.VARIANTS]


@pytest.mark.parametrize(('module', 'variant'), STYLEGANS)
def test_every_variant_of_stylegan_describes_two_networks_at_each_of_its_sizes(module, variant):
    for size in ('', '_demo', '_smoke'):
        config = module.get_config(variant + size)
        tasks.check(config)
        objective = tasks.make_objective(config)
        assert objective.generator.frame == objective.discriminator.frame == tasks.frame(config)
        assert objective.generator.clamp == objective.discriminator.clamp == 256


def sizes(module, variant):
    """Numbers of parameters of the generator and of the discriminator."""
    objective = tasks.make_objective(module.get_config(variant))
    state = jax.eval_shape(objective.init_state, jax.random.key(0))
    trees = state.ema, state.discriminator.params
    return tuple(sum(x.size for x in jax.tree.leaves(tree)) for tree in trees)


@pytest.mark.parametrize(
    ('module', 'variant', 'published'),
    [
        (stylegan2, 'ffhq256', (24_767_458, 24_001_089)),
        (stylegan2, 'paper_config_f', (30_370_060, 29_012_513)),
        (stylegan3, 't256', (28_472_133, 28_864_129)),
    ],
)
def test_stylegans_networks_have_the_published_numbers_of_parameters(module, variant, published):
    assert sizes(module, variant) == published


def test_a_rung_of_the_papers_ladder_differs_by_what_the_paper_says():
    ladder = [flatten(stylegan2.get_config(f'paper_config_{rung}')) for rung in 'fedcba']
    changed = [{n for n in a if a[n] != b[n]} for a, b in zip(ladder, ladder[1:], strict=False)]
    assert changed == [set(rung) for rung in list(stylegan2.LADDER.values())[1:]]
    ladder = [flatten(stylegan3.get_config(f'config_{rung}')) for rung in 'thgfe']
    changed = [{n for n in a if a[n] != b[n]} for a, b in zip(ladder, ladder[1:], strict=False)]
    assert changed == [set(rung) for rung in list(stylegan3.LADDER.values())[1:5]]
    ladder = [flatten(stylegan3.get_config(f'config_{rung}')) for rung in 'dcba']
    changed = [{n for n in a if a[n] != b[n]} for a, b in zip(ladder, ladder[1:], strict=False)]
    assert changed == [set(rung) for rung in list(stylegan3.LADDER.values())[6:]]


def test_rules_of_thumb_follow_the_batch_and_the_size():
    config = stylegan2.get_config('auto').unlock()
    config.update(dict(model=dict(size=512), batch_size=32))
    objective = tasks.make_objective(config)
    assert objective.r1_weight == pytest.approx(0.0002 * 512**2 / 32)
    assert objective.ema_half_life == 10_000
    assert objective.augmentation.images_to_one == 500_000


def test_other_weights_to_start_from_switch_off_ramp_and_blur_and_quicken_ada():
    config = stylegan3.get_config('r256').unlock()
    config.augment.pipeline = 'bgc'
    first = tasks.make_objective(config)
    config.init_from = 'elsewhere'
    transfer = tasks.make_objective(config)
    assert (first.ema_ramp, first.blur_sigma, first.augmentation.images_to_one) == (0.05, 10, 5e5)
    assert (transfer.ema_ramp, transfer.blur_sigma) == (None, 0)
    assert transfer.augmentation.images_to_one == 1e5


@pytest.mark.parametrize('module', [stylegan2, stylegan3])
def test_an_unknown_variant_of_stylegan_is_told_the_known_ones(module):
    with pytest.raises(ValueError, match='smoke'):
        module.get_config('paper')


LIKELIHOODS = [
    (module, variant) for module in (pixelcnn, pixelrnn, pixelcnn_pp) for variant in module.VARIANTS
]


@pytest.mark.parametrize(('module', 'variant'), LIKELIHOODS)
def test_every_variant_of_the_pixelcnn_family_describes_a_model_at_each_of_its_sizes(
    module, variant
):
    for size in ('', '_demo', '_smoke'):
        config = module.get_config(variant + size)
        tasks.check(config)
        objective = tasks.make_objective(config)
        shape = (*objective.frame, objective.model.colours)
        assert shape == tasks.image_shape(config)
        assert objective.num_classes == tasks.num_classes(config)
        shapes = tasks.batch_shapes(config, (4,))
        assert shapes['image'].shape == (4, *shape)
        assert ('label' in shapes) == (objective.num_classes > 0)


def parameters(module, variant):
    """Millions of them."""
    objective = tasks.make_objective(module.get_config(variant))
    state = jax.eval_shape(objective.init_state, jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(state.ema)) / 1e6


def test_the_published_networks_have_their_sizes():
    # PixelCNN++ is known to have 54 million; the other is 20 layers of 384 maps, counted by hand:
    # vertical 3·5·384·768, link 768², horizontal 3·384·768, out 384², of which the first reads RGB.
    assert 53 < parameters(pixelcnn_pp, 'cifar10') < 55
    layer = 15 * 384 * 768 + 768**2 + 3 * 384 * 768 + 384**2
    first = 15 * 3 * 768 + 768**2 + 3 * 3 * 768 + 384**2
    head = 384 * 1024 + 1024 * 768
    biases = 20 * (768 + 768 + 384) + 1024 + 768
    expected = (19 * layer + first + head + biases) / 1e6
    assert parameters(pixelcnn, 'imagenet64') == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('module', [pixelcnn, pixelrnn, pixelcnn_pp])
@pytest.mark.parametrize('variant', ['cifar', 'smoke_demo', ''])
def test_an_unknown_variant_of_the_pixelcnn_family_is_told_the_known_ones(module, variant):
    with pytest.raises(ValueError, match='cifar10'):
        module.get_config(variant)


@pytest.mark.parametrize('variant', ['ffhq', 'ablation', 'ffhq_smoke', 'smoke_demo', ''])
def test_an_unknown_variant_is_told_the_known_ones(variant):
    with pytest.raises(ValueError, match='churches'):
        cips.get_config(variant)


@pytest.mark.parametrize(
    ('word', 'found'),
    [
        ('a_b', ('a_b', '')),
        ('a_b_demo', ('a_b', 'demo')),
        ('a_smoke', ('a', 'smoke')),
        ('demo', ('a', 'demo')),
        ('smoke', ('a', 'smoke')),
    ],
)
def test_a_word_is_a_variant_and_its_size(word, found):
    assert read_variant(word, ('a', 'a_b'), shrinks='a') == found


@pytest.mark.parametrize('word', ['', 'c', 'c_demo', 'a_b_c', 'a_demo_demo', '_demo'])
def test_any_other_word_is_an_error_that_says_which_there_are(word):
    with pytest.raises(ValueError, match=f"'a', 'a_b', 'demo', 'smoke'.*got '{word}'"):
        read_variant(word, ('a', 'a_b'), shrinks='a')


@pytest.mark.parametrize('module', [cips, pixelcnn, pixelcnn_pp, pixelrnn, stylegan2, stylegan3])
def test_every_config_refuses_a_variant_that_it_has_not(module):
    with pytest.raises(ValueError, match=r"one of .*'demo', 'smoke'.* got 'tiny'"):
        module.get_config('tiny')
