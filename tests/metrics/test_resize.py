"""Resizing: bit for bit Pillow's, and what tells the three conventions apart."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.metrics import resize

KINDS = {'box': 4, 'bilinear': 2, 'bicubic': 3, 'lanczos': 1}  # Pillow's numbers
SIZES = [(20, 30), (7, 41), (3, 2), (13, 17), (1, 1)]


def pictures(seed, count=2, height=13, width=17):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS)
def test_8_bit_images_come_out_as_from_pillow(kind, size):
    images = pictures(0)
    found = resize.resize_8bit(images, size, kind)
    for image, ours in zip(images, found, strict=True):
        # In two steps: in one, the order of the passes depends on Pillow's version.
        wide = Image.fromarray(image).resize((size[1], len(image)), KINDS[kind])
        np.testing.assert_array_equal(ours, wide.resize(size[::-1], KINDS[kind]))


@pytest.mark.parametrize('kind', KINDS)
def test_one_step_of_pillow_is_the_same_where_both_sides_change_alike(kind):
    image = pictures(1, 1, 24, 24)
    for side in (9, 60):
        theirs = Image.fromarray(image[0]).resize((side, side), KINDS[kind])
        np.testing.assert_array_equal(resize.resize_8bit(image, (side, side), kind)[0], theirs)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS)
def test_float_planes_come_out_as_from_pillow(kind, size):
    plane = np.random.default_rng(1).uniform(0, 255, (13, 17)).astype(np.float32)
    found = resize.resize(jnp.asarray(plane[None, :, :, None]), size, kind)[0, :, :, 0]
    theirs = np.asarray(Image.fromarray(plane).resize(size[::-1], KINDS[kind]))
    np.testing.assert_allclose(found, theirs, atol=2e-4)


def test_every_matrix_keeps_a_flat_image():
    matrices = [resize.filter_matrix(19, n, kind) for kind in KINDS for n in (1, 7, 19, 50)]
    matrices += [resize.bilinear_matrix(19, n, half_pixel=half) for half in (0, 1) for n in (7, 50)]
    for matrix in matrices:
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)


def test_299_pixels_stay_as_they_are_in_every_convention():
    image = pictures(2, 1, 299, 299)
    for convention in resize.CONVENTIONS:
        np.testing.assert_allclose(resize.to_299(image, convention), image, atol=1e-3)


def test_only_half_pixels_and_clean_keep_the_centre_of_a_symmetric_image():
    image = pictures(3, 1, 24, 24)
    image = np.concatenate([image, image[:, :, ::-1]], axis=2)
    for convention in resize.CONVENTIONS:
        found = np.asarray(resize.to_299(image, convention))
        difference = np.abs(found - found[:, :, ::-1]).max()
        assert difference > 50 if convention == 'tf1' else difference < 1e-2


def test_only_clean_keeps_a_fine_pattern_from_aliasing():
    stripes = np.zeros((1, 600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    spread = {c: np.asarray(resize.to_299(stripes, c)).std() for c in resize.CONVENTIONS}
    assert spread['clean'] < 10
    assert min(spread['tf1'], spread['halfpixel']) > 30


def test_the_networks_input_has_its_range():
    for convention, low, high in (('tf1', -1, 127 / 128), ('halfpixel', -1, 1)):
        for value, expected in ((0, low), (255, high)):
            image = np.full((1, 4, 4, 3), value, np.uint8)
            found = resize.inception_input(image, convention)
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_none_is_refused():
    with pytest.raises(ValueError, match=r"kind must be one of .*'lanczos'.*got 'cubic'"):
        resize.filter_matrix(4, 4, 'cubic')
    with pytest.raises(ValueError, match=r"convention must be one of .*'clean'.*got 'tf2'"):
        resize.to_299(pictures(0), 'tf2')
    with pytest.raises(ValueError, match='uint8'):
        resize.resize_8bit(np.zeros((1, 4, 4, 3)), (2, 2))
