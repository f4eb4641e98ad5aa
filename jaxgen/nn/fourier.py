"""Positional encodings of coordinates: learned Fourier features, learned embedding."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.ops.interpolate import bilinear

LOOKUPS = ('exact', 'reference')


def _uniform(limit: float) -> nn.initializers.Initializer:
    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


class FourierFeatures(nn.Module):
    """Learned Fourier features sin(B·c + b), `[..., D]` to `[..., features]` (CIPS eq. 2).

    c is (x, y), or (cos θ, sin θ, y) on a cylinder.

    B and b are learned and not equalised; B ~ U(±√(9/2)), b ~ U(±1/√2), as in the released code.
    """

    features: int

    @nn.compact
    def __call__(self, coords: jax.Array) -> jax.Array:
        kernel = self.param('kernel', _uniform(math.sqrt(9 / 2)), (coords.shape[-1], self.features))
        bias = self.param('bias', _uniform(math.sqrt(1 / 2)), (self.features,))
        lead = (1,) * (coords.ndim - 1)
        # Written out, not as a matmul: a TPU would round the coordinates to bfloat16.
        phase = sum(
            coords[..., i, None] * row.reshape(lead + (-1,)) for i, row in enumerate(kernel)
        )
        return jnp.sin(phase + bias.reshape(lead + (-1,)))


class CoordinateEmbedding(nn.Module):
    """One learned vector per pixel of the training frame (CIPS, section 3.1).

    With `coords=None` the table itself is read, `[1, height·width, features]`. Anywhere else it is
    interpolated: 'exact' equals the table on the training grid, 'reference' blurs it by half a
    pixel towards the border as the published code does (imported weights expect that). With `ring`
    the columns lie around a ring and x has period 2.
    """

    height: int
    width: int
    features: int
    lookup: str = 'exact'
    ring: bool = False

    @nn.compact
    def __call__(self, coords: jax.Array | None) -> jax.Array:
        shape = (self.height, self.width, self.features)
        table = self.param('table', nn.initializers.normal(1.0), shape)
        if coords is None:
            return table.reshape(1, self.height * self.width, self.features)
        return bilinear(table, coords, align_corners=self.lookup == 'exact', ring=self.ring)
