"""Projects images into W or W+: finds the styles that make a generator draw them.

    python -m jaxgen.apps.projection --workdir=runs/stylegan2 --target=portrait.png --out=projected
    python -m jaxgen.apps.projection --workdir=runs/cips-demo --own=4 --distance=pyramid --out=own

After StyleGAN2 (1912.04958, appendix D): Adam on one w for each image, from the mean of W; noise on
w that fades over the first three quarters of the steps; a rate that grows over 5% and falls over
the last 25%. Where the generator has noise maps they are found too, kept noise by a penalty on
their correlation and set to mean 0 and mean square 1 after each step. The distance is LPIPS of
VGG16 at 256 pixels (the extra `perceptual`), or with --distance=pyramid the mean squared difference
of pixels, summed over halved sizes down to 4: no network, and no judgement of what looks alike.
--starts=1000 begins with each image at the nearest of so many other images of the generator instead
of the mean of W: a search from the mean stays in a local minimum now and then.

--target is a picture or a folder of them, brought to the generator's size; --own=4 takes the first
images of the generator itself. All are projected at once, over all devices. The folder --out gets
projected.npz, comparison.png, and with --video a projection.mp4 or .gif of the optimisation.
"""

import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags
from jaxgen.apps.inversion import DISTANCES, SPACES, Projector, Settings, make_embedding
from jaxgen.apps.output import check_target, enlarge, in_row, save_arrays, save_picture, save_video
from jaxgen.errors import UserError

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_TARGET = flags.DEFINE_string('target', None, 'Picture, or folder.', flag_values=_FLAGS)
_OWN = flags.DEFINE_integer(
    'own', 0, 'So many images of the generator instead.', lower_bound=0, flag_values=_FLAGS
)
_OUT = flags.DEFINE_string('out', 'projected', 'Folder.', flag_values=_FLAGS)
_STEPS = flags.DEFINE_integer('steps', 1000, 'Of Adam.', lower_bound=1, flag_values=_FLAGS)
_STARTS = flags.DEFINE_integer(
    'starts', 0, 'Begin at the nearest of so many images.', lower_bound=0, flag_values=_FLAGS
)
_SPACE = flags.DEFINE_enum(
    'space', 'w', SPACES, 'w: one style; w+: one for each layer.', flag_values=_FLAGS
)
_DISTANCE = flags.DEFINE_enum(
    'distance', 'lpips', DISTANCES, 'What is made small.', flag_values=_FLAGS
)
_VIDEO = flags.DEFINE_enum(
    'video', '', ['', 'mp4', 'gif'], 'Film the optimisation.', flag_values=_FLAGS
)


def read_targets(path: str, frame: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Images `[B, H, W, 3]` in [-1, 1] of a picture or a folder, cut to the frame, and their names.

    Raises:
      UserError: no picture, or a damaged one.
    """
    from jaxgen.data import images

    at = pathlib.Path(path).expanduser()
    files = [at]
    if at.is_dir():
        files = sorted(file for file in at.iterdir() if file.suffix.lower() in images.SUFFIXES)
    if not files:
        raise UserError(f'--target={path!r} holds no pictures')
    found = []
    for file in files:
        try:
            picture = images.fit(images.decode(file.read_bytes()), frame[::-1])
        except (OSError, images.CorruptImage) as error:
            reason = getattr(error, 'strerror', None) or error
            raise UserError(f'--target: {str(file)!r} cannot be read: {reason}') from error
        found.append(np.asarray(picture, np.float32) / np.float32(127.5) - 1)
    return np.stack(found), [file.name for file in files]


def comparison(targets: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Targets, and what was found, in two columns of one picture."""
    from jaxgen.training.workdir import to_uint8

    columns = [
        np.concatenate([enlarge(image, 128) for image in to_uint8(x[:16])])
        for x in (targets, images)
    ]
    return in_row(columns, ['target', 'found'])


def main() -> None:
    """Projects, and writes what was found."""
    _MODEL.check()
    if (_TARGET.value is None) == (_OWN.value == 0):
        raise UserError('exactly one of --target and --own must be given')
    folder = pathlib.Path(_OUT.value)
    numbers = check_target(str(folder / 'projected.npz'), ('.npz',))
    if _VIDEO.value:
        check_target(str(folder / f'projection.{_VIDEO.value}'), (f'.{_VIDEO.value}',))
    run = _MODEL.load_styled()
    distance = make_embedding(_DISTANCE.value)
    if _OWN.value:
        targets = np.clip(run.sample(_OWN.value, **_MODEL.drawing()), -1, 1)
        names = [f'image {i} of seed {_MODEL.seed.value}' for i in range(_OWN.value)]
    else:
        targets, names = read_targets(_TARGET.value, run.frame)
    settings = Settings(steps=_STEPS.value, space=_SPACE.value, starts=_STARTS.value)
    frames = []
    follow = _follow(settings.steps, targets, frames if _VIDEO.value else None)
    found = Projector(run, distance, settings)(targets, on_step=follow)
    save_arrays(
        numbers,
        {
            'w': found.w,
            'distances': found.distances,
            'images': found.images,
            'targets': targets,
            'names': np.array(names),
            **{f'noise_{i}': x for i, x in enumerate(found.noise)},
        },
    )
    picture = check_target(str(folder / 'comparison.png'))
    save_picture(picture, comparison(targets, found.images))
    if _VIDEO.value:
        frames.append(comparison(targets, found.images))
        save_video(folder / f'projection.{_VIDEO.value}', iter(frames))
    for name, before, after in zip(names, found.distances[0], found.distances[-1], strict=True):
        print(f'{name}: distance {before:.4g} at first, {after:.4g} at the end')
    print(f'{picture}, {numbers.name}')


def _follow(steps: int, targets: np.ndarray, frames: list | None) -> Callable[..., None]:
    """A progress bar; and at most 150 frames of the way."""
    from tqdm import tqdm

    bar = tqdm(total=steps, desc='projecting', unit='step', dynamic_ncols=True, disable=None)
    every = max(1, steps // 150)

    def on_step(i: int, distances: np.ndarray | None, images: Callable[[], np.ndarray]) -> None:
        bar.update()
        if distances is not None and i % 10 == 0:
            bar.set_postfix_str(f'distance {distances.mean():.4g}')
        if frames is not None and i % every == 0:
            frames.append(comparison(targets, images()))
        if i + 1 == steps:
            bar.close()

    return on_step


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
