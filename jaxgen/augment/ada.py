"""Adaptive discriminator augmentation (2006.06676): the published pipeline of transformations.

    random numbers  →  parameters of each image  →  images          (all `[B, H, W, C]`)

Each transformation happens to an image with the probability multiplier · p, on its own. What it
draws does not depend on p, on other transformations or on other images of the batch. Images are in
[-1, 1], with 1 or 3 channels, and no result is clipped. All of it is linear in the images except
for what is added to them, so gradients of any order pass (R1).

Order, by group: flip, quarter turns, whole pixels ('blit'); scale, rotation, stretching in any
direction, parts of pixels ('geom'); brightness, contrast, inverted luma, hue, saturation ('color');
gains of four bands of frequency ('filter'); 'noise'; 'cutout'.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.augment import warp
from jaxgen.augment.wavelets import BANDS, filter_bank

GROUPS = {
    'blit': ('xflip', 'rotate90', 'xint'),
    'geom': ('scale', 'rotate', 'aniso', 'xfrac'),
    'color': ('brightness', 'contrast', 'lumaflip', 'hue', 'saturation'),
    'filter': ('imgfilter',),
    'noise': ('noise',),
    'cutout': ('cutout',),
}
FILTER_BANK = filter_bank()
# Power of natural images in the four bands, low to high (appendix B).
EXPECTED_POWER = np.array([10, 1, 1, 1]) / 13
GREY = np.full(3, 1 / math.sqrt(3))

# What each transformation draws: the distribution of its value, and the shape. Rotation is drawn
# twice, since stretching between two rotations goes in any direction.
DRAWS = {
    'xflip': (jax.random.uniform, ()),
    'rotate90': (jax.random.uniform, ()),
    'xint': (jax.random.uniform, (2,)),
    'scale': (jax.random.normal, ()),
    'rotate_before': (jax.random.uniform, ()),
    'aniso': (jax.random.normal, ()),
    'rotate_after': (jax.random.uniform, ()),
    'xfrac': (jax.random.normal, (2,)),
    'brightness': (jax.random.normal, ()),
    'contrast': (jax.random.normal, ()),
    'lumaflip': (jax.random.uniform, ()),
    'hue': (jax.random.uniform, ()),
    'saturation': (jax.random.normal, ()),
    'imgfilter': (jax.random.normal, (BANDS,)),
    'noise': (jax.random.normal, ()),
    'cutout': (jax.random.uniform, (2,)),
}


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Which transformations there are, and how strong. The published values.

    Attributes:
      xflip, rotate90, xint, scale, rotate, aniso, xfrac, brightness, contrast, lumaflip, hue,
        saturation, imgfilter, noise, cutout: multiplier of p, 0 for none.
      xint_max: largest translation by whole pixels, in sides of the image.
      scale_std, aniso_std, contrast_std, saturation_std, imgfilter_std: deviation of log2.
      rotate_max, hue_max: largest angle, in half turns.
      xfrac_std: deviation of the translation, in sides. brightness_std: deviation.
      imgfilter_bands: further multiplier of each band.
      noise_std: deviation of the noise's deviation. cutout_size: side of the square, in sides.
    """

    xflip: float = 0.0
    rotate90: float = 0.0
    xint: float = 0.0
    xint_max: float = 0.125
    scale: float = 0.0
    rotate: float = 0.0
    aniso: float = 0.0
    xfrac: float = 0.0
    scale_std: float = 0.2
    rotate_max: float = 1.0
    aniso_std: float = 0.2
    xfrac_std: float = 0.125
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1.0
    saturation_std: float = 1.0
    imgfilter: float = 0.0
    imgfilter_bands: tuple[float, ...] = (1.0,) * BANDS
    imgfilter_std: float = 1.0
    noise: float = 0.0
    noise_std: float = 0.1
    cutout: float = 0.0
    cutout_size: float = 0.5

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if np.min(value) < 0:
                raise ValueError(f'{name} must not be negative, got {value}')
        if len(self.imgfilter_bands) != BANDS:
            raise ValueError(f'imgfilter_bands needs {BANDS} numbers, got {self.imgfilter_bands}')

    def has(self, group: str) -> bool:
        """Whether any transformation of a group is on."""
        return any(getattr(self, name) for name in GROUPS[group])


