"""The official StyleGAN2 (of the ADA and the StyleGAN3 code): its state dicts to our modules, and
back.

    generator, variables = from_torch(state_dict, init_kwargs)
    state_dict, init_kwargs = to_torch(generator, variables)

`init_kwargs` are the arguments of the published constructor. Where they are grouped under
'synthesis_kwargs' they are those of the ADA code, which does not clamp by default; the StyleGAN3
code clamps at 256. An argument that is neither known nor listed here is an error. These are left
out, since the network computes the same whatever they are:

- `num_fp16_res` of the discriminator, `fp16_channels_last`, `channels_last`: how the published code
  computes on a GPU; the generator keeps the number as `low_precision_blocks`, without effect as
  long as its `dtype` is None;
- `fused_modconv_default`: two orders of the same computation;
- `w_avg_beta` and `freeze_layers`: of training.

The filters that lie beside the weights are compared with those of our modules.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxgen.errors import UserError
from jaxgen.interop import stylegan_names as names
from jaxgen.interop.abstract import abstract_variables
from jaxgen.interop.keywords import Keywords
from jaxgen.interop.state_dicts import compare, floats
from jaxgen.models.discriminator import ARCHITECTURES, Discriminator, tapered_channels
from jaxgen.models.stylegan2 import NOISES, StyleGAN2Generator
from jaxgen.ops.upfirdn2d import setup_filter

PyTree = Any

FIR = (1, 3, 3, 1)
CLAMP = 256  # of the StyleGAN3 code
MAPPING_LR_MULTIPLIER = 0.01
WHOLE_BATCH = 2**30  # for a group of the minibatch deviation
LARGEST_IMAGE = 8192
MOST_LAYERS = 64
ACTIVATIONS = (
    'linear', 'relu', 'lrelu', 'tanh', 'sigmoid', 'elu', 'selu', 'softplus', 'swish',
)  # fmt: skip
# Of our generators: what changes how they compute and train, but not what.
WITHOUT_EFFECT = (
    'average_decay', 'dtype', 'form', 'low_precision_blocks', 'magnitude_decay', 'remat',
)  # fmt: skip


def from_torch(
    state_dict: Mapping[str, np.ndarray],
    init_kwargs: Mapping[str, Any],
    *,
    noise: str | None = None,
) -> tuple[StyleGAN2Generator, PyTree]:
    """The generator of a published state dict, and its variables {'params', 'stats'} in float32.

    Args:
      state_dict: published name to array, of any float dtype.
      noise: 'const' (the fixed maps of the file, as the published command draws images), 'random'
        or 'none', which leaves out its strengths; None: 'const' where the network has noise.

    Raises:
      UserError: an argument that is not known or has a value that jaxgen does not have, names that
        are missing or left over, shapes that don't go together, values that aren't finite numbers,
        another filter.
    """
    fields = _generator_fields(init_kwargs)
    generator = build('generator', StyleGAN2Generator, fields)
    if noise is not None and noise not in (NOISES if generator.noise == 'const' else ('none',)):
        allowed = NOISES if generator.noise == 'const' else ('none',)
        raise UserError(f'noise must be one of {allowed} for these weights, got {noise!r}')
    modules, filters = _generator_modules(generator)
    variables = assemble(
        'generator',
        state_dict,
        generator,
        modules=modules,
        rules=names.STYLEGAN2,
        constants=filters,
    )
    if noise is None or noise == generator.noise:
        return generator, variables
    generator = generator.clone(noise=noise)
    return generator, pruned(variables, abstract_variables(generator))


def to_torch(
    generator: StyleGAN2Generator, variables: PyTree
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The published state dict of a generator, and the arguments of the constructor that loads it.

    They are those of the StyleGAN3 code. Whether noise is fixed or new is not among them.

    Raises:
      UserError: a variant that the published code does not have.
    """
    if generator.noise == 'random':
        generator = generator.clone(noise='const')
    init_kwargs = common_arguments(generator) | dict(
        architecture=generator.architecture,
        activation=generator.activation,
        resample_filter=list(generator.resample_filter),
        use_noise=generator.noise != 'none',
    )
    require_published(generator, _generator_fields(init_kwargs))
    modules, filters = _generator_modules(generator)
    return disassemble(variables, modules, names.STYLEGAN2, filters), init_kwargs


def discriminator_from_torch(
    state_dict: Mapping[str, np.ndarray], init_kwargs: Mapping[str, Any]
) -> tuple[Discriminator, PyTree]:
    """The discriminator of a published state dict, and its variables {'params'} in float32.

    StyleGAN3 has the same one.

    Raises:
      UserError: as `from_torch`.
    """
    model = build('discriminator', Discriminator, _discriminator_fields(init_kwargs))
    modules, filters = _discriminator_modules(model)
    variables = assemble(
        'discriminator',
        state_dict,
        model,
        modules=modules,
        rules=names.discriminator_modules(model.frame[0]),
        constants=filters,
    )
    return model, variables


