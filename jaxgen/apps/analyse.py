"""The analyses of the CIPS paper, on any run: pictures, and their numbers as .npz.

    python -m jaxgen.apps.analyse --workdir=runs/cips-demo --out=analysis

encodings   magnitude spectrum and principal components of the Fourier features against the
            coordinate embedding (CIPS only)
spectra     mean magnitude spectrum and azimuthal power spectrum of samples against real images,
            for any generator; --compare=RUN,RUN adds other runs or weights of the same size
partition   how the signs of the activations divide the picture of --image (CIPS only)
windowed    the spectra by the protocol of StyleGAN3; only if --only names it, as it takes longest

--only=spectra,windowed chooses; default: the first three, or what the generator has. Real images
are those of the run's own data set (its evaluation split), or --data=NAME, or --images=FOLDER.
"""

import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, default_size, define_image
from jaxgen.apps.output import check_target, replacing, save_arrays
from jaxgen.apps.partition import check as check_regions
from jaxgen.apps.partition import partition
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.training.restore import Run

ANALYSES = ('encodings', 'spectra', 'partition', 'windowed')
_OF_CIPS = ('encodings', 'partition')
_OF_IMAGES = ('spectra', 'windowed')

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGE = define_image(_FLAGS)
_OUT = flags.DEFINE_string('out', 'analysis', 'Folder to write to.', flag_values=_FLAGS)
_ONLY = flags.DEFINE_list(
    'only', None, f'Some of {", ".join(ANALYSES)}, with commas.', flag_values=_FLAGS
)
_NUM = flags.DEFINE_integer(
    'num',
    1_000,
    'Samples, and real images at most.',
    lower_bound=1,
    flag_values=_FLAGS,
)
_COMPARE = flags.DEFINE_list(
    'compare', [], 'Other folders of runs, or weight files, with commas.', flag_values=_FLAGS
)
_DATA = flags.DEFINE_string('data', None, 'Prepared data set of real images.', flag_values=_FLAGS)
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Where the sets are.', flag_values=_FLAGS)
_SPLIT = flags.DEFINE_string(
    'split', None, "Its split; default: the run's for evaluation, or train.", flag_values=_FLAGS
)
_IMAGES = flags.DEFINE_string('images', None, 'Folder of real images.', flag_values=_FLAGS)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'WIDTHxHEIGHT or SIDE of the partition; default: the training frame, or its smallest multiple '
    'of 256 pixels a side.',
    flag_values=_FLAGS,
)

Arrays = dict[str, np.ndarray]


def encodings(run: 'Run') -> dict[str, Arrays]:
    """Spectrum and principal components of each positional encoding that a CIPS generator has.

    Returns:
      By 'fourier' and 'embedding': `log_magnitude [H, W]` as `spectra.log_magnitude`, mean over
      the features; `frequency` and `profile [K]`; `median_frequency`; `components [H, W, ≤3]` and
      `explained [≤3]`, on the grid of the training frame.
    """
    from jaxgen.metrics import spectra

    model = run.generator.clone(dtype=None)
    both = np.asarray(model.apply(run.variables, None, method='encode'))[0]
    names = [name for name in ('fourier', 'embedding') if getattr(model, name)]
    result = {}
    for name, features in zip(names, np.split(both, len(names), axis=1), strict=True):
        maps = features.reshape(*model.frame, -1)
        sums = spectra.add_images(
            None, np.moveaxis(maps, -1, 0)[..., None], spectra.measure_spectra
        )
        profile = spectra.profile_of(sums.mean('power'))
        components = spectra.principal_components(features, min(3, features.shape[1]))
        result[name] = {
            'log_magnitude': sums.mean('log_magnitude'),
            'frequency': profile.frequency,
            'profile': profile.average,
            'median_frequency': np.asarray(spectra.median_frequency(profile)),
            'components': components.scores.reshape(*model.frame, -1),
            'explained': components.explained,
        }
    return result


def image_spectra(sets: dict[str, np.ndarray]) -> Arrays:
    """Spectra of sets of images `[N, H, W, C]` of one size, the first of which the rest meet.

    Returns:
      With S sets and K rings: `labels`, `counts`, `median_frequency`, `distance` (in decibels, to
      the first set) `[S]`; `log_magnitude`, `power [S, H, W]`; `frequency`, `whole [K]`;
      `profile`, `azimuthal_integral`, and `decibels_mean`, `decibels_deviation` of the images'
      own profiles `[S, K]`. See `jaxgen.metrics.spectra`.
    """
    from jaxgen.metrics import spectra

    sums = [spectra.add_images(None, images, spectra.measure_spectra) for images in sets.values()]
    profiles = [spectra.profile_of(s.mean('power')) for s in sums]
    return {
        'labels': np.array(list(sets)),
        'counts': np.array([s.count for s in sums]),
        'median_frequency': np.array([spectra.median_frequency(p) for p in profiles]),
        'distance': np.array([spectra.profile_distance(p, profiles[0]) for p in profiles]),
        'log_magnitude': np.stack([s.mean('log_magnitude') for s in sums]),
        'power': np.stack([s.mean('power') for s in sums]),
        'frequency': profiles[0].frequency,
        'whole': profiles[0].whole,
        'profile': np.stack([p.average for p in profiles]),
        'azimuthal_integral': np.stack([p.integral for p in profiles]),
        'decibels_mean': np.stack([s.mean('decibels') for s in sums]),
        'decibels_deviation': np.stack([s.deviation('decibels') for s in sums]),
    }


