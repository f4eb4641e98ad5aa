"""The released CIPS (advimman/CIPS): its state dicts to our modules, and back.

There are two generators, `CIPSskip` and `CIPSres`, and one discriminator. What their constructors
set is read off names and shapes. Three things can't be, and are arguments:

- `lookup`: the released code interpolates the embedding half a pixel off ('reference'); 'exact' is
  ours. Off the training grid this is what its images look like.
- `activation`: biases have the names of 'lrelu', or those that 'sin' and 'sinrelu' share.
- `noise`: the released code draws new noise at every call, evaluation included; so 'random' unless
  all its strengths are zero. 'none' leaves it out: a pixel is then a function of (z, x, y).

The mean of w, for truncation, is not in the files. It is the mean over `AVERAGED` fixed z.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import UserError
from jaxgen.interop.cips_names import discriminator_names, generator_names, noise_modules
from jaxgen.interop.state_dicts import compare, floats
from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator

PyTree = Any
Shapes = dict[str, tuple[int, ...]]

AVERAGED = 10_000
MAPPING_LR_MULTIPLIER = 0.01  # `lr_mlp`, the same in all that was released
STDDEV_GROUP = 4
BLUR = (1, 3, 3, 1)
MAX_LAYERS = 64  # of one kind


def from_torch(
    state_dict: Mapping[str, np.ndarray],
    *,
    lookup: str = 'reference',
    activation: str | None = None,
    noise: str | None = None,
    mapping_lr_multiplier: float = MAPPING_LR_MULTIPLIER,
) -> tuple[CIPSGenerator, PyTree]:
    """The generator of a published state dict, and its variables {'params', 'stats'} in float32.

    Args:
      state_dict: published name to array, of any float dtype.
      lookup, activation, noise: see the head of this module; None: what the file tells.

    Raises:
      UserError: names that are missing or left over (it lists them), shapes that don't go
        together, values that aren't finite numbers.
    """
    arrays = floats('the generator', state_dict)
    fields = _generator_fields(arrays)
    fields['activation'] = _activation(arrays, activation)
    strengths = [array for name, array in arrays.items() if name.endswith('.noise.weight')]
    drawn = 'random' if any(array.any() for array in strengths) else 'none'
    try:
        generator = CIPSGenerator(
            **fields,
            noise=noise or drawn,
            lookup=lookup,
            mapping_lr_multiplier=mapping_lr_multiplier,
        )
    except ValueError as error:
        raise UserError(f'the generator cannot be built: {error}') from error
    compare('generator', arrays, generator_shapes(generator))
    names = generator_names(generator.residual, noise=generator.noise != 'none')
    params = names.to_tree(arrays)
    average = average_w(generator, params)
    return generator, {'params': params, 'stats': {'mapping': {'w_avg': average}}}


def to_torch(generator: CIPSGenerator, variables: PyTree) -> dict[str, np.ndarray]:
    """The published state dict of a generator, float32: what `from_torch` reads.

    A generator without noise gets strengths of zero. The mean of w has no place in it.

    Raises:
      UserError: a variant that the released code does not have.
    """
    shapes = generator_shapes(generator)
    like = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    names = generator_names(generator.residual, noise=generator.noise != 'none')
    published = names.to_published(variables['params'], like)
    return {name: np.asarray(array, np.float32) for name, array in published.items()}


def discriminator_from_torch(
    state_dict: Mapping[str, np.ndarray],
) -> tuple[Discriminator, PyTree]:
    """The discriminator of a published state dict, and its variables {'params'} in float32.

    Raises:
      UserError: as `from_torch`; and a blur that is not that of the released code.
    """
    arrays = floats('the discriminator', state_dict)
    first_layers = _last(arrays, r'convs\.(\d{1,4})\.[01]\..+')
    last = _last(arrays, r'convs\.(\d{1,4})\.(?:conv1|conv2|skip)\..+')
    blocks = max(0, last - first_layers)
    widths = [_shape(arrays, 'convs.0.0.weight', 4)[0]]
    widths += [
        _shape(arrays, f'convs.{first_layers + 1 + i}.conv2.1.weight', 4)[0] for i in range(blocks)
    ]
    size = 4 << blocks
    colours = _shape(arrays, 'convs.0.0.weight', 4)[1]
    extra = _shape(arrays, 'final_conv.0.weight', 4)[1] - widths[-1]
    if colours not in (3, 5) or extra < 0:
        raise UserError(
            'the discriminator must have 3 input channels, or 5 with coordinates, and no fewer '
            f'in its last convolution than before, got {colours} and {extra}'
        )
    try:
        model = Discriminator(
            size=size,
            channels={size >> i: width for i, width in enumerate(widths)},
            coordinates=colours == 5,
            first_layers=first_layers,
            blur_kernel=BLUR,
            minibatch_std_group=STDDEV_GROUP if extra else 0,
            minibatch_std_features=max(extra, 1),
            minibatch_std_grouping='strided',
        )
    except ValueError as error:
        raise UserError(f'the discriminator cannot be built: {error}') from error
    compare('discriminator', arrays, _discriminator_shapes(model, widths))
    blur = np.outer(BLUR, BLUR) / sum(BLUR) ** 2
    for name, array in arrays.items():
        if name.endswith('.kernel') and not np.allclose(array, blur, rtol=1e-5):
            raise UserError(f'the blur {name!r} of the discriminator is not {list(BLUR)}')
    return model, {'params': discriminator_names(size, first_layers).to_tree(arrays)}


def generator_shapes(generator: CIPSGenerator) -> Shapes:
    """Published name to shape of everything in the state dict of a generator.

    Raises:
      UserError: a variant that the released code does not have.
    """
    g = generator
    height, width = g.frame
    without = [
        (height != width, f'a frame of {width}×{height}'),
        (g.cylindrical, 'cylindrical coordinates'),
        (not (g.fourier and g.embedding), 'only one of its encodings'),
        (not (g.cumulative_rgb or g.residual), 'a single ToRGB after plain blocks'),
        (g.num_classes, 'classes'),
    ]
    for there, what in without:
        if there:
            raise UserError(f'the released CIPS has no generator with {what}')
    shapes: Shapes = {
        'lff.ffm.conv.weight': (g.features, 2, 1, 1),
        'lff.ffm.conv.bias': (g.features,),
        'emb.input': (1, g.features, height, width),
    }
    first, *layers = noise_modules(len(g.block_widths), g.residual)
    shapes |= _styled(first, 2 * g.features, g.first_width, g)
    before = g.first_width
    for i, after in enumerate(g.block_widths):
        shapes |= _styled(layers[2 * i], before, after, g)
        shapes |= _styled(layers[2 * i + 1], after, after, g)
        if not g.residual:
            shapes |= _to_rgb(f'to_rgbs.{i}', after, g)
        elif before != after:
            shapes[f'linears.{i + 1}.skip.0.weight'] = (after, before, 1, 1)
        before = after
    if g.residual:
        shapes |= _to_rgb('to_rgb_last', before, g)
    for i in range(g.mapping_layers):
        shapes[f'style.{i + 1}.weight'] = (g.style, g.style if i else g.latent)
        shapes[f'style.{i + 1}.bias'] = (g.style,)
    return shapes


def average_w(generator: CIPSGenerator, params: PyTree) -> np.ndarray:
    """The mean of M(z) `[style]` over `AVERAGED` fixed z ~ N(0, I).

    Raises:
      UserError: it is not finite.
    """
    z = jax.random.normal(jax.random.key(0), (AVERAGED, generator.latent), jnp.float32)
    variables = {'params': {'mapping': params['mapping']}}
    w, _ = generator.apply(variables, z, method='mapping', mutable=['stats'])
    average = np.asarray(w.mean(axis=0), np.float32)
    if not np.isfinite(average).all():
        raise UserError('the mapping network has weights so large that w is not finite')
    return average


def _generator_fields(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What names and shapes tell of a generator; `compare` finds what does not go together."""
    residual = any(name.startswith('to_rgb_last.') for name in arrays)
    first = 'linears.0' if residual else 'conv1'
    if residual:
        blocks = range(1, 1 + _last(arrays, r'linears\.(\d{1,4})\..+'))
        names = [f'linears.{i}.conv1.conv.weight' for i in blocks]
    else:
        blocks = range(1 + _last(arrays, r'to_rgbs\.(\d{1,4})\..+'))
        names = [f'linears.{2 * i}.conv.weight' for i in blocks]
    table = _shape(arrays, 'emb.input', 4)
    style, latent = _shape(arrays, 'style.1.weight', 2)
    return dict(
        size=table[-1],
        features=table[1],
        first_width=_shape(arrays, f'{first}.conv.weight', 5)[1],
        block_widths=tuple(_shape(arrays, name, 5)[1] for name in names),
        latent=latent,
        style=style,
        mapping_layers=_last(arrays, r'style\.(\d{1,4})\..+'),
        residual=residual,
    )


