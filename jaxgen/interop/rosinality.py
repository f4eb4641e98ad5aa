"""StyleGAN2 in the layout of rosinality/stylegan2-pytorch, whose .pt files many forks share.

The names are translated to the official ones, which `jaxgen.interop.stylegan2` reads. What the two
implementations do differently, and why the images are the same:

- Modulated kernels carry a factor 1/√fan_in there and none in the official code. Demodulation
  divides it out again, but for its ε: 1e-8 there counts as 1e-8·fan_in here, beside a sum of about
  fan_in squared weights. That is a relative 5e-9, below the rounding of float32, so the stored
  numbers are taken as they are, which keeps their learning rates too. ToRGB, without
  demodulation, has the factor in the official code as well, in its style.
- Both upsample by a transposed convolution with the stored kernel and blur afterwards. The blur is
  symmetric, its gain 4 is in the stored taps, and its padding comes out the same.
- Noise has one strength a layer, shaped [1]; the fixed maps `noises` are those of noise='const'.
- Nothing is clamped.
- The mean of w is no buffer: converted files have it beside the networks as `latent_avg`. Where
  there is none, it is the mean over `AVERAGED` fixed z, as that code takes it before it truncates.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import UserError
from jaxgen.interop import stylegan2
from jaxgen.interop.state_dicts import compare, floats
from jaxgen.models.discriminator import Discriminator
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.nn.mapping import MappingNetwork

PyTree = Any

PUBLISHED = "rosinality's StyleGAN2"
AVERAGED = 10_000
MOST_BLOCKS = 11  # up to 8192²
STDDEV_GROUP = 4
UP_GAIN = 4  # in the stored taps of filters that upsample

# (name there, official name, how many leading axes of size 1 the array has there, its gain)
_Row = tuple[str, str, int, float]


def from_torch(
    state_dict: Mapping[str, np.ndarray],
    latent_avg: np.ndarray | None = None,
    *,
    noise: str | None = None,
) -> tuple[StyleGAN2Generator, PyTree]:
    """The generator of a state dict, and its variables {'params', 'stats'} in float32.

    Args:
      state_dict: name to array, of any float dtype.
      latent_avg: mean of w `[style]`; None: it is computed.
      noise: 'const' (the fixed maps of the file), 'random' (as that code draws images) or 'none';
        None: 'const', as for the official files.

    Raises:
      UserError: as `stylegan2.from_torch`.
    """
    arrays = floats('the generator', state_dict)
    blocks = _count(arrays, r'to_rgbs\.(\d{1,4})\.bias', MOST_BLOCKS)
    layers = _count(arrays, r'style\.(\d{1,4})\.weight', stylegan2.MOST_LAYERS + 1) - 1
    official = _translated('generator', arrays, _generator_rows(blocks, layers))
    style, latent = _shape(arrays, 'style.1.weight', 2)
    sides = [4 << i for i in range(blocks + 1)]
    widths = [_shape(official, f'synthesis.b{side}.conv1.weight', 4)[0] for side in sides]
    mean = np.zeros(style, np.float32) if latent_avg is None else _vector(latent_avg, style)
    kwargs = dict(
        z_dim=latent,
        c_dim=0,
        w_dim=style,
        img_resolution=sides[-1],
        img_channels=_shape(official, 'synthesis.b4.torgb.weight', 4)[0],
        mapping_kwargs={'num_layers': layers},
        channel_base=max(side * width for side, width in zip(sides, widths, strict=True)),
        channel_max=max(widths),
        conv_clamp=None,
    )
    official['mapping.w_avg'] = mean
    generator, variables = stylegan2.from_torch(official, kwargs, noise=noise)
    if latent_avg is None:
        variables['stats']['mapping']['w_avg'] = average_w(generator, variables)
    return generator, variables


def to_torch(
    generator: StyleGAN2Generator, variables: PyTree
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The state dict of a generator, float32, and the mean of w.

    A clamp is left out, as that implementation has none.

    Raises:
      UserError: a variant that it does not have.
    """
    fixed = dict(
        architecture='skip',
        activation='lrelu',
        resample_filter=stylegan2.FIR,
        num_classes=0,
        mapping_lr_multiplier=stylegan2.MAPPING_LR_MULTIPLIER,
    )
    for name, value in fixed.items():
        if getattr(generator, name) != value:
            raise UserError(f'{PUBLISHED} has no generator with {name}={getattr(generator, name)}')
    if generator.noise == 'none':
        raise UserError(f"{PUBLISHED} has no generator with noise='none'")
    official, _ = stylegan2.to_torch(generator, variables)
    rows = _generator_rows(generator.size.bit_length() - 3, generator.mapping_layers)
    state_dict = {}
    for name, source, ones, gain in rows:
        array = official[source] * np.float32(gain)
        behind = (1, 1) if source.endswith('torgb.bias') else ()
        state_dict[name] = array.reshape((1,) * ones + array.shape + behind)
    return state_dict, official['mapping.w_avg']