def named(name: str) -> Pipeline:
    """The pipelines of the paper: a group, or the first letters of several as 'bgc'.

    Raises:
      ValueError: another name.
    """
    letters = ''.join(group[0] for group in GROUPS)
    if name in GROUPS:
        groups = [name]
    elif len(name) > 1 and letters.startswith(name):
        groups = list(GROUPS)[: len(name)]
    else:
        several = [letters[:n] for n in range(2, len(letters) + 1)]
        raise ValueError(f'the pipeline must be one of {[*GROUPS, *several]}, got {name!r}')
    return Pipeline(**{transform: 1.0 for group in groups for transform in GROUPS[group]})


class Draw(NamedTuple):
    """Random numbers of one transformation: its value, and what decides whether it happens.

    It happens where `chance`, uniform in [0, 1), is below its probability.
    """

    value: jax.Array
    chance: jax.Array


class Parameters(NamedTuple):
    """What happens to an image; None where the pipeline has nothing of the kind.

    Attributes:
      geometry: `[3, 3]`, the inverse map (`augment.warp`).
      color: `[4, 4]` on (r, g, b, 1).
      gains: `[4]`, of the bands of frequency.
      noise: `[H, W, C]`, to be added.
      cutout: `[3]`: x and y of the middle of the square, and its side, in sides of the image.
    """

    geometry: jax.Array | None = None
    color: jax.Array | None = None
    gains: jax.Array | None = None
    noise: jax.Array | None = None
    cutout: jax.Array | None = None


def augment(
    pipeline: Pipeline, keys: jax.Array, images: jax.Array, p: jax.Array | float
) -> jax.Array:
    """Images `[B, H, W, C]`, each transformed at random by its own of the `[B]` keys.

    Raises:
      ValueError: images have not 1 or 3 channels, or are too small for the filters.
    """

    def choose(key: jax.Array) -> Parameters:
        shape = images.shape[1:]
        return parameters(pipeline, draw(pipeline, key, shape), p, shape[:2])

    return apply(images, jax.vmap(choose)(keys))


def draw(pipeline: Pipeline, key: jax.Array, shape: tuple[int, int, int]) -> dict[str, Draw]:
    """All random numbers for one image of `shape` (H, W, C), by the names of `DRAWS`.

    With noise also 'noise_image', whose chance is not used.
    """
    draws = {}
    for i, (name, (sample, size)) in enumerate(DRAWS.items()):
        value, chance = jax.random.split(jax.random.fold_in(key, i))
        # One decision for both coordinates of a place, but one for each band.
        decisions = size if name == 'imgfilter' else ()
        draws[name] = Draw(sample(value, size), jax.random.uniform(chance, decisions))
    if pipeline.noise:
        image = jax.random.normal(jax.random.fold_in(key, len(DRAWS)), shape)
        draws['noise_image'] = Draw(image, jnp.zeros(()))
    return draws


def parameters(
    pipeline: Pipeline, draws: dict[str, Draw], p: jax.Array | float, size: tuple[int, int]
) -> Parameters:
    """What random numbers do to an image of `size` (height, width)."""

    def happens(name: str, multiplier: jax.Array | float) -> jax.Array:
        return draws[name].chance < multiplier * p

    noise = cutout = None
    if pipeline.noise:
        deviation = jnp.abs(draws['noise'].value) * pipeline.noise_std
        deviation = jnp.where(happens('noise', pipeline.noise), deviation, 0.0)
        noise = deviation * draws['noise_image'].value
    if pipeline.cutout:
        side = jnp.where(happens('cutout', pipeline.cutout), pipeline.cutout_size, 0.0)
        cutout = jnp.append(draws['cutout'].value, side)
    return Parameters(
        _geometry(pipeline, draws, p, *size) if _moves(pipeline) else None,
        _color(pipeline, draws, p) if pipeline.has('color') else None,
        _gains(pipeline, draws, p) if pipeline.imgfilter else None,
        noise,
        cutout,
    )