def _activation(arrays: Mapping[str, np.ndarray], wanted: str | None) -> str:
    leaky = any(name.endswith('.activate.bias') for name in arrays)
    possible = ('lrelu',) if leaky else ('sin', 'sinrelu')
    if wanted is not None and wanted not in possible:
        raise UserError(f'activation must be one of {possible} for these weights, got {wanted!r}')
    return wanted or possible[0]


def _last(arrays: Mapping[str, np.ndarray], pattern: str) -> int:
    """The largest number that stands in a name at the group of `pattern`; 0 if there is none."""
    matches = (re.fullmatch(pattern, name) for name in arrays)
    last = max((int(match[1]) for match in matches if match), default=0)
    if last > MAX_LAYERS:
        raise UserError(f'there are more than {MAX_LAYERS} layers of one kind')
    return last


def _shape(arrays: Mapping[str, np.ndarray], name: str, rank: int) -> tuple[int, ...]:
    if name not in arrays:
        raise UserError(f'these are no weights of CIPS: {name!r} is missing')
    if arrays[name].ndim != rank:
        raise UserError(f'{name!r} must have {rank} dimensions, got {arrays[name].shape}')
    return arrays[name].shape


def _styled(name: str, inputs: int, outputs: int, g: CIPSGenerator) -> Shapes:
    leaky = g.activation == 'lrelu'
    return {
        **_modulated(name, inputs, outputs, g),
        f'{name}.noise.weight': (1,),
        f'{name}.activate.bias' if leaky else f'{name}.bias': (
            (outputs,) if leaky else (1, outputs, 1, 1)
        ),
    }