def discriminator_from_torch(
    state_dict: Mapping[str, np.ndarray],
) -> tuple[Discriminator, PyTree]:
    """The discriminator of a state dict, and its variables {'params'} in float32.

    Raises:
      UserError: as `stylegan2.from_torch`.
    """
    arrays = floats('the discriminator', state_dict)
    blocks = max(0, _count(arrays, r'convs\.(\d{1,4})\.conv1\.0\.weight', MOST_BLOCKS + 1) - 1)
    official = _translated('discriminator', arrays, _discriminator_rows(blocks))
    sides = [4 << i for i in range(blocks + 1)]
    widths = [_shape(official, 'b4.conv.weight', 4)[0]]
    widths += [_shape(official, f'b{side}.conv0.weight', 4)[1] for side in sides[1:]]
    extra = _shape(official, 'b4.conv.weight', 4)[1] - widths[0]
    kwargs = dict(
        c_dim=0,
        img_resolution=sides[-1],
        img_channels=_shape(official, f'b{sides[-1]}.fromrgb.weight', 4)[1],
        channel_base=max(side * width for side, width in zip(sides, widths, strict=True)),
        channel_max=max(widths),
        conv_clamp=None,
        epilogue_kwargs={'mbstd_group_size': STDDEV_GROUP, 'mbstd_num_channels': extra},
    )
    return stylegan2.discriminator_from_torch(official, kwargs)


def average_w(generator: StyleGAN2Generator, variables: PyTree) -> np.ndarray:
    """The mean of M(z) `[style]` over `AVERAGED` fixed z ~ N(0, I).

    Raises:
      UserError: it is not finite.
    """
    mapping = MappingNetwork(
        generator.style, generator.mapping_layers, generator.mapping_lr_multiplier
    )
    z = jax.random.normal(jax.random.key(0), (AVERAGED, generator.latent), jnp.float32)
    w = mapping.apply({name: tree['mapping'] for name, tree in variables.items()}, z)
    average = np.asarray(w.mean(axis=0), np.float32)
    if not np.isfinite(average).all():
        raise UserError('the mapping network has weights so large that w is not finite')
    return average


def _generator_rows(blocks: int, layers: int) -> Iterator[_Row]:
    for i in range(layers):
        for leaf in ('weight', 'bias'):
            yield f'style.{i + 1}.{leaf}', f'mapping.fc{i}.{leaf}', 0, 1
    yield 'input.input', 'synthesis.b4.const', 1, 1
    yield from _styled_rows('conv1', 'synthesis.b4.conv1', 0, up=False)
    yield from _to_rgb_rows('to_rgb1', 'synthesis.b4')
    for i in range(blocks):
        block = f'synthesis.b{8 << i}'
        yield from _styled_rows(f'convs.{2 * i}', f'{block}.conv0', 2 * i + 1, up=True)
        yield from _styled_rows(f'convs.{2 * i + 1}', f'{block}.conv1', 2 * i + 2, up=False)
        yield from _to_rgb_rows(f'to_rgbs.{i}', block)
        yield f'to_rgbs.{i}.upsample.kernel', f'{block}.resample_filter', 0, UP_GAIN


def _styled_rows(name: str, official: str, noise: int, *, up: bool) -> Iterator[_Row]:
    yield from _modulated_rows(name, official)
    yield f'{name}.noise.weight', f'{official}.noise_strength', 1, 1
    yield f'{name}.activate.bias', f'{official}.bias', 0, 1
    yield f'noises.noise_{noise}', f'{official}.noise_const', 2, 1
    if up:
        yield f'{name}.conv.blur.kernel', f'{official}.resample_filter', 0, UP_GAIN


