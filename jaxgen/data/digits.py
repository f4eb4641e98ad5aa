"""`digits`: the 1,797 handwritten digits of the scikit-learn wheel, 8×8, grey; nothing is fetched.

A tfds builder that needs no TensorFlow. `label` is the digit. `test` is the last 360 images in the
order of the file, `train` the others (1,437). The file's 17 levels 0 … 16 are stored as the bytes
round(255·level/16), from which ⌊byte·17/256⌋ gives the level back, so a model of 17 levels sees
exactly what the file holds.
"""

import gzip
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.errors import UserError

SIDE, LEVELS, CLASSES = 8, 17, 10
_TEST = 360


class Digits(tfds.core.GeneratorBasedBuilder):
    """Examples with `image` uint8 [8, 8, 1] and `label`."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            'image': tfds.features.Image(shape=(SIDE, SIDE, 1), encoding_format='png'),
            'label': tfds.features.ClassLabel(num_classes=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description='8x8 handwritten digits from the scikit-learn wheel.',
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is fetched
        return {split: self._generate_examples(split) for split in ('train', 'test')}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        levels, labels = read_digits()
        first = len(labels) - _TEST
        for i in range(first, len(labels)) if split == 'test' else range(first):
            yield i, {'image': _png(to_bytes(levels[i])), 'label': int(labels[i])}


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Levels uint8 [1797, 8, 8] from 0 to 16, and digits [1797], in the order of the file.

    Raises:
      UserError: scikit-learn isn't installed, or its wheel lacks the file.
    """
    # Not imported: that takes a second, and the file alone is wanted.
    spec = importlib.util.find_spec('sklearn')
    path = spec and Path(spec.origin).parent / 'datasets' / 'data' / 'digits.csv.gz'
    if not path or not path.is_file():
        raise UserError(
            'the digits come with the scikit-learn wheel, and it is not there: '
            "pip install 'scikit-learn>=1.6'"
        )
    with gzip.open(path, 'rt') as file:
        rows = np.loadtxt(file, delimiter=',').astype(np.uint8)
    return rows[:, :-1].reshape(-1, SIDE, SIDE), rows[:, -1]


def to_bytes(levels: np.ndarray) -> np.ndarray:
    """uint8 of levels 0 … 16: black is 0 and white 255."""
    return np.rint(levels * (255 / (LEVELS - 1))).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='png', compress_level=0)
    return buffer.getvalue()
