"""The official StyleGAN3: its state dicts to our modules, and back.

    generator, variables = from_torch(state_dict, init_kwargs)
    state_dict, init_kwargs = to_torch(generator, variables)

`init_kwargs` are the arguments of the published constructor; those of the released T and R are all
known. Left out, since they change nothing here, are those that `jaxgen.interop.stylegan2` names.
The filters in the file are compared with those that we design, and the transform of the input must
be the identity: with us, a user's transform is an argument. The discriminator is StyleGAN2's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.interop import stylegan_names as names
from jaxgen.interop.stylegan2 import (
    assemble,
    build,
    common_arguments,
    common_fields,
    disassemble,
    flat,
    mapping_modules,
    require_published,
)
from jaxgen.models.stylegan3 import StyleGAN3Generator

PyTree = Any

MOST_LAYERS = 32
LARGEST_MARGIN = 256
LARGEST_KERNEL = 31
LARGEST_FILTER = 12


def from_torch(
    state_dict: Mapping[str, np.ndarray], init_kwargs: Mapping[str, Any]
) -> tuple[StyleGAN3Generator, PyTree]:
    """The generator of a published state dict, and its variables {'params', 'stats'} in float32.

    Args:
      state_dict: published name to array, of any float dtype.

    Raises:
      UserError: an argument that is not known or has a value that jaxgen does not have, names that
        are missing or left over, shapes that don't go together, values that aren't finite numbers,
        another filter, a transform.
    """
    generator = build('generator', StyleGAN3Generator, _fields(init_kwargs))
    modules, rules = _modules(generator)
    return generator, assemble(
        'generator',
        state_dict,
        generator,
        modules=modules,
        rules=rules,
        constants=build('generator', _constants, dict(generator=generator)),
    )


def to_torch(
    generator: StyleGAN3Generator, variables: PyTree
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The published state dict of a generator, and the arguments of the constructor that loads it.

    Raises:
      UserError: a variant that the published code does not have.
    """
    init_kwargs = common_arguments(generator) | dict(
        num_layers=generator.num_layers,
        num_critical=generator.num_critical,
        first_cutoff=generator.first_cutoff,
        first_stopband=generator.first_stopband,
        last_stopband_rel=generator.last_stopband_rel,
        margin_size=generator.margin,
        output_scale=generator.output_scale,
        conv_kernel=generator.kernel_size,
        use_radial_filters=generator.radial,
        filter_size=generator.filter_size,
        lrelu_upsampling=generator.lrelu_upsampling,
        magnitude_ema_beta=generator.magnitude_decay,
    )
    require_published(generator, _fields(init_kwargs))
    return disassemble(variables, *_modules(generator), _constants(generator)), init_kwargs


def _modules(generator: StyleGAN3Generator) -> tuple[list[str], names.Rules]:
    """The published modules that may have variables, and where those go."""
    layers = _layers(generator)
    mapping = mapping_modules(generator.mapping_layers, generator.num_classes)
    modules = [*mapping, 'synthesis.input', *layers]
    return modules, names.stylegan3_modules(len(layers) - 1)


def _layers(generator: StyleGAN3Generator) -> list[str]:
    """The published modules of the layers, ToRGB last."""
    specs = generator.specs()[1]
    return [f'synthesis.L{i}_{s.out_size[1]}_{s.out_channels}' for i, s in enumerate(specs)]


def _constants(generator: StyleGAN3Generator) -> dict[str, np.ndarray]:
    """The published buffers that our modules have as constants."""
    found = {'synthesis.input.transform': np.eye(3, dtype=np.float32)}
    for layer, spec in zip(_layers(generator), generator.specs()[1], strict=True):
        for name, f in (('up_filter', spec.up_filter()), ('down_filter', spec.down_filter())):
            if f is not None:
                found[f'{layer}.{name}'] = f
    return found


def _fields(init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    keywords = flat('the generator', init_kwargs)
    fields = common_fields(keywords, 2) | dict(
        num_layers=keywords.integer('num_layers', 14, low=2, high=MOST_LAYERS),
        num_critical=keywords.integer('num_critical', 2, high=MOST_LAYERS),
        first_cutoff=keywords.number('first_cutoff', 2),
        first_stopband=keywords.number('first_stopband', 2**2.1),
        last_stopband_rel=keywords.number('last_stopband_rel', 2**0.3),
        margin=keywords.integer('margin_size', 10, low=0, high=LARGEST_MARGIN),
        output_scale=keywords.number('output_scale', 0.25),
        kernel_size=keywords.integer('conv_kernel', 3, high=LARGEST_KERNEL),
        radial=keywords.flag('use_radial_filters', False),
        filter_size=keywords.integer('filter_size', 6, high=LARGEST_FILTER),
        lrelu_upsampling=keywords.integer('lrelu_upsampling', 2, high=4),
        magnitude_decay=keywords.number('magnitude_ema_beta', 0.999),
    )
    keywords.finish()
    return fields