def apply(
    images: jax.Array, parameters: Parameters, margin: warp.Margin | None = None
) -> jax.Array:
    """Transformed images; every leaf of `parameters` has a leading axis `[B]`.

    `margin`: of the geometry, see `warp.resample`.
    """
    if parameters.geometry is not None:
        images = warp.resample(images, parameters.geometry, margin)
    if parameters.color is not None:
        images = recolor(images, parameters.color)
    if parameters.gains is not None:
        images = filter_bands(images, parameters.gains)
    if parameters.noise is not None:
        images = images + parameters.noise
    if parameters.cutout is not None:
        images = cut_out(images, parameters.cutout)
    return images


def recolor(images: jax.Array, matrix: jax.Array) -> jax.Array:
    """Colours through `[B, 4, 4]`. One channel counts as three equal ones, whose mean is kept."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f'colours are those of 1 or 3 channels, got {channels}')
    if channels == 1:
        row = matrix[:, :3].mean(axis=1)
        gain, shift = row[:, :3].sum(axis=1), row[:, 3]
        return images * gain[:, None, None, None] + shift[:, None, None, None]
    # Written out, not as a matmul: a TPU would round it to bfloat16.
    columns = matrix[:, None, None, :3, :]
    mixed = (images[..., i : i + 1] * columns[..., i] for i in range(3))
    return sum(mixed, columns[..., 3])


def filter_bands(images: jax.Array, gains: jax.Array) -> jax.Array:
    """Images whose bands of frequency are multiplied by `[B, 4]`; reflected at the borders."""
    taps = jnp.matmul(gains, FILTER_BANK.astype(gains.dtype), precision=jax.lax.Precision.HIGHEST)
    around = FILTER_BANK.shape[1] // 2
    if min(images.shape[1:3]) <= around:
        raise ValueError(
            f'imgfilter needs {around + 1} pixels a side or more, got {images.shape[1:3]}'
        )
    # As matrices: filters differ by image, and a sum of slices is long to compile.
    for axis, subscripts in ((1, 'bij,bjwc->biwc'), (2, 'bij,bhjc->bhic')):
        length = images.shape[axis]
        padding = [(around, around) if i == axis else (0, 0) for i in range(4)]
        images = jnp.pad(images, padding, mode='reflect')
        tap = np.arange(images.shape[axis])[None, :] - np.arange(length)[:, None]
        inside = (tap >= 0) & (tap <= 2 * around)
        matrices = jnp.where(inside[None], taps[:, np.clip(tap, 0, 2 * around)], 0)
        images = jnp.einsum(subscripts, matrices, images, precision=jax.lax.Precision.HIGHEST)
    return images


def cut_out(images: jax.Array, squares: jax.Array) -> jax.Array:
    """Images with zero inside the squares `[B, 3]` of `Parameters.cutout`."""
    height, width = images.shape[1:3]
    x, y, side = jnp.moveaxis(squares, 1, 0)[:, :, None]
    across = jnp.abs((np.arange(width) + 0.5)[None] / width - x) >= side / 2
    along = jnp.abs((np.arange(height) + 0.5)[None] / height - y) >= side / 2
    return images * (along[:, :, None, None] | across[:, None, :, None])


def _moves(pipeline: Pipeline) -> bool:
    return pipeline.has('blit') or pipeline.has('geom')


def _geometry(
    pipeline: Pipeline, draws: dict[str, Draw], p: jax.Array | float, height: int, width: int
) -> jax.Array:
    """The product of the inverses, first transformation first."""
    sides = np.array([width, height])

    def choose(name: str, multiplier: jax.Array | float, value: jax.Array, neutral: float):
        return jnp.where(draws[name].chance < multiplier * p, value, neutral)

    def symmetric(name: str) -> jax.Array:
        return 2 * draws[name].value - 1

    def angle(name: str) -> jax.Array:
        # Either of two happens with rotate·p if each does with this.
        each = 1 - jnp.sqrt(jnp.clip(1 - pipeline.rotate * p, 0, 1))
        turn = symmetric(name) * np.pi * pipeline.rotate_max
        return jnp.where(draws[name].chance < each, turn, 0.0)

    inverses = []
    if pipeline.xflip:
        flip = choose('xflip', pipeline.xflip, jnp.floor(2 * draws['xflip'].value), 0.0)
        inverses.append(warp.scaling(1 - 2 * flip, 1.0))
    if pipeline.rotate90:
        turns = choose('rotate90', pipeline.rotate90, jnp.floor(4 * draws['rotate90'].value), 0.0)
        inverses.append(warp.rotation(np.pi / 2 * turns))
    if pipeline.xint:
        shift = choose('xint', pipeline.xint, symmetric('xint') * pipeline.xint_max, 0.0)
        inverses.append(warp.translation(*-jnp.round(shift * sides)))
    if pipeline.scale:
        size = jnp.exp2(draws['scale'].value * pipeline.scale_std)
        size = choose('scale', pipeline.scale, size, 1.0)
        inverses.append(warp.scaling(1 / size, 1 / size))
    if pipeline.rotate:
        inverses.append(warp.rotation(angle('rotate_before')))
    if pipeline.aniso:
        stretch = jnp.exp2(draws['aniso'].value * pipeline.aniso_std)
        stretch = choose('aniso', pipeline.aniso, stretch, 1.0)
        inverses.append(warp.scaling(1 / stretch, stretch))
    if pipeline.rotate:
        inverses.append(warp.rotation(angle('rotate_after')))
    if pipeline.xfrac:
        shift = choose('xfrac', pipeline.xfrac, draws['xfrac'].value * pipeline.xfrac_std, 0.0)
        inverses.append(warp.translation(*-(shift * sides)))
    return _product(inverses)


def _color(pipeline: Pipeline, draws: dict[str, Draw], p: jax.Array | float) -> jax.Array:
    """The product of the maps `[4, 4]`, last transformation first."""

    def choose(name: str, value: jax.Array, neutral: float) -> jax.Array:
        happens = draws[name].chance < getattr(pipeline, name) * p
        return jnp.where(happens, value, neutral)

    on_grey = np.outer(GREY, GREY)
    maps = []
    if pipeline.brightness:
        shift = choose('brightness', draws['brightness'].value * pipeline.brightness_std, 0.0)
        maps.append(_linear(jnp.eye(3), shift))
    if pipeline.contrast:
        gain = jnp.exp2(draws['contrast'].value * pipeline.contrast_std)
        maps.append(_linear(choose('contrast', gain, 1.0) * np.eye(3)))
    if pipeline.lumaflip:
        flip = choose('lumaflip', jnp.floor(2 * draws['lumaflip'].value), 0.0)
        maps.append(_linear(np.eye(3) - 2 * flip * on_grey))
    if pipeline.hue:
        turn = choose('hue', (2 * draws['hue'].value - 1) * np.pi * pipeline.hue_max, 0.0)
        cos, sin = jnp.cos(turn), jnp.sin(turn)
        cross = np.cross(np.eye(3), GREY)
        maps.append(_linear(cos * np.eye(3) + sin * cross + (1 - cos) * on_grey))
    if pipeline.saturation:
        gain = jnp.exp2(draws['saturation'].value * pipeline.saturation_std)
        gain = choose('saturation', gain, 1.0)
        maps.append(_linear(on_grey + gain * (np.eye(3) - on_grey)))
    return _product(maps[::-1])


def _gains(pipeline: Pipeline, draws: dict[str, Draw], p: jax.Array | float) -> jax.Array:
    """`[4]`: one factor after the other, each with the expected power of the image kept."""
    probability = pipeline.imgfilter * np.array(pipeline.imgfilter_bands) * p
    factors = jnp.exp2(draws['imgfilter'].value * pipeline.imgfilter_std)
    factors = jnp.where(draws['imgfilter'].chance < probability, factors, 1.0)
    # Row i is the factor of band i alone.
    rows = jnp.where(np.eye(BANDS, dtype=bool), factors[:, None], 1.0)
    power = jnp.sum(EXPECTED_POWER[None] * jnp.square(rows), axis=1, keepdims=True)
    return jnp.prod(rows / jnp.sqrt(power), axis=0)


def _linear(matrix: jax.Array, shift: jax.Array | float = 0.0) -> jax.Array:
    """`[4, 4]`: three colours through `[3, 3]`, then the same shift for all."""
    column = jnp.broadcast_to(jnp.asarray(shift, matrix.dtype), (3, 1))
    top = jnp.concatenate([matrix, column], axis=1)
    return jnp.concatenate([top, np.array([[0, 0, 0, 1]], matrix.dtype)])


def _product(matrices: list[jax.Array]) -> jax.Array:
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return functools.reduce(multiply, matrices)
