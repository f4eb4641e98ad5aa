"""What the variants of a config promise about each other."""

import pytest

from configs import cips
from jaxgen import tasks
from jaxgen.training.workdir import flatten


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


@pytest.mark.parametrize('variant', ['ffhq', 'ablation', 'ffhq_smoke', 'smoke_demo', ''])
def test_an_unknown_variant_is_told_the_known_ones(variant):
    with pytest.raises(ValueError, match='churches'):
        cips.get_config(variant)
