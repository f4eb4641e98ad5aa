"""Opens a prepared tfds image set, read through `as_data_source`: array_record, no TensorFlow.

A set lies in DATA_DIR/NAME[/CONFIG]/VERSION; the newest version is taken. DATA_DIR is the argument,
else the environment variable JAXGEN_DATA_DIR, else ~/tensorflow_datasets. The `photographs` and the
`digits` prepare themselves on first use. Any other set that is not prepared is a `UserError` with
the command that prepares it. Nothing here uses the network.

Images are uint8 [H, W, C], C as the set declares it (grey stays one channel). Where the images of a
set differ in size (LSUN, ImageNet), reading crops them centrally and resizes them by PIL's Lanczos
filter.
"""

import contextlib
import hashlib
import io
import operator
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from jaxgen.errors import UserError

# tensorflow_datasets takes a second to import, so it is imported where it is needed.

# Sets whose images come with a wheel that is installed anyway.
EMBEDDED = ('digits', 'photographs')
_MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}
_VERSION = re.compile(r'\d+\.\d+\.\d+')


def open_source(
    name: str, split: str = 'train', *, data_dir: str | None = None, size_hint: int = 256
) -> 'Source':
    """Opens `split` of a prepared set.

    Args:
      name: 'photographs/hubble_deep_field', 'cifar10', 'lsun/church_outdoor', or the --name given
        to `python -m jaxgen.data.prepare`.
      split: a split of the set, or a tfds slice of it such as 'train[:90%]'.
      data_dir: the folder of all prepared sets; see above for the default.
      size_hint: the side that the reader wants. It stands in the command that an error suggests,
        and is the size of the images of a set that has no size of its own.

    Raises:
      UserError: the set is not prepared, or has no such split, or is none that can be read.
    """
    if not re.fullmatch(r'[\w.+-]+(/[\w.+-]+)*', name) or '..' in name:
        raise UserError(f"data set '{name}' must be NAME or NAME/CONFIG")
    root = _data_root(data_dir)
    if name.split('/')[0] in EMBEDDED:
        name, directory = _embedded(name, root)
    else:
        directory = _newest_version(root / name)
    if directory is None:
        raise UserError(_how_to_prepare(name, root, size_hint))
    return Source(name, split, str(directory), size_hint)


class Source(Sequence):
    """Random access to the decoded examples of one split; made by `open_source`; can be pickled.

    `source[i]` is {'image': uint8 [H, W, C]}, and 'label': int where the set has classes.

    Attributes:
      name, split: as opened.
      image_shape: (H, W, C) of every image.
      num_classes: 0 where the set has no labels.
    """

    def __init__(self, name: str, split: str, directory: str, size_hint: int):
        import tensorflow_datasets as tfds

        self.name, self.split = name, split
        self._arguments = (name, split, directory, size_hint)
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        self._image_key = _image_key(name, features)
        height, width, channels = features[self._image_key].shape
        self._resize = height is None or width is None
        self.image_shape = (height, width, channels or 3)
        if self._resize:
            self.image_shape = (size_hint, size_hint, channels or 3)
        labelled = 'label' in features and isinstance(features['label'], tfds.features.ClassLabel)
        self.num_classes = features['label'].num_classes if labelled else 0
        self._records = _records(name, split, builder, self._image_key)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples of '{self.name}'")
        return self._example(self._records[index])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several examples at once, which costs half of what one after the other does."""
        return [self._example(record) for record in self._records.__getitems__(list(indices))]

    def __reduce__(self):
        return Source, self._arguments

    def labels(self) -> list[int]:
        """The label of every example, in order, of a set with classes; decodes no image."""
        return [int(self._records[i]['label']) for i in range(len(self))]

    def fingerprint_parts(self) -> Iterator[bytes]:
        """What identifies the examples: the hashes of the set's files, and the split."""
        for path in sorted(Path(self._arguments[2]).glob('*.array_record*')):
            with path.open('rb') as file:
                yield hashlib.file_digest(file, 'sha256').digest()
        yield self.split.encode()

    def _example(self, record: dict[str, Any]) -> dict[str, Any]:
        example = {'image': self._decode(record[self._image_key])}
        if self.num_classes:
            example['label'] = int(record['label'])
        return example

    def _decode(self, encoded: bytes) -> np.ndarray:
        height, width, channels = self.image_shape
        image = Image.open(io.BytesIO(encoded))
        if image.mode != _MODES[channels]:
            image = image.convert(_MODES[channels])
        if self._resize:
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(self.image_shape)


def _data_root(data_dir: str | None) -> Path:
    root = data_dir or os.environ.get('JAXGEN_DATA_DIR') or '~/tensorflow_datasets'
    return Path(root).expanduser().absolute()


