"""Our generators as the published code has them: what `jaxgen.export` writes.

    data = published(generator, variables)

- StyleGAN2 and StyleGAN3: {'G_ema': state dict, 'init_kwargs': arguments of the constructor}, of
  the `Generator` in `training/networks_stylegan2.py` and `networks_stylegan3.py` of the official
  StyleGAN3 code.
- StyleGAN2 in rosinality's layout: {'g_ema': state dict, 'latent_avg': mean of w}.
- CIPS: {'g_ema': state dict}, as the released code saves it. The mean of w has no place in it.

`jaxgen.interop.imported.read_published` reads each of them back.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxgen.errors import UserError
from jaxgen.interop import cips, rosinality, stylegan2, stylegan3
from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator

PyTree = Any

LAYOUTS = ('official', 'rosinality')


def published(
    generator: nn.Module, variables: PyTree, *, layout: str = 'official'
) -> Mapping[str, Any]:
    """What the published code loads, float32; see the head of this module.

    Args:
      variables: {'params', 'stats'} of the generator.
      layout: one of `LAYOUTS`; the second is for StyleGAN2.

    Raises:
      UserError: a variant that the published code does not have, or a model that has none.
    """
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), dict(variables))
    if layout not in LAYOUTS:
        raise UserError(f'layout must be one of {LAYOUTS}, got {layout!r}')
    kind = type(generator)
    if layout == 'rosinality':
        if kind is not StyleGAN2Generator:
            raise UserError(f"layout 'rosinality' is that of StyleGAN2, got a {kind.__name__}")
        state_dict, mean = rosinality.to_torch(generator, variables)
        return {'g_ema': state_dict, 'latent_avg': mean}
    if kind is CIPSGenerator:
        return {'g_ema': cips.to_torch(generator, variables)}
    for ours, to_torch in (
        (StyleGAN2Generator, stylegan2.to_torch),
        (StyleGAN3Generator, stylegan3.to_torch),
    ):
        if kind is ours:
            state_dict, arguments = to_torch(generator, variables)
            return {'G_ema': state_dict, 'init_kwargs': arguments}
    raise UserError(f'a {kind.__name__} has no published format: only CIPS and the StyleGANs do')