def _to_rgb(name: str, inputs: int, g: CIPSGenerator) -> Shapes:
    return {**_modulated(name, inputs, 3, g), f'{name}.bias': (1, 3, 1, 1)}


def _modulated(name: str, inputs: int, outputs: int, g: CIPSGenerator) -> Shapes:
    return {
        f'{name}.conv.weight': (1, outputs, inputs, 1, 1),
        f'{name}.conv.modulation.weight': (inputs, g.style),
        f'{name}.conv.modulation.bias': (inputs,),
    }


def _discriminator_shapes(model: Discriminator, widths: Sequence[int]) -> Shapes:
    """`widths` after the first layer and after every block."""
    wide, last = widths[0], widths[-1]
    shapes: Shapes = {
        'convs.0.0.weight': (wide, 5 if model.coordinates else 3, 1, 1),
        'convs.0.1.bias': (wide,),
    }
    for i in range(1, 1 + model.first_layers):
        shapes |= {f'convs.{i}.0.weight': (wide, wide, 3, 3), f'convs.{i}.1.bias': (wide,)}
    for i, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        name = f'convs.{1 + model.first_layers + i}'
        shapes |= {
            f'{name}.conv1.0.weight': (before, before, 3, 3),
            f'{name}.conv1.1.bias': (before,),
            f'{name}.conv2.0.kernel': (len(BLUR),) * 2,
            f'{name}.conv2.1.weight': (after, before, 3, 3),
            f'{name}.conv2.2.bias': (after,),
            f'{name}.skip.0.kernel': (len(BLUR),) * 2,
            f'{name}.skip.1.weight': (after, before, 1, 1),
        }
    extra = model.minibatch_std_features if model.minibatch_std_group else 0
    return {
        **shapes,
        'final_conv.0.weight': (last, last + extra, 3, 3),
        'final_conv.1.bias': (last,),
        'final_linear.0.weight': (last, last * 16),
        'final_linear.0.bias': (last,),
        'final_linear.1.weight': (1, last),
        'final_linear.1.bias': (1,),
    }