def _image_key(name: str, features) -> str:
    import tensorflow_datasets as tfds

    images = [key for key, f in features.items() if isinstance(f, tfds.features.Image)]
    key = 'image' if 'image' in images else images[0] if images else None
    if key is None:
        raise UserError(f"data set '{name}' has no images, it has {', '.join(features)}")
    shape, dtype = features[key].shape, features[key].np_dtype
    if dtype != np.uint8 or len(shape) != 3 or (shape[2] or 3) not in _MODES:
        raise UserError(
            f"data set '{name}' has {dtype} images of shape {shape}: allowed is uint8 [H, W, C] "
            'with 1, 3 or 4 channels'
        )
    return key


def _records(name: str, split: str, builder, image_key: str) -> Sequence[dict[str, Any]]:
    import tensorflow_datasets as tfds

    try:
        # Decoded in `Source`: tfds would choose between OpenCV and PIL by what is installed.
        skip = {image_key: tfds.decode.SkipDecoding()}
        return builder.as_data_source(split, decoders=skip)
    except NotImplementedError:
        file_format = builder.info.file_format.value
        raise UserError(
            f"data set '{name}' in {builder.data_dir} is in the format {file_format}, which has no "
            'random access: prepare it with --file_format=array_record'
        ) from None
    except ValueError:  # tfds: an unknown split, or a slice that it can't read
        splits = ', '.join(builder.info.splits)
        raise UserError(
            f"split '{split}' of data set '{name}' must be one of {splits}, or a slice of one, "
            "such as 'train[:90%]'"
        ) from None


def _newest_version(folder: Path) -> Path | None:
    prepared = [p.parent for p in folder.glob('*/dataset_info.json')]
    versions = [p for p in prepared if _VERSION.fullmatch(p.name)]
    return max(versions, key=lambda p: [int(n) for n in p.name.split('.')], default=None)


def _how_to_prepare(name: str, root: Path, size: int) -> str:
    """The message for a set that isn't there: the names allowed, or the command to run."""
    import tensorflow_datasets as tfds

    family, _, config = name.partition('/')
    missing = f"data set '{name}' is not prepared in {root}"
    folder = shlex.quote(str(root))
    if family in tfds.list_builders(with_community_datasets=False):
        # Without a configuration tfds would build them all.
        names = [f'{family}/{c}' for c in _tfds_configs(family)] or [family]
        if name not in names:
            return f"data set '{name}' must be one of {', '.join(names)}"
        command = f'tfds build {name} --file_format=array_record --data_dir={folder}'
        return f'{missing}: {command} (that tool of tensorflow-datasets needs tensorflow installed)'
    if config:
        return f"{missing}, and there is no recipe for it: tfds has no set '{family}'"
    command = f'python -m jaxgen.data.prepare --source=FOLDER --name={name} --size={size}'
    if root != _data_root(None):
        command += f' --data_dir={folder}'
    return f'{missing}: {command}'


def _tfds_configs(family: str) -> list[str]:
    import tensorflow_datasets as tfds

    try:
        return list(tfds.builder_cls(family).builder_configs)
    except ImportError:  # a few builders, none of images, need a package that isn't there
        return []


def _builder(family: str) -> Any:
    """The tfds builder of one of the embedded sets."""
    if family == 'digits':
        from jaxgen.data.digits import Digits

        return Digits
    from jaxgen.data.photographs import Photographs

    return Photographs


def _embedded(name: str, root: Path) -> tuple[str, Path]:
    """Full name and folder of one of the embedded sets, which is prepared if need be."""
    family, _, config = name.partition('/')
    builder = _builder(family)
    config = config or builder.DEFAULT_BUILDER_CONFIG_NAME
    name = f'{family}/{config}' if config else family
    if config and config not in builder.builder_configs:
        known = ', '.join(f'{family}/{c}' for c in builder.builder_configs) or family
        raise UserError(f"data set '{name}' must be one of {known}")
    directory = root / name / str(builder.VERSION)
    if not directory.exists():
        print(f'preparing {name} in {directory}', file=sys.stderr, flush=True)
        _prepare(builder, config, name, root, directory)
    return name, directory


def _prepare(builder: Any, config: str | None, name: str, root: Path, directory: Path) -> None:
    """Makes `directory` appear whole, by one rename, whoever else is at it."""
    import tensorflow_datasets as tfds

    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # A folder of our own: the temporary names of tfds come from `random`, which a caller may
        # have seeded alike in two processes.
        scratch = tempfile.mkdtemp(prefix='.preparing-', dir=root)
    except OSError as error:
        raise UserError(
            f"data folder '{root}' must be writable to prepare {name} "
            f'({error.strerror}): set JAXGEN_DATA_DIR to another one'
        ) from None
    try:
        made = builder(data_dir=scratch, config=config, file_format='array_record')
        offline = tfds.download.DownloadConfig(try_download_gcs=False)
        # tfds announces a download, and its bars are longer-lived than the work.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            made.download_and_prepare(download_config=offline)
        try:
            os.rename(made.data_dir, directory)
        except OSError:  # another process was first: a folder that isn't empty is never replaced
            if not directory.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
