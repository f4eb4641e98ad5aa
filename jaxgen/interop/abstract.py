"""The variables of the models that importers build, without their values."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator
from jaxgen.models.stylegan2 import StyleGAN2Generator

PyTree = Any


def abstract_variables(module: nn.Module) -> PyTree:
    """The variables of a generator or discriminator, without their values."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    place = jnp.zeros((1, 1, 1, 2))
    label = jnp.zeros((1,), jnp.int32) if module.num_classes else None

    def init(key: jax.Array) -> PyTree:
        if isinstance(module, Discriminator):
            image = jnp.zeros((1, *module.frame, module.image_channels))
            return module.init(key, image, label, coords=place if module.coordinates else None)
        z, keys = jnp.zeros((1, module.latent)), jax.random.split(key, 1)
        if isinstance(module, CIPSGenerator):
            return module.init(key, z, coords=place, noise=keys, method='generate')
        options = {'noise': keys} if isinstance(module, StyleGAN2Generator) else {}
        return module.init(key, z, label, **options)

    return jax.eval_shape(init, key)