def build(what: str, make: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """What `make` makes of these arguments, which come from a file.

    Raises:
      UserError: they don't go together.
    """
    try:
        return make(**fields)
    except (ArithmeticError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'the {what} cannot be built: {reason}') from error


def assemble(
    what: str,
    state_dict: Mapping[str, np.ndarray],
    module: Any,
    *,
    modules: Sequence[str],
    rules: names.Rules,
    constants: Mapping[str, np.ndarray | None],
) -> PyTree:
    """The variables of `module` out of a state dict.

    Args:
      modules: the published modules that may have variables, by name; `rules` say where they go.
      constants: arrays that the file may have too, and that must be these where they aren't None.

    Raises:
      UserError: see `from_torch`.
    """
    arrays = floats(f'the {what}', state_dict)
    ours = build(what, abstract_variables, dict(module=module))
    place_holders = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), ours)
    expected = names.to_published(place_holders, names.published_names(ours, modules, rules), rules)
    weights = {name: array for name, array in arrays.items() if name not in constants}
    compare(f'the {what}', weights, {name: x.shape for name, x in expected.items()})
    for name in constants.keys() & arrays.keys():
        stored, needed = arrays[name], constants[name]
        if needed is None:
            continue
        largest = np.abs(needed).max()
        if stored.shape != needed.shape or np.abs(stored - needed).max() > 1e-5 * largest:
            raise UserError(f'{name!r} of the {what} is not what its arguments give')
    found = names.to_variables(weights, rules)
    return {collection: found[collection] for collection in ours}


def disassemble(
    variables: PyTree,
    modules: Sequence[str],
    rules: names.Rules,
    constants: Mapping[str, np.ndarray | None],
) -> dict[str, np.ndarray]:
    """The state dict of variables, the constants among it; see `assemble`."""
    published = names.published_names(variables, modules, rules)
    found = names.to_published(variables, published, rules)
    unused = setup_filter(FIR)
    found |= {name: unused if x is None else x for name, x in constants.items()}
    return {name: np.asarray(x, np.float32) for name, x in found.items()}


def require_published(generator: Any, fields: Mapping[str, Any]) -> None:
    """UserError unless a generator of these fields, all that the published code has, is this."""
    like = build('generator', type(generator), fields)
    for name in (field.name for field in dataclasses.fields(generator)):
        value = getattr(generator, name)
        if name not in ('parent', 'name', *WITHOUT_EFFECT) and value != getattr(like, name):
            kind = type(generator).__name__.removesuffix('Generator')
            raise UserError(f'the published {kind} has no generator with {name}={value!r}')


def pruned(variables: PyTree, like: PyTree) -> PyTree:
    """What of `variables` is in `like` too."""
    kept = traverse_util.flatten_dict(like)
    flat = traverse_util.flatten_dict(variables)
    return traverse_util.unflatten_dict({path: x for path, x in flat.items() if path in kept})


def mapping_modules(layers: int, classes: int) -> list[str]:
    """The published modules of a mapping network that may have variables."""
    embed = ['mapping.embed'] if classes else []
    return ['mapping', *embed, *(f'mapping.fc{i}' for i in range(layers))]


def flat(what: str, init_kwargs: Any) -> Keywords:
    """The arguments of a generator, those under 'synthesis_kwargs' among them.

    The ADA code groups them there, where nothing clamps unless it says so.
    """
    outer = Keywords(what, init_kwargs)
    if 'synthesis_kwargs' not in outer:
        return outer
    values = dict(init_kwargs)
    inner = values.pop('synthesis_kwargs')
    Keywords(f"{what}'s synthesis_kwargs", inner)
    if both := sorted(str(name) for name in values.keys() & inner.keys()):
        raise UserError(f'{what} has the arguments {both} twice')
    return Keywords(what, {'conv_clamp': None, **values, **inner})


def common_fields(keywords: Keywords, mapping_layers: int) -> dict[str, Any]:
    """Fields that the generators of StyleGAN2 and StyleGAN3 share."""
    style = keywords.integer('w_dim')
    mapping = keywords.group('mapping_kwargs')
    _plain_mapping(mapping, style)
    return dict(
        size=keywords.integer('img_resolution', high=LARGEST_IMAGE),
        image_channels=keywords.integer('img_channels'),
        latent=keywords.integer('z_dim'),
        style=style,
        num_classes=keywords.integer('c_dim', low=0),
        mapping_layers=mapping.integer('num_layers', mapping_layers, high=MOST_LAYERS),
        mapping_lr_multiplier=mapping.number('lr_multiplier', MAPPING_LR_MULTIPLIER),
        channel_base=keywords.integer('channel_base', 32768),
        channel_max=keywords.integer('channel_max', 512),
        clamp=keywords.number('conv_clamp', CLAMP, optional=True),
        low_precision_blocks=keywords.integer('num_fp16_res', 4, low=0),
    )