def windowed_spectra(sets: dict[str, np.ndarray]) -> Arrays:
    """Kaiser-windowed spectra of sets of images, all whitened as the first one.

    Returns:
      `labels [S]`, `mean`, `std`, `spectrum [S, 4H, 4W]`, `heatmap [S, 4H+1, 4W+1]`, `slice_0`
      and `slice_45 [S, K]` in decibels. See `jaxgen.metrics.spectra`.
    """
    from jaxgen.metrics import spectra

    first = next(iter(sets.values()))
    moments = spectra.add_images(None, first, spectra.measure_moments)
    mean, std = moments.mean('value'), moments.deviation('value')
    if std == 0:
        raise UserError('every pixel of the first set of images is the same: nothing to compare')
    measure = functools.partial(spectra.measure_windowed, mean=mean, std=std)
    means = [spectra.add_images(None, images, measure).mean('spectrum') for images in sets.values()]
    lines = [spectra.slices(spectrum) for spectrum in means]
    return {
        'labels': np.array(list(sets)),
        'mean': mean,
        'std': std,
        'spectrum': np.stack(means),
        'heatmap': np.stack([spectra.heatmap(spectrum) for spectrum in means]),
        'slice_0': np.stack([line for line, _ in lines]),
        'slice_45': np.stack([line for _, line in lines]),
    }


def _wanted() -> Sequence[str] | None:
    """--only, checked; None: all that the generator has."""
    for name in _ONLY.value or ():
        if name not in ANALYSES:
            raise UserError(f'--only must be some of {", ".join(ANALYSES)}, got {name!r}')
    return _ONLY.value


def _choose(run: 'Run', wanted: Sequence[str] | None) -> Sequence[str]:
    from jaxgen.models.cips import CIPSGenerator

    is_cips = isinstance(run.generator, CIPSGenerator)
    if wanted is None:
        regions = is_cips and run.generator.activation != 'sin'
        return [*['encodings'] * is_cips, 'spectra', *['partition'] * regions]
    for name in wanted:
        if name in _OF_CIPS and not is_cips:
            kind = type(run.generator).__name__
            raise UserError(f'{run.source!r} is a {kind}, --only={name} needs a CIPS generator')
    if 'partition' in wanted:
        check_regions(run)
    return wanted


def _sets(run: 'Run') -> dict[str, np.ndarray]:
    """Real images first, then samples of each run, by what they are called in the plots."""
    from jaxgen.evaluation.evaluators import middle_columns
    from jaxgen.training.restore import from_weights, restore
    from jaxgen.training.workdir import to_uint8

    runs = [run]
    for source in _COMPARE.value:
        load = from_weights if pathlib.Path(source).expanduser().is_file() else restore
        runs.append(load(source, ema=_MODEL.ema.value))
        if runs[-1].frame != run.frame:
            raise UserError(
                f'--compare={source!r} has images of {_by(runs[-1].frame)}, must be '
                f'{_by(run.frame)} as those of {run.source!r}'
            )
    # Data sets are opened before anything is drawn: a missing one shows at once.
    name, real = _real_images(run)
    sets = {f'real: {name}': real}
    for each in runs:
        # As they are saved: 8 bits, like the real images.
        samples = to_uint8(each.sample(_NUM.value, **_MODEL.drawing())) / np.float32(127.5) - 1
        label = pathlib.Path(each.source).name
        sets[label if label not in sets else each.source] = samples
    # A panorama's ring is wider than the photographs that it learns from.
    width = min(images.shape[2] for images in sets.values())
    return {label: middle_columns(images, width) for label, images in sets.items()}


