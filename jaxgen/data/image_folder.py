"""A tfds builder for encoded images: writes them as array_record shards, without TensorFlow.

Conventions. The set lies in DATA_DIR/NAME/1.0.0 and is read by
`tfds.builder_from_directory(...).as_data_source(split)`: `image` uint8 [H, W, C] and, where the set
has classes, `label` int. The order of the records is the caller's.

The base is tfds's ShardBasedBuilder, since GeneratorBasedBuilder shuffles through TensorFlow's file
system as soon as a split is larger than 1 GB.
"""

import contextlib
import functools
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds


class Record(NamedTuple):
    """One image: the PNG `member` of the zip file at `path`; `label` is None without classes."""

    path: str
    member: str
    label: int | None


class ImageFolder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes PNG bytes of one size under a name chosen at run time.

    Args:
      name: of the set, a folder below `data_dir`.
      data_dir: root of all prepared sets.
      shape: (H, W, C) of every image.
      class_names: label i is class_names[i]; empty: no labels.
      splits: name of the split -> shards -> records, in the order in which they are written.
      metadata: plain data stored beside the set, in metadata.json.
      on_record: called after each record, for a progress bar.
    """

    VERSION = tfds.core.Version('1.0.0')

    def __init__(
        self,
        *,
        name: str,
        data_dir: str,
        shape: tuple[int, int, int],
        class_names: Sequence[str],
        splits: Mapping[str, Sequence[Sequence[Record]]],
        metadata: Mapping[str, Any],
        on_record: Callable[[], Any] = lambda: None,
    ):
        self.name = name  # shadows the class's, which tfds derives from the class name
        self._shape = shape
        self._class_names = tuple(class_names)
        self._splits = splits
        self._metadata = metadata
        self._on_record = on_record
        super().__init__(data_dir=data_dir, file_format='array_record')

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            'image': tfds.features.Image(shape=self._shape, encoding_format='png')
        }
        if self._class_names:
            features['label'] = tfds.features.ClassLabel(names=self._class_names)
        return tfds.core.DatasetInfo(
            builder=self,
            description='Images prepared by jaxgen.data.prepare.',
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(self._metadata),
        )

    def _shard_iterators_per_split(self, dl_manager):
        return {
            split: [functools.partial(self._examples, shard) for shard in shards]
            for split, shards in self._splits.items()
        }

    def _examples(self, shard: Sequence[Record]) -> Iterator[tuple[int, dict[str, Any]]]:
        number = itertools.count()
        for path, records in itertools.groupby(shard, key=lambda record: record.path):
            with zipfile.ZipFile(path) as archive:
                for record in records:
                    example: dict[str, Any] = {'image': archive.read(record.member)}
                    if self._class_names:
                        example['label'] = record.label
                    yield next(number), example
                    self._on_record()

    def write(self, *, scratch: str) -> None:
        """Writes the set, which appears whole, by one rename.

        A set of this name must not exist: tfds would keep it. `scratch` is a folder in which tfds
        may look for downloads.
        """
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download there
            self.download_and_prepare(download_dir=scratch, download_config=config)


def catalogued(name: str) -> bool:
    """Whether tfds has a set of its own by this name, which would hide one of ours."""
    return name in tfds.list_builders(with_community_datasets=False)
