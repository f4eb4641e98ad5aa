"""`jaxgen.apps.feature_maps`: chosen layers, chosen channels, one stretch of colours for all."""

import numpy as np
import pytest

from jaxgen.apps import feature_maps as fm
from jaxgen.apps import motion
from jaxgen.errors import UserError
from jaxgen.training.workdir import to_uint8


def test_layers_have_the_modules_names(stylegans):
    second, third = (stylegans[kind].generator for kind in ('stylegan2', 'stylegan3'))
    assert fm.layer_names(second) == ['block_4', 'block_8', 'block_16']
    assert fm.layer_names(third) == ['input', 'layer_0', 'layer_1', 'layer_2']
    assert fm.choose_layers(third, None, count=2) == ['input', 'layer_2']
    with pytest.raises(UserError, match=r"--layers must be some of input, .*got 'block_4'"):
        fm.choose_layers(third, ['block_4'])


@pytest.mark.parametrize('kind', ['stylegan2', 'stylegan3'])
def test_maps_cover_the_image_and_move_with_it(stylegans, kind):
    run = stylegans[kind]
    names = fm.layer_names(run.generator)[-2:]
    move = 'walk' if kind == 'stylegan2' else 'translation'
    styles, transform = motion.path_of(move, run.styles([0, 1, 2])[1], 2)
    shown = fm.render(run, names, styles[:2], transform)
    assert list(shown) == [*names, 'image']
    for name in names:
        frames, height, width, colours = shown[name].shape
        assert (frames, colours) == (2, 3)
        assert height == width <= 16
        assert shown[name].dtype == np.uint8
        assert np.ptp(shown[name]) > 50
    if kind == 'stylegan3':
        expected = to_uint8(run.images(styles, transform=transform))
        assert np.abs(shown['image'].astype(int) - expected).max() <= 1


def test_channels_are_those_that_vary_most_unless_named():
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 5)) * np.array([1, 5, 2, 4, 3])
    assert fm.choose_channels(maps) == [1, 3, 4]
    assert fm.choose_channels(maps[..., :2]) == [1, 0, 0]
    assert fm.choose_channels(maps, ['4', '0', '0']) == [4, 0, 0]
    for wrong in (['0', '1'], ['0', '1', '5'], ['a', '0', '0']):
        with pytest.raises(UserError, match='--channels must be three numbers below 5'):
            fm.choose_channels(maps, wrong)


def test_colours_are_stretched_over_all_images_together():
    maps = np.linspace(0, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    shown = fm.as_colours(maps)
    assert shown[0].max() < shown[1].min() + 2
    assert (shown.min(), shown.max()) == (0, 255)