def _real_images(run: 'Run') -> tuple[str, np.ndarray]:
    """The name of the real images, and at most --num of them `[N, H, W, C]` in [-1, 1]."""
    if _IMAGES.value is not None and _DATA.value is not None:
        raise UserError('only one of --data and --images can be given')
    if _IMAGES.value is not None:
        return _IMAGES.value, folder_images(_IMAGES.value, run.frame, _NUM.value)
    data = run.config.data if run.config is not None else None
    if _DATA.value is None and data is None:
        raise UserError(
            f'{run.source!r} names no data set: --data=NAME or --images=FOLDER must say what its '
            'samples are compared with'
        )
    from jaxgen.data.pipeline import real_images
    from jaxgen.data.sources import open_source

    name = _DATA.value or data.name
    own = data is not None and name == data.name
    split = _SPLIT.value or (data.eval_split if own else 'train')
    folder = _DATA_DIR.value or (data.dir if data is not None else None)
    source = open_source(name, split, data_dir=folder or None, size_hint=min(run.frame))
    height, width, channels = source.image_shape
    ring = getattr(run.generator, 'cylindrical', False)
    if height != run.frame[0] or (width != run.frame[1] and not ring) or channels not in (1, 3):
        raise UserError(
            f'data set {name!r} has images of {_by((height, width))} with {channels} channels, '
            f'{run.source!r} draws {_by(run.frame)}: prepare the set at that size'
        )
    return name, real_images(source, min(_NUM.value, len(source)), seed=_MODEL.seed.value)


def folder_images(folder: str, frame: tuple[int, int], count: int) -> np.ndarray:
    """The first `count` files of a folder, cut and resized to (height, width) as `prepare` does.

    Returns:
      `[N, H, W, 3]` in [-1, 1], with N = `count` or fewer.
    """
    from jaxgen.data import images

    root = pathlib.Path(folder).expanduser()
    files = sorted(path for path in root.rglob('*') if path.suffix.lower() in images.SUFFIXES)
    if not files:
        raise UserError(f'--images={folder!r} must be a folder with {", ".join(images.SUFFIXES)}')
    pictures = []
    for path in files[:count]:
        try:
            picture = images.fit(images.decode(path.read_bytes()), frame[::-1])
        except (images.CorruptImage, OSError) as error:
            raise UserError(f'--images: {path}: {error}') from error
        pictures.append(np.asarray(picture))
    return np.stack(pictures) / np.float32(127.5) - 1


def _by(size: tuple[int, int]) -> str:
    return f'{size[1]}×{size[0]}'


def _partition(run: 'Run', size: tuple[int, int] | None) -> Arrays:
    _, w = run.styles([_IMAGE.value], **_MODEL.drawing())
    return partition(run, w, size or default_size(run.frame))


def _report(name: str, result: Any) -> str:
    """One line of what the numbers say."""
    if name == 'encodings':
        return '; '.join(
            f'{kind}: half of the power below {part["median_frequency"]:.3f} cycles per pixel, '
            f'first components {100 * part["explained"].sum():.0f} % of the variance'
            for kind, part in result.items()
        )
    if name == 'spectra':
        rows = zip(result['labels'], result['counts'], result['distance'], strict=True)
        (real, count, _), *others = rows
        return f'{count} of {real}; ' + '; '.join(
            f'{n} of {label}: {distance:.2f} dB from real' for label, n, distance in others
        )
    if name == 'windowed':
        return f'{len(result["labels"])} sets, mean {result["mean"]:.3f}, std {result["std"]:.3f}'
    return f'{result["joint_regions"][-1]} regions on {_by(result["image"].shape[:2])} pixels'


def main() -> None:
    """Loads, computes, writes picture and numbers of one analysis after the other."""
    _MODEL.check()
    wanted = _wanted()
    size = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    from jaxgen.apps import plots

    plots.check()
    run = _MODEL.load()
    chosen = _choose(run, wanted)
    out = pathlib.Path(_OUT.value).expanduser()
    targets = {
        name: [check_target(out / f'{name}{suffix}', (suffix,)) for suffix in ('.png', '.npz')]
        for name in chosen
    }
    sets = _sets(run) if {*_OF_IMAGES} & {*chosen} else {}
    steps = {
        'encodings': lambda: encodings(run),
        'spectra': lambda: image_spectra(sets),
        'partition': lambda: _partition(run, size),
        'windowed': lambda: windowed_spectra(sets),
    }
    for name in chosen:
        result = steps[name]()
        picture, numbers = targets[name]
        with replacing(picture) as path:
            getattr(plots, name)(result).savefig(path)
        save_arrays(numbers, flattened(result))
        print(f'{picture}, {numbers.name}: {_report(name, result)}', flush=True)


def flattened(result: dict[str, Any]) -> Arrays:
    """{'fourier': {'profile': …}} as {'fourier_profile': …}."""
    flat = {}
    for name, value in result.items():
        if isinstance(value, dict):
            flat |= {f'{name}_{key}': array for key, array in value.items()}
        else:
            flat[name] = value
    return flat


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
