"""What the command lines of all apps share: the model's flags, and reading them."""

import math
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run


class ModelFlags:
    """--workdir or --weights, and how to draw from them. Each app has `FlagValues` of its own, so
    that several can be imported side by side."""

    def __init__(self, values: flags.FlagValues) -> None:
        common = dict(flag_values=values)
        self.workdir = flags.DEFINE_string(
            'workdir', None, 'Folder of a run, trained or converted.', **common
        )
        self.weights = flags.DEFINE_string('weights', None, 'File of published weights.', **common)
        self.ema = flags.DEFINE_bool('ema', True, 'Averaged parameters.', **common)
        self.checkpoint = flags.DEFINE_string(
            'checkpoint', 'newest', 'newest, best, or a step.', **common
        )
        self.seed = flags.DEFINE_integer(
            'seed',
            0,
            'Image i is a function of seed and i.',
            lower_bound=0,
            upper_bound=2**31 - 1,
            **common,
        )
        self.truncation = flags.DEFINE_float(
            'truncation', 1.0, 'ψ: 1 is off, 0 is the mean image.', **common
        )
        self.label = flags.DEFINE_integer(
            'label', None, 'Class, for a model with classes; default: each in turn.', **common
        )

    def check(self) -> None:
        """UserError for flags that can't be right. At once: nothing slow is imported."""
        if (self.workdir.value is None) == (self.weights.value is None):
            raise UserError('exactly one of --workdir and --weights must be given')
        if self.weights.value is not None and self.checkpoint.value != 'newest':
            raise UserError('--checkpoint must be left out: a file of weights has none')
        if not math.isfinite(self.truncation.value):
            raise UserError(f'--truncation must be finite, got {self.truncation.value}')

    def load(self) -> 'Run':
        """The generator, restored or imported; see `jaxgen.training.restore.Run`."""
        self.check()
        from jaxgen.training.restore import from_weights, restore

        if self.weights.value is not None:
            return from_weights(self.weights.value, ema=self.ema.value)
        return restore(self.workdir.value, ema=self.ema.value, checkpoint=self.checkpoint.value)

    def load_cips(self, *, cylindrical: bool | None = None) -> 'Run':
        """`load`, for apps that need pixels one by one; UserError for any other model.

        `cylindrical`: True: it must have been trained on a ring; None: either will do.
        """
        run = self.load_styled('CIPS')
        if cylindrical and not run.generator.cylindrical:
            raise UserError(
                f'{run.source!r} was not trained on a ring (model.cylindrical is False): train '
                'with --config=configs/cips.py:panorama'
            )
        return run

    def load_styled(self, *models: str) -> 'Run':
        """`load`, for apps that need styles; UserError for a model that is none of `models`.

        `models`: names as 'StyleGAN2'; default: all that have styles.
        """
        run = self.load()
        models = models or ('CIPS', 'StyleGAN2', 'StyleGAN3')
        kind = type(run.generator).__name__
        if kind.removesuffix('Generator') not in models:
            allowed = ' or '.join(', '.join(models).rsplit(', ', 1))
            raise UserError(f'{run.source!r} is a {kind}, this app needs a {allowed} generator')
        return run

    def drawing(self) -> dict[str, object]:
        """The keyword arguments of `Run.sample` and `Run.styles`."""
        return dict(seed=self.seed.value, truncation=self.truncation.value, label=self.label.value)

    def noise(self, run: 'Run', slots: list[int]) -> 'jax.Array | None':
        """The noise keys of the images number `slots`, where the generator wants any."""
        from jaxgen.objectives.sampling import image_keys, takes_noise_keys

        if not takes_noise_keys(run.generator):
            return None
        return image_keys(self.seed.value, np.asarray(slots, np.int32))


def define_image(values: flags.FlagValues) -> flags.FlagHolder[int]:
    """--image, for apps that show one."""
    return flags.DEFINE_integer(
        'image',
        0,
        'Which image of the seed.',
        lower_bound=0,
        upper_bound=2**20,
        flag_values=values,
    )


def default_size(frame: tuple[int, int], least: int = 256) -> tuple[int, int]:
    """The frame, or its smallest multiple with `least` pixels a side."""
    factor = max(1, -(-least // min(frame)))
    return factor * frame[0], factor * frame[1]


def axes(run: 'Run', size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """x of the columns and y of the rows of the whole frame, or ring, at (height, width) = size."""
    from jaxgen.ops import coords

    around = coords.ring_axis if run.generator.cylindrical else coords.axis
    return np.asarray(around(size[1])), np.asarray(coords.axis(size[0]))
