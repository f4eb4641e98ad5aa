"""How much each resolution of StyleGAN2 contributes to its images, over the course of training.

    python -m jaxgen.apps.resolution_usage --workdir=runs/stylegan2-ffhq1024 --out=usage.png

After 'Analyzing and Improving the Image Quality of StyleGAN' (1912.04958), Fig. 8: the standard
deviation of what each ToRGB layer adds to the image, over --num random w and all pixels, as a share
of the sum over the layers. A generator that uses its last resolution little is too narrow there:
that led the paper from configuration E to F. Every checkpoint of the run is measured (the config's
checkpoint_keep_period says which are kept), or that of --checkpoint alone; numbers go beside the
picture as .npz. Only the 'skip' architecture makes its image so.
"""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags
from jaxgen.apps.output import check_target, replacing, save_arrays
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax
    from flax import linen as nn

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_NUM = flags.DEFINE_integer(
    'num', 1_024, 'Images to measure.', lower_bound=1, upper_bound=10**6, flag_values=_FLAGS
)
_BATCH = flags.DEFINE_integer(
    'batch', 16, 'At a time.', lower_bound=1, upper_bound=1_024, flag_values=_FLAGS
)
_OUT = flags.DEFINE_string('out', 'resolution_usage.png', 'Picture.', flag_values=_FLAGS)


def contributions(
    generator: 'nn.Module', variables: Any, w: 'jax.Array', options: dict[str, 'jax.Array']
) -> dict[int, 'jax.Array']:
    """What the ToRGB layer of each resolution adds to the images: `[B, H, W, C]`, at full size.

    Their sum is the image. `options`: of `StyleGAN2Generator.synthesize`.
    """
    from jaxgen.ops.upfirdn2d import setup_filter, upsample2d

    _, state = generator.apply(
        variables,
        w,
        method='synthesize',
        mutable=['intermediates'],
        capture_intermediates=lambda module, _: module.name == 'to_rgb',
        **options,
    )
    found, f = {}, setup_filter(generator.resample_filter)
    for name, block in state['intermediates'].items():
        side = int(name.removeprefix('block_'))
        rgb = block['to_rgb']['__call__'][0].astype(np.float32)
        while rgb.shape[1] < generator.size:
            rgb = upsample2d(rgb, f)
        found[side] = rgb
    return dict(sorted(found.items()))


def make_sums(generator: 'nn.Module') -> Callable[..., Any]:
    """`sums(variables, w, noise, weight [B])`: by resolution, sums of values and of squares `[C]`.

    `noise`: keys `[B]`, or None where the generator wants none.
    """
    import jax

    @jax.jit
    def sums(variables: Any, w: jax.Array, noise: jax.Array | None, weight: jax.Array) -> Any:
        options = {} if noise is None else {'noise': noise}
        weight = weight[:, None, None, None]
        return {
            side: ((x * weight).sum((0, 1, 2)), (x**2 * weight).sum((0, 1, 2)))
            for side, x in contributions(generator, variables, w, options).items()
        }

    return sums


def deviations(
    run: 'Run',
    sums: Callable[..., Any],
    count: int,
    *,
    seed: int = 0,
    batch: int = 16,
    **drawing: Any,
) -> dict[int, float]:
    """By resolution: standard deviation of its contribution over `count` images and all pixels.

    Around the mean of each channel; the variance is the mean over the channels. `sums`: of
    `make_sums`; `drawing`: truncation and label of `Run.styles`.
    """
    import jax

    from jaxgen.objectives.sampling import image_keys, takes_noise_keys

    random = takes_noise_keys(run.generator)
    total: Any = None
    for start in range(0, count, batch):
        # Every batch is full, so that there is one shape to compile; what is too much counts 0.
        slots = np.arange(start, start + batch)
        _, w = run.styles(slots, seed, **drawing)
        noise = image_keys(seed, slots.astype(np.int32)) if random else None
        found = jax.device_get(sums(run.variables, w, noise, (slots < count).astype(np.float32)))
        found = jax.tree.map(np.float64, found)
        total = found if total is None else jax.tree.map(np.add, total, found)
    entries = count * run.generator.size**2
    return {
        side: float(np.sqrt(np.mean(np.maximum(square / entries - (first / entries) ** 2, 0))))
        for side, (first, square) in total.items()
    }


def usage(runs: Iterable['Run'], count: int, **settings: Any) -> dict[str, np.ndarray]:
    """Deviations of a run at several steps, one after the other.

    Returns:
      With T runs and R resolutions: `step`, `images` (seen in training; 0 for imported weights)
      `[T]`, `resolution [R]`, `deviation` and `share [T, R]`; each row of shares adds up to 1.
    """
    rows, steps, images, sums = [], [], [], None
    for run in runs:
        sums = sums or make_sums(run.generator)
        rows.append(deviations(run, sums, count, **settings))
        steps.append(run.step or 0)
        images.append(steps[-1] * (run.config.batch_size if run.config is not None else 0))
    deviation = np.array([list(row.values()) for row in rows])
    return {
        'step': np.array(steps),
        'images': np.array(images),
        'resolution': np.array(list(rows[0])),
        'deviation': deviation,
        'share': deviation / deviation.sum(axis=1, keepdims=True),
    }


def check(run: 'Run') -> None:
    """UserError for a generator whose image is not a sum over resolutions."""
    if run.generator.architecture != 'skip':
        raise UserError(
            f'{run.source!r} has architecture={run.generator.architecture!r}, this app needs '
            "'skip': only there each resolution adds to the image"
        )


def main() -> None:
    """Measures every checkpoint, writes the plot and the numbers."""
    _MODEL.check()
    target = check_target(_OUT.value)
    numbers = check_target(str(target.with_suffix('.npz')), ('.npz',))
    from jaxgen.apps import plots

    plots.check()
    chosen = _MODEL.load_styled('StyleGAN2')
    check(chosen)
    runs: Iterable[Run] = [chosen]
    if chosen.config is not None and _MODEL.checkpoint.value == 'newest':
        from jaxgen.training.restore import each_checkpoint

        runs = each_checkpoint(_MODEL.workdir.value, ema=_MODEL.ema.value)
    result = usage(runs, _NUM.value, batch=min(_BATCH.value, _NUM.value), **_MODEL.drawing())
    with replacing(target) as path:
        plots.resolution_usage(result).savefig(path)
    save_arrays(numbers, result)
    last = zip(result['resolution'], result['share'][-1], strict=True)
    shares = ', '.join(f'{side}²: {share:.0%}' for side, share in last)
    count = len(result['step'])
    of = 'one checkpoint' if count == 1 else f'{count} checkpoints, the newest'
    print(f'{target}, {numbers.name}: {of} with {shares}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
