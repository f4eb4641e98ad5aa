"""What a generator sees inside: feature maps of chosen layers while the image moves.

    python -m jaxgen.apps.feature_maps --workdir=runs/stylegan3-demo --motion=rotation
    python -m jaxgen.apps.feature_maps --workdir=runs/stylegan2-demo --layers=block_8,block_16

After 'Alias-Free GANs' (2106.12423), section 4: three channels of a layer as red, green and blue.
In StyleGAN3 the layers carry the place of things in the phase of smooth maps, which move with the
image; in StyleGAN2 in the size of signals that stay at the pixels. The three channels are those
that vary most, or --channels; colours are stretched over all images of the motion together.
StyleGAN3 is shown without the margin of its canvas.

Motions as in jaxgen.apps.transform: translation and rotation need StyleGAN3, walk does not. The
result is a video, or a picture with a row for each layer.
"""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, define_image
from jaxgen.apps.motion import MOTIONS, OF_INPUT, can_move, path_of
from jaxgen.apps.output import (
    PICTURES,
    VIDEOS,
    check_target,
    enlarge,
    in_row,
    joined,
    save_picture,
    save_video,
    stacked,
)
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from flax import linen as nn

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGE = define_image(_FLAGS)
_LAYERS = flags.DEFINE_list(
    'layers', None, 'Names; a wrong one lists all. Default: four of them.', flag_values=_FLAGS
)
_CHANNELS = flags.DEFINE_list(
    'channels', None, 'Three numbers for red, green, blue.', flag_values=_FLAGS
)
_MOTION = flags.DEFINE_enum(
    'motion', None, list(MOTIONS), 'Default: translation, or walk.', flag_values=_FLAGS
)
_FRAMES = flags.DEFINE_integer(
    'frames', None, 'Default: 7 in a picture, 60 in a video.', lower_bound=2, upper_bound=10_000,
    flag_values=_FLAGS,
)  # fmt: skip
_FPS = flags.DEFINE_integer(
    'fps', 25, 'Of a video.', lower_bound=1, upper_bound=100, flag_values=_FLAGS
)
_OUT = flags.DEFINE_string(
    'out', 'feature_maps.gif', '.mp4, .gif, or a picture.', flag_values=_FLAGS
)

SIDE = 192  # least side of a map


def layer_names(generator: 'nn.Module') -> list[str]:
    """All layers that can be shown, from the first to the last."""
    if hasattr(generator, 'specs'):
        return ['input', *(f'layer_{i}' for i in range(len(generator.specs()[1]) - 1))]
    return [f'block_{4 << i}' for i in range(int(np.log2(generator.size)) - 1)]


def choose_layers(generator: 'nn.Module', wanted: list[str] | None, count: int = 4) -> list[str]:
    """`wanted`, or `count` layers evenly spread; UserError for a name that is none."""
    names = layer_names(generator)
    if wanted is None:
        places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
        return [names[i] for i in places]
    for name in wanted:
        if name not in names:
            raise UserError(f'--layers must be some of {", ".join(names)}, got {name!r}')
    return wanted


def make_features(generator: 'nn.Module', names: list[str]) -> Callable[..., dict[str, Any]]:
    """`features(variables, w, options)`: image and maps `[B, H, W, C]` by layer, and 'image'."""
    import jax

    @jax.jit
    def features(variables: Any, w: jax.Array, options: dict[str, jax.Array]) -> dict[str, Any]:
        image, state = generator.apply(
            variables,
            w,
            method='synthesize',
            mutable=['intermediates'],
            capture_intermediates=lambda module, _: module.name in names,
            **options,
        )
        found = {}
        for name in names:
            y = state['intermediates'][name]['__call__'][0]
            # A block of StyleGAN2 gives its features and the image so far.
            found[name] = _within_frame(generator, name, y[0] if isinstance(y, tuple) else y)
        return found | {'image': image}

    return features


def _within_frame(generator: 'nn.Module', name: str, maps: 'Any') -> 'Any':
    """Maps `[B, H, W, C]` without the margin of StyleGAN3's canvas."""
    if not hasattr(generator, 'specs'):
        return maps
    specs = generator.specs()[1]
    rate = specs[0].in_rate if name == 'input' else specs[int(name.removeprefix('layer_'))].out_rate
    height, width = (round((side - rate) / 2) for side in maps.shape[1:3])
    return maps[:, height : maps.shape[1] - height, width : maps.shape[2] - width]