def common_arguments(generator: Any) -> dict[str, Any]:
    """The published arguments that the generators of StyleGAN2 and StyleGAN3 share."""
    half = generator.dtype is not None and np.dtype(generator.dtype).itemsize == 2
    return dict(
        z_dim=generator.latent,
        c_dim=generator.num_classes,
        w_dim=generator.style,
        img_resolution=generator.size,
        img_channels=generator.image_channels,
        mapping_kwargs=dict(
            num_layers=generator.mapping_layers, lr_multiplier=generator.mapping_lr_multiplier
        ),
        channel_base=generator.channel_base,
        channel_max=generator.channel_max,
        conv_clamp=generator.clamp,
        num_fp16_res=generator.low_precision_blocks if half else 0,
    )


def _generator_fields(init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    keywords = flat('the generator', init_kwargs)
    fields = common_fields(keywords, 8) | dict(
        architecture=keywords.choice('architecture', 'skip', ARCHITECTURES),
        activation=keywords.choice('activation', 'lrelu', ACTIVATIONS),
        resample_filter=keywords.numbers('resample_filter', FIR),
        noise='const' if keywords.flag('use_noise', True) else 'none',
    )
    keywords.ignore('fused_modconv_default', 'fp16_channels_last', 'channels_last')
    keywords.finish()
    return fields


def _discriminator_fields(init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    keywords = Keywords('the discriminator', init_kwargs)
    groups = ('mapping_kwargs', 'block_kwargs', 'epilogue_kwargs')
    mapping, block, epilogue = map(keywords.group, groups)
    for group in (block, epilogue):
        group.choice('activation', 'lrelu', ['lrelu'])
    block.ignore('freeze_layers', 'fp16_channels_last')
    keywords.ignore('num_fp16_res')
    size = keywords.integer('img_resolution', low=8, high=LARGEST_IMAGE)
    base, most = keywords.integer('channel_base', 32768), keywords.integer('channel_max', 512)
    classes = keywords.integer('c_dim', low=0)
    features = epilogue.integer('mbstd_num_channels', 1, low=0)
    group = epilogue.integer('mbstd_group_size', 4, optional=True) or WHOLE_BATCH
    width = keywords.integer('cmap_dim', None, optional=True)
    channels = tapered_channels(size, base, most)
    _plain_mapping(mapping, width or channels[4])
    fields = dict(
        size=size,
        channels=channels,
        image_channels=keywords.integer('img_channels'),
        blur_kernel=block.numbers('resample_filter', FIR),
        minibatch_std_group=group if features else 0,
        minibatch_std_features=features,
        minibatch_std_grouping='strided',
        num_classes=classes,
        architecture=keywords.choice('architecture', 'resnet', ARCHITECTURES),
        clamp=keywords.number('conv_clamp', CLAMP, optional=True),
        label_layers=mapping.integer('num_layers', 8, high=MOST_LAYERS),
        label_features=width,
    )
    # Our mapping network of a label has this one only.
    mapping.choice('lr_multiplier', MAPPING_LR_MULTIPLIER, [MAPPING_LR_MULTIPLIER])
    keywords.finish()
    return fields


def _plain_mapping(mapping: Keywords, width: int) -> None:
    """Refuses a mapping network that our modules don't have."""
    mapping.choice('activation', 'lrelu', ['lrelu'])
    mapping.choice('embed_features', None, [None, width])
    mapping.choice('layer_features', None, [None, width])
    mapping.ignore('w_avg_beta')


def _generator_modules(generator: StyleGAN2Generator) -> tuple[list[str], dict[str, Any]]:
    """The published modules that may have variables, and the filters."""
    sides = tapered_channels(generator.size, generator.channel_base, generator.channel_max)
    blocks = [f'synthesis.b{side}' for side in sides]
    modules = mapping_modules(generator.mapping_layers, generator.num_classes)
    modules += [
        blocks[0],
        *(f'{block}.{part}' for block in blocks for part in ('conv0', 'conv1', 'torgb', 'skip')),
    ]
    f = setup_filter(generator.resample_filter)
    filters = {f'{block}.resample_filter': f for block in blocks}
    parts = ('conv0', 'skip') if generator.architecture == 'resnet' else ('conv0',)
    for block in blocks[1:]:
        filters |= {f'{block}.{part}.resample_filter': f for part in parts}
    # conv1 has one that it does not use.
    return modules, filters | {f'{block}.conv1.resample_filter': None for block in blocks}


def _discriminator_modules(model: Discriminator) -> tuple[list[str], dict[str, Any]]:
    size = model.frame[0]
    blocks = [f'b{side}' for side in tapered_channels(size) if side > 4]
    modules = mapping_modules(model.label_layers, model.num_classes)
    parts = ('fromrgb', 'conv0', 'conv1', 'skip')
    modules += [f'{block}.{part}' for block in blocks for part in parts]
    f = setup_filter(model.blur_kernel)
    filters: dict[str, Any] = {f'{block}.resample_filter': f for block in blocks}
    for block in blocks:
        filters |= {f'{block}.{part}.resample_filter': f for part in ('conv1', 'skip')}
        # These have one that they don't use.
        filters |= {f'{block}.{part}.resample_filter': None for part in ('fromrgb', 'conv0')}
    filters |= {f'b4.{part}.resample_filter': None for part in ('fromrgb', 'conv')}
    return [*modules, 'b4.fromrgb', 'b4.conv', 'b4.fc', 'b4.out'], filters
