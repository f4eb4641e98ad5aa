"""What the variants of a config promise about each other."""

import pytest

from configs import cips
from jaxgen.training.workdir import flatten


@pytest.mark.parametrize('variant', sorted(set(cips.DATA_SETS) - {'ffhq256'}))
def test_the_full_size_variants_are_one_training_step_on_other_images(variant):
    paper, other = flatten(cips.get_config()), flatten(cips.get_config(variant))
    assert {name for name in paper if paper[name] != other[name]} == {'data.name'}
    assert paper.keys() == other.keys()


def test_smoke_and_demo_have_the_fields_of_the_paper():
    fields = flatten(cips.get_config()).keys()
    assert flatten(cips.get_config('demo')).keys() == fields
    assert flatten(cips.get_config('smoke')).keys() == fields


def test_an_unknown_variant_is_told_the_known_ones():
    with pytest.raises(ValueError, match='churches'):
        cips.get_config('ffhq')
