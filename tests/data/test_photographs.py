"""The crops of the embedded photographs: where they come from, and that the splits are apart."""

import importlib.metadata

import numpy as np
import pytest
from scipy import ndimage

from jaxgen.data import photographs, sources
from jaxgen.data.photographs import CROP, PHOTOGRAPHS, crop_corners, held_out, read_photograph
from jaxgen.errors import UserError

NAMES = list(PHOTOGRAPHS)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(photographs, '_COUNTS', {'train': 60, 'test': 30})


def _pixels_of(size, corners):
    covered = np.zeros(size, bool)
    for y, x in corners:
        covered[y : y + CROP, x : x + CROP] = True
    return covered


def _corners(name, split, count=None):
    """Of the split's crops, all of them or the first `count`; and the photograph."""
    photograph = read_photograph(name)
    test = held_out(photograph.shape[:2], PHOTOGRAPHS[name])
    wanted = photographs._COUNTS[split] if count is None else count
    return crop_corners(test == (split == 'test'), wanted), photograph


def _crops_of(name, split, count):
    corners, photograph = _corners(name, split, count)
    return [photograph[y : y + CROP, x : x + CROP] for y, x in corners]


@pytest.mark.parametrize('name', NAMES)
def test_every_photograph_is_a_file_of_the_scikit_image_wheel(name):
    shipped = {str(path) for path in importlib.metadata.files('scikit-image')}
    assert f'skimage/data/{PHOTOGRAPHS[name].file}' in shipped
    photograph = read_photograph(name)
    assert photograph.dtype == np.uint8
    assert photograph.shape[2] == 3


@pytest.mark.parametrize('name', NAMES)
def test_train_and_test_crops_share_no_pixel(name):
    size = read_photograph(name).shape[:2]
    train, test = (_pixels_of(size, _corners(name, split)[0]) for split in ('train', 'test'))
    assert not (train & test).any()
    assert test.mean() > 0.1
    assert train.mean() > 0.5


@pytest.mark.parametrize('name', NAMES)
def test_every_fifth_block_is_held_out_and_no_two_touch(name):
    test = held_out(read_photograph(name).shape[:2], PHOTOGRAPHS[name])
    assert test.mean() == pytest.approx(0.2, abs=0.02)
    touching = ndimage.label(test, structure=np.ones((3, 3)))[0]
    for rows, columns in ndimage.find_objects(touching):
        assert rows.stop - rows.start <= 52
        assert columns.stop - columns.start <= 52


@pytest.mark.parametrize('name', NAMES)
def test_crops_are_distinct_and_nearly_as_many_as_wanted(name):
    for split, count in photographs._COUNTS.items():
        corners, photograph = _corners(name, split)
        assert len(np.unique(corners, axis=0)) == len(corners)
        assert 0.9 * count <= len(corners) <= count
        assert (corners >= 0).all()
        assert (corners + CROP <= photograph.shape[:2]).all()


def test_two_preparations_are_byte_for_byte_the_same(few, tmp_path):
    first, second = (
        sources.open_source('photographs/rocket', data_dir=str(tmp_path / run)) for run in 'ab'
    )
    assert len(first) == len(second) == 60
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a['image'], b['image'])


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_prepared_set_holds_exactly_the_crops_of_its_photograph(few, tmp_path, split):
    source = sources.open_source('photographs/chelsea', split, data_dir=str(tmp_path))
    wanted = _crops_of('chelsea', split, photographs._COUNTS[split])
    assert source.num_classes == 0
    assert source.image_shape == (CROP, CROP, 3)
    assert {e['image'].tobytes() for e in source} == {crop.tobytes() for crop in wanted}


def test_the_label_of_the_set_of_all_says_which_photograph_a_crop_is_of(few, tmp_path):
    source = sources.open_source('photographs/all', data_dir=str(tmp_path))
    assert source.num_classes == len(NAMES)
    labels = [example['label'] for example in source]
    np.testing.assert_array_equal(np.bincount(labels), 60 // len(NAMES))
    crops = [{c.tobytes() for c in _crops_of(name, 'train', 10)} for name in NAMES]
    assert all(example['image'].tobytes() in crops[example['label']] for example in source)


def test_without_scikit_image_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(photographs.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install'):
        read_photograph('coffee')
