"""`photographs`: 32x32 crops of photographs that the scikit-image wheel ships; nothing is fetched.

A tfds builder that needs no TensorFlow. One config for each photograph, and `all`, whose `label`
says which photograph a crop is of. About 20,000 crops in `train`, 4,000 in `test`.

Split: a photograph is divided into blocks of about 48 x 48 pixels, and block (row, column) is held
out for `test` where row + stride * column + phase is a multiple of five: every fifth block, spread
as a knight moves (stride 2 or 3), so that no two touch. A crop lies wholly within blocks of its own
split, so no pixel is in both. Of these ten patterns each photograph has one whose held-out crops
are near its training crops by the sliced Wasserstein distance (for `hubble_deep_field` about as
near as two draws of 512 held-out crops): the bright galaxies lie in so few blocks that under an
unlucky pattern even real training crops are 4 times further from the held-out ones than that.

Crops keep the photograph's own resolution. They are distinct and a pure function of `_SEED`.
"""

import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.errors import UserError

CROP = 32
_BLOCK = 48
_SEED = 20240
_COUNTS = {'train': 20_000, 'test': 4_000}


class Photograph(NamedTuple):
    """A file in the data folder of the scikit-image wheel, and which blocks are held out."""

    file: str
    stride: int
    phase: int


# All public domain or CC0, as scikit-image documents them.
PHOTOGRAPHS = {
    'astronaut': Photograph('astronaut.png', stride=3, phase=3),
    'chelsea': Photograph('chelsea.png', stride=2, phase=1),
    'coffee': Photograph('coffee.png', stride=2, phase=0),
    'hubble_deep_field': Photograph('hubble_deep_field.jpg', stride=3, phase=0),
    'immunohistochemistry': Photograph('ihc.png', stride=3, phase=0),
    'rocket': Photograph('rocket.jpg', stride=3, phase=0),
}


class Photographs(tfds.core.GeneratorBasedBuilder):
    """Crops as `image` uint8 [32, 32, 3]; `label` (which photograph) in the config `all` only."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f'Crops of {name}.')
        for name in (*PHOTOGRAPHS, 'all')
    ]
    DEFAULT_BUILDER_CONFIG_NAME = 'hubble_deep_field'

    def _info(self) -> tfds.core.DatasetInfo:
        features = {'image': tfds.features.Image(shape=(CROP, CROP, 3), encoding_format='png')}
        if self.builder_config.name == 'all':
            features['label'] = tfds.features.ClassLabel(names=list(PHOTOGRAPHS))
        return tfds.core.DatasetInfo(
            builder=self,
            description='32x32 crops of photographs from the scikit-image wheel.',
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is fetched
        return {split: self._generate_examples(split) for split in _COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        config = self.builder_config.name
        names = list(PHOTOGRAPHS) if config == 'all' else [config]
        for name in names:
            photograph = read_photograph(name)
            test = held_out(photograph.shape[:2], PHOTOGRAPHS[name])
            corners = crop_corners(test == (split == 'test'), _COUNTS[split] // len(names))
            for i, (y, x) in enumerate(corners):
                example = {'image': _png(photograph[y : y + CROP, x : x + CROP])}
                if config == 'all':
                    example['label'] = name
                yield f'{name}_{i}', example


def read_photograph(name: str) -> np.ndarray:
    """The whole photograph, uint8 [H, W, 3].

    Raises:
      UserError: scikit-image isn't installed, or its wheel lacks the file.
    """
    spec = importlib.util.find_spec('skimage')
    path = spec and Path(spec.origin).parent / 'data' / PHOTOGRAPHS[name].file
    if not path or not path.is_file():
        raise UserError(
            f"photograph '{name}' comes with the scikit-image wheel, and it is not there: "
            "pip install 'scikit-image>=0.25'"
        )
    return np.asarray(Image.open(path).convert('RGB'))


def held_out(size: tuple[int, int], photograph: Photograph) -> np.ndarray:
    """Which pixels of a photograph of `size` (H, W) belong to `test`: bool [H, W]."""
    row, column = (np.arange(n) * round(n / _BLOCK) // n for n in size)
    return (row[:, None] + photograph.stride * column[None, :] + photograph.phase) % 5 == 0


def crop_corners(allowed: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` distinct crops within the pixels allowed, as top left corners (y, x).

    Args:
      allowed: bool [H, W].
      count: how many crops; there may be fewer places.

    Returns:
      int64 [count or fewer, 2], in a random order that `_SEED` decides.
    """
    # Summed-area table: how many allowed pixels a crop at each corner would have.
    area = np.pad(allowed.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = area[CROP:, CROP:] - area[:-CROP, CROP:] - area[CROP:, :-CROP] + area[:-CROP, :-CROP]
    corners = np.argwhere(inside == CROP * CROP)
    return np.random.default_rng(_SEED).permutation(corners)[:count]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='png', compress_level=0)
    return buffer.getvalue()
