"""Can generated images be told from real ones by projecting them? The attribution of StyleGAN2.

    python -m jaxgen.apps.detection --workdir=runs/cips-demo --num=64 --out=detection.png

After StyleGAN2 (1912.04958, section 5): images that the generator made come back from W nearly as
they were, photographs do not. So many images of the generator and so many held-out ones are
projected, all in batches over the devices; plotted are both distributions of the distance at the
end, and said is the AUC: the probability that a real image is further away than a generated one.
The plot is --out, the numbers lie beside it as .npz. --reference is a folder or a data set instead
of the run's own held-out images. --starts=1000, for both kinds alike, spares the generated ones the
local minima near the mean of W (experiments/detection).
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags
from jaxgen.apps.inversion import DISTANCES, SPACES, Projector, Settings, make_embedding
from jaxgen.apps.output import check_target, replacing, save_arrays

if TYPE_CHECKING:
    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_NUM = flags.DEFINE_integer('num', 64, 'Images of each kind.', lower_bound=2, flag_values=_FLAGS)
_BATCH = flags.DEFINE_integer(
    'batch', 16, 'Projected at a time.', lower_bound=1, flag_values=_FLAGS
)
_STEPS = flags.DEFINE_integer('steps', 1000, 'Of Adam.', lower_bound=1, flag_values=_FLAGS)
_STARTS = flags.DEFINE_integer('starts', 0, 'See projection.', lower_bound=0, flag_values=_FLAGS)
_SPACE = flags.DEFINE_enum('space', 'w', SPACES, 'See projection.', flag_values=_FLAGS)
_DISTANCE = flags.DEFINE_enum('distance', 'lpips', DISTANCES, 'See it.', flag_values=_FLAGS)
_REFERENCE = flags.DEFINE_string('reference', None, 'Folder or data set.', flag_values=_FLAGS)
_OUT = flags.DEFINE_string('out', 'detection.png', 'The plot.', flag_values=_FLAGS)


def auc(generated: np.ndarray, real: np.ndarray) -> float:
    """The probability that a distance of `real [M]` is above one of `generated [N]`; ties half."""
    below = np.sum(generated[:, None] < real[None]) + 0.5 * np.sum(generated[:, None] == real[None])
    return float(below / (len(generated) * len(real)))


def detect(
    run: 'Run',
    real: np.ndarray,
    distance: tuple,
    settings: Settings,
    *,
    batch: int = 16,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Distances at the end of images of the generator and of as many real ones `[N, H, W, C]`.

    Returns:
      `generated` and `real` `[N]`, `auc []`, and for both kinds the distance at the start:
      `generated_start`, `real_start`.
    """
    # As a file would hold them: the generator overshoots, and real images are bytes.
    own = np.rint(np.clip(run.sample(len(real), seed), -1, 1) * 127.5 + 127.5) / 127.5 - 1
    found: dict[str, Any] = {}
    project = Projector(run, distance, settings)
    for name, images in (('generated', own.astype(np.float32)), ('real', real)):
        ends = []
        for start in range(0, len(images), batch):
            rows = images[start : start + batch]
            # One shape, compiled once; what fills the last batch up is dropped.
            filled = np.concatenate([rows, np.repeat(rows[-1:], batch - len(rows), axis=0)])
            ends.append(project(filled).distances[[0, -1], : len(rows)])
            print(f'{name}: {start + len(rows)} of {len(images)}', flush=True)
        found[f'{name}_start'], found[name] = np.concatenate(ends, axis=1)
    return found | {'auc': np.array(auc(found['generated'], found['real']))}


def main() -> None:
    """Projects both kinds, writes plot and numbers."""
    _MODEL.check()
    target = check_target(_OUT.value)
    numbers = check_target(str(target.with_suffix('.npz')), ('.npz',))
    from jaxgen.apps import plots

    plots.check()
    run = _MODEL.load_styled()
    distance = make_embedding(_DISTANCE.value)
    from jaxgen.data.pipeline import real_images
    from jaxgen.evaluation.runs import Options, open_held_out

    source = open_held_out(run, Options(reference=_REFERENCE.value))
    real = real_images(source, _NUM.value)
    settings = Settings(steps=_STEPS.value, space=_SPACE.value, starts=_STARTS.value)
    result = detect(
        run, real, distance, settings, batch=min(_BATCH.value, _NUM.value), seed=_MODEL.seed.value
    )
    save_arrays(numbers, result)
    with replacing(target) as path:
        plots.detection(result, _DISTANCE.value).savefig(path)
    print(f'{target}, {numbers.name}: AUC {float(result["auc"]):.4f}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