def choose_channels(maps: np.ndarray, wanted: list[str] | None = None) -> list[int]:
    """Three channels of `maps [F, H, W, C]`: those that vary most, or `wanted`."""
    count = maps.shape[-1]
    if wanted is None:
        order = np.argsort(-maps.std(axis=(0, 1, 2)), kind='stable')
        return [int(order[min(i, count - 1)]) for i in range(3)]
    if len(wanted) != 3 or not all(w.isdecimal() and int(w) < count for w in wanted):
        raise UserError(f'--channels must be three numbers below {count}, got {",".join(wanted)!r}')
    return [int(w) for w in wanted]


def as_colours(maps: np.ndarray) -> np.ndarray:
    """`[F, H, W, 3]` to uint8, each channel stretched over all images together."""
    low, high = np.percentile(maps, (1, 99), axis=(0, 1, 2))
    spread = np.maximum(high - low, 1e-12)
    return np.rint(255 * np.clip((maps - low) / spread, 0, 1)).astype(np.uint8)


def render(
    run: 'Run',
    names: list[str],
    w: np.ndarray,
    transform: np.ndarray | None = None,
    *,
    noise: Any = None,
    channels: list[str] | None = None,
) -> dict[str, np.ndarray]:
    """Pictures `[F, H, W, 3]`, uint8, by layer and at last 'image'.

    Args:
      w: `[F, num_ws, W]`; transform: `[F, 3, 3]`, for StyleGAN3.
      noise: key `[1]` of all images, for a generator with noise='random'.
      channels: see `choose_channels`.
    """
    from jaxgen.training.workdir import to_uint8

    features = make_features(run.generator, names)
    frames: list[dict[str, np.ndarray]] = []
    chosen: dict[str, list[int]] = {}
    for i in range(len(w)):
        matrix = None if transform is None else transform[i : i + 1]
        options = run.options(1, noise=noise, transform=matrix)
        maps = {k: np.asarray(v) for k, v in features(run.variables, w[i : i + 1], options).items()}
        if not chosen:
            chosen = {name: choose_channels(maps[name], channels) for name in names}
        frames.append(
            {name: maps[name][..., chosen[name]] for name in names} | {'image': maps['image']}
        )
    stack = {name: np.concatenate([f[name] for f in frames]) for name in (*names, 'image')}
    shown = {name: as_colours(np.float32(stack[name])) for name in names}
    return shown | {'image': to_uint8(stack['image'])}


def film(shown: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Frames of the video: the layers side by side, and the image."""
    least = max(SIDE, *(enlarge(pictures[0], SIDE).shape[0] for pictures in shown.values()))
    for i in range(len(shown['image'])):
        yield in_row([_fit(pictures[i], least) for pictures in shown.values()], list(shown))


def sheet(shown: dict[str, np.ndarray]) -> np.ndarray:
    """The picture: a row for each layer, and for the image."""
    least = max(SIDE // 2, *(enlarge(p[0], SIDE // 2).shape[0] for p in shown.values()))
    rows = [joined([_fit(x, least) for x in p]) for p in shown.values()]
    return stacked(rows, list(shown))


def _fit(picture: np.ndarray, side: int) -> np.ndarray:
    """`[side, side, C]`, by repeating pixels."""
    rows, columns = (np.arange(side) * n // side for n in picture.shape[:2])
    return np.ascontiguousarray(picture[rows][:, columns])


def main() -> None:
    """Draws the motion, and shows the layers."""
    _MODEL.check()
    target = check_target(_OUT.value, PICTURES + VIDEOS)
    video = target.suffix.lower() in VIDEOS
    run = _MODEL.load_styled('StyleGAN2', 'StyleGAN3')
    names = choose_layers(run.generator, _LAYERS.value)
    motion = _MOTION.value or ('translation' if can_move(run) else 'walk')
    if motion in OF_INPUT and not can_move(run):
        raise UserError(
            f'--motion={motion} needs a StyleGAN3, or another input that can be moved; '
            f'{run.source!r} is a {type(run.generator).__name__}: leave --motion=walk'
        )
    _, w = run.styles(range(_IMAGE.value, _IMAGE.value + 3), **_MODEL.drawing())
    styles, transform = path_of(motion, w, _FRAMES.value or (60 if video else 7))
    noise = _MODEL.noise(run, [_IMAGE.value])
    shown = render(run, names, styles, transform, noise=noise, channels=_CHANNELS.value)
    if video:
        save_video(target, film(shown), fps=_FPS.value)
    else:
        save_picture(target, sheet(shown))
    print(f'{motion}: {", ".join(names)} in {target}')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
