"""What the command lines of the apps for the PixelCNN family share: flags, pictures, runs."""

import math
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from PIL import Image

from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.training.restore import LikelihoodRun

_MODES = {1: 'L', 3: 'RGB'}


class LikelihoodFlags:
    """--workdir, and how to draw from it. Each app has `FlagValues` of its own."""

    def __init__(self, values: flags.FlagValues, *, label: bool = True) -> None:
        common = dict(flag_values=values)
        self.workdir = flags.DEFINE_string('workdir', None, 'Folder of a run.', **common)
        self.ema = flags.DEFINE_bool('ema', True, 'Averaged parameters.', **common)
        self.checkpoint = flags.DEFINE_string(
            'checkpoint', 'newest', 'newest, best, or a step.', **common
        )
        self.seed = flags.DEFINE_integer(
            'seed',
            0,
            'What is drawn is a function of it.',
            lower_bound=0,
            upper_bound=2**31 - 1,
            **common,
        )
        self.temperature = flags.DEFINE_float(
            'temperature', 1.0, 'Scales the noise of the draws; 0: the most probable.', **common
        )
        self.label = None
        if label:
            self.label = flags.DEFINE_integer(
                'label', None, 'Class, for a model with classes.', **common
            )

    def check(self) -> None:
        """UserError for flags that can't be right. At once: nothing slow is imported."""
        if self.workdir.value is None:
            raise UserError('--workdir is missing; --help says what it is')
        if not 0 <= self.temperature.value < math.inf:
            raise UserError(f'--temperature must be 0 or more, got {self.temperature.value}')

    def load(self) -> 'LikelihoodRun':
        """The run; UserError for a model of another kind, an auto-encoder too."""
        run = self._load()
        if hasattr(run.objective, 'encode'):
            kind = type(run.generator).__name__
            raise UserError(f'{run.source!r} is a {kind}: its images need a code to be drawn from')
        return run

    def load_autoencoder(self, workdir: str | None = None) -> 'LikelihoodRun':
        """The run of an auto-encoder, of --workdir unless another is given."""
        run = self._load(workdir)
        if not hasattr(run.objective, 'encode'):
            kind = type(run.generator).__name__
            raise UserError(
                f'{run.source!r} is a {kind}, this app needs an auto-encoder: train with '
                '--config=configs/pixelcnn.py:autoencoder'
            )
        return run

    def _load(self, workdir: str | None = None) -> 'LikelihoodRun':
        self.check()
        from jaxgen.training.restore import LikelihoodRun, restore

        run = restore(
            workdir or self.workdir.value, ema=self.ema.value, checkpoint=self.checkpoint.value
        )
        if not isinstance(run, LikelihoodRun):
            kind = type(run.generator).__name__
            raise UserError(f'{run.source!r} is a {kind}, this app needs a model with a likelihood')
        return run

    def condition(self, run: 'LikelihoodRun', count: int) -> dict[str, np.ndarray]:
        """{'label': [count]} for a model with classes; UserError for a wrong or missing one."""
        classes, label = run.objective.num_classes, self.label.value
        if label is not None and not 0 <= label < classes:
            allowed = f'from 0 to {classes - 1}' if classes else 'left out: the model has none'
            raise UserError(f'--label must be {allowed}, got {label}')
        if not classes:
            return {}
        if label is None:
            raise UserError(f'--label is missing: the model has classes 0 to {classes - 1}')
        return {'label': np.full(count, label, np.int32)}


def read_picture(path: str, flag: str = '--input') -> Image.Image:
    """A picture file, decoded; UserError for what is none."""
    try:
        with Image.open(pathlib.Path(path).expanduser()) as picture:
            picture.load()
            return picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, 'strerror', None) or 'not a picture that can be read'
        raise UserError(f'{flag}={path!r}: {reason}') from error


def pixels_of(picture: Image.Image, colours: int) -> np.ndarray:
    """uint8 `[H, W, colours]` of a picture of any mode; UserError for 2 colours."""
    if colours not in _MODES:
        raise UserError(f'pictures have 1 or 3 colours, the model has {colours}')
    array = np.asarray(picture.convert(_MODES[colours]))
    return array.reshape(*array.shape[:2], colours)


def shown(images: np.ndarray) -> np.ndarray:
    """uint8 of images around [-1, 1]."""
    from jaxgen.training.workdir import to_uint8

    return to_uint8(np.asarray(images))


def grid(rows: np.ndarray, least: int = 64) -> np.ndarray:
    """uint8 images `[R, K, H, W, C]` as one picture, a pixel apart, small ones enlarged evenly."""
    factor = max(1, -(-least // min(rows.shape[2:4])))
    rows = rows.repeat(factor, axis=2).repeat(factor, axis=3)
    rows = np.pad(rows, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)], constant_values=128)
    count, columns, height, width, colours = rows.shape
    return rows.transpose(0, 2, 1, 3, 4).reshape(count * height, columns * width, colours)


def held_out(run: 'LikelihoodRun', count: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Held-out images of the run's data set, float32 `[count, H, W, C]` in [-1, 1], and labels.

    `seed` chooses them. Labels `[count]` are None where the model has no classes.

    Raises:
      UserError: there are not as many.
    """
    from jaxgen import tasks

    source = tasks.open_data(run.config).held_out
    if count > len(source):
        raise UserError(f'{count} held-out images are wanted, {source.name!r} has {len(source)}')
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    examples = [source[int(i)] for i in chosen]
    images = np.stack([example['image'] for example in examples]) / np.float32(127.5) - 1
    if not run.objective.num_classes:
        return images, None
    return images, np.array([example['label'] for example in examples], np.int32)


def define_count(values: flags.FlagValues, name: str, default: int, help_: str) -> Any:
    """A flag for a small number of images."""
    return flags.DEFINE_integer(
        name, default, help_, lower_bound=1, upper_bound=10_000, flag_values=values
    )
