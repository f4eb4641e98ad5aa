"""The embedded handwritten digits: their levels are exact, their splits apart."""

import importlib.metadata

import numpy as np
import pytest

from jaxgen.data import digits, sources
from jaxgen.errors import UserError
from jaxgen.objectives.likelihood import to_levels


@pytest.fixture(scope='module')
def splits(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('data'))
    return {split: sources.open_source('digits', split, data_dir=folder) for split in
            ('train', 'test')}  # fmt: skip


def test_the_digits_are_a_file_of_the_scikit_learn_wheel():
    shipped = {str(path) for path in importlib.metadata.files('scikit-learn')}
    assert 'sklearn/datasets/data/digits.csv.gz' in shipped
    levels, labels = digits.read_digits()
    assert levels.shape == (1797, 8, 8)
    assert levels.max() == digits.LEVELS - 1
    assert np.bincount(labels).min() > 170


def test_a_model_of_17_levels_sees_the_levels_of_the_file(splits):
    stored = digits.to_bytes(np.arange(digits.LEVELS))
    assert stored[0] == 0
    assert stored[-1] == 255
    image = stored / np.float32(127.5) - np.float32(1)
    np.testing.assert_array_equal(to_levels(image, digits.LEVELS), np.arange(digits.LEVELS))
    levels, _ = digits.read_digits()
    known = {image.tobytes() for image in levels}
    for source in splits.values():
        images = np.stack([example['image'][..., 0] for example in source])
        found = np.asarray(to_levels(images / np.float32(127.5) - 1, 17), np.uint8)
        assert {image.tobytes() for image in found} <= known


def test_train_and_test_are_all_digits_once_and_have_all_classes(splits):
    assert [len(splits[name]) for name in ('train', 'test')] == [1437, 360]
    images = {name: {e['image'].tobytes() for e in source} for name, source in splits.items()}
    assert not images['train'] & images['test']
    for source in splits.values():
        assert source.num_classes == digits.CLASSES
        assert source.image_shape == (8, 8, 1)
        assert set(range(10)) == {example['label'] for example in source}


def test_there_are_no_configurations_to_choose_from(tmp_path):
    with pytest.raises(UserError, match="'digits/large' must be one of digits"):
        sources.open_source('digits/large', data_dir=str(tmp_path))


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(digits.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install'):
        digits.read_digits()