def _to_rgb_rows(name: str, block: str) -> Iterator[_Row]:
    yield from _modulated_rows(name, f'{block}.torgb')
    yield f'{name}.bias', f'{block}.torgb.bias', 1, 1


def _modulated_rows(name: str, official: str) -> Iterator[_Row]:
    yield f'{name}.conv.weight', f'{official}.weight', 1, 1
    for leaf in ('weight', 'bias'):
        yield f'{name}.conv.modulation.{leaf}', f'{official}.affine.{leaf}', 0, 1


def _discriminator_rows(blocks: int) -> Iterator[_Row]:
    rows = [('convs.0.0.weight', f'b{4 << blocks}.fromrgb.weight')]
    rows += [('convs.0.1.bias', f'b{4 << blocks}.fromrgb.bias')]
    for i in range(blocks):
        name, block = f'convs.{i + 1}', f'b{(4 << blocks) >> i}'
        rows += [
            (f'{name}.conv1.0.weight', f'{block}.conv0.weight'),
            (f'{name}.conv1.1.bias', f'{block}.conv0.bias'),
            (f'{name}.conv2.0.kernel', f'{block}.conv1.resample_filter'),
            (f'{name}.conv2.1.weight', f'{block}.conv1.weight'),
            (f'{name}.conv2.2.bias', f'{block}.conv1.bias'),
            (f'{name}.skip.0.kernel', f'{block}.skip.resample_filter'),
            (f'{name}.skip.1.weight', f'{block}.skip.weight'),
        ]
    layers = {
        'final_conv.0.weight': 'b4.conv.weight',
        'final_conv.1.bias': 'b4.conv.bias',
        'final_linear.0.weight': 'b4.fc.weight',
        'final_linear.0.bias': 'b4.fc.bias',
        'final_linear.1.weight': 'b4.out.weight',
        'final_linear.1.bias': 'b4.out.bias',
    }
    for name, official in (*rows, *layers.items()):
        yield name, official, 0, 1


def _translated(
    what: str, arrays: Mapping[str, np.ndarray], rows: Iterable[_Row]
) -> dict[str, np.ndarray]:
    """The arrays by their official names; UserError for names that are missing or left over."""
    rows = list(rows)
    # Shapes are compared by their official names, once all names are there.
    compare(f'the {what}', arrays, {row[0]: np.shape(arrays.get(row[0])) for row in rows})
    official = {}
    for name, target, ones, gain in rows:
        array = arrays[name]
        # A bias of images has two axes more behind.
        more = 2 if target.endswith('torgb.bias') else 0
        if array.shape[:ones] != (1,) * ones or array.shape[array.ndim - more :] != (1,) * more:
            raise UserError(f'{name!r} must have axes of size 1, got {array.shape}')
        array = array.reshape(array.shape[ones : array.ndim - more])
        official[target] = array / gain if gain != 1 else array
    return official


def _count(arrays: Mapping[str, np.ndarray], pattern: str, most: int) -> int:
    """One more than the largest number that stands in a name at the group of `pattern`."""
    matches = (re.fullmatch(pattern, name) for name in arrays)
    count = 1 + max((int(match[1]) for match in matches if match), default=-1)
    if count > most:
        raise UserError(f'there are more than {most} layers of one kind')
    return count


def _shape(arrays: Mapping[str, np.ndarray], name: str, rank: int) -> tuple[int, ...]:
    if name not in arrays:
        raise UserError(f'these are no weights of {PUBLISHED}: {name!r} is missing')
    if arrays[name].ndim != rank:
        raise UserError(f'{name!r} must have {rank} dimensions, got {arrays[name].shape}')
    return arrays[name].shape


def _vector(array: Any, width: int) -> np.ndarray:
    vector = floats('the mean of w', {'latent_avg': array})['latent_avg'].reshape(-1)
    if vector.shape != (width,):
        raise UserError(f'latent_avg must have the shape ({width},), got {array.shape}')
    return vector
