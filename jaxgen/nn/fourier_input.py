"""Fourier features in place of a learned constant (StyleGAN3, 2106.12423, sections 3.1 and 3.2)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedDense


class FourierInput(nn.Module):
    """Sines of fixed random frequencies on a canvas, translated and rotated by w.

    Frequencies (uniform in the disc below the cutoff) and phases are in the collection 'stats', as
    they belong to a trained model.

    Attributes:
      size: (height, width) of the canvas. rate: its samples per side of the image.
      cutoff: the largest frequency.
      learned_transform: whether w moves the canvas (from configuration H on).
    """

    channels: int
    size: tuple[int, int]
    rate: float
    cutoff: float
    learned_transform: bool = True

    @nn.compact
    def __call__(self, w: jax.Array, transform: jax.Array | None = None) -> jax.Array:
        """`[B, height, width, channels]`.

        `transform`: `[1 or B, 3, 3]`, the inverse of what happens to the image, on (x, y, 1) with
        sides of length 1, the origin in the middle, y down.
        """
        frequencies = self.variable('stats', 'frequencies', self._draw_frequencies).value
        phases = self.variable('stats', 'phases', self._draw_phases).value
        matrix = self._transform(w, transform)
        # Written out, not as matmuls: a TPU would round the coordinates to bfloat16.
        fx, fy = frequencies[None, :, 0], frequencies[None, :, 1]
        m = matrix[:, :, :, None]
        phases = phases[None] + fx * m[:, 0, 2] + fy * m[:, 1, 2]
        fx, fy = fx * m[:, 0, 0] + fy * m[:, 1, 0], fx * m[:, 0, 1] + fy * m[:, 1, 1]
        amplitudes = self._amplitudes(fx, fy)
        height, width = self.size
        y = ((np.arange(height) + 0.5 - height / 2) / self.rate)[None, :, None, None]
        x = ((np.arange(width) + 0.5 - width / 2) / self.rate)[None, None, :, None]
        turns = (v[:, None, None, :] for v in (fx, fy, phases))
        fx, fy, phases = turns
        waves = jnp.sin(2 * np.pi * (fx * x + fy * y + phases)) * amplitudes[:, None, None, :]
        kernel = self.param('kernel', nn.initializers.normal(1.0), (self.channels, self.channels))
        return waves @ (kernel * (1 / math.sqrt(self.channels)))

    def _transform(self, w: jax.Array, user: jax.Array | None) -> jax.Array:
        """`[1 or B, 3, 3]`: rotation and translation by w, behind the user's."""
        matrix = jnp.eye(3)[None] if user is None else user.reshape(-1, 3, 3)
        if not self.learned_transform:
            return jnp.broadcast_to(matrix, (w.shape[0], 3, 3))
        t = EqualizedDense(4, bias_init=(1.0, 0.0, 0.0, 0.0), kernel_scale=0.0, name='affine')(w)
        t = t / jnp.sqrt(jnp.sum(jnp.square(t[:, :2]), axis=1, keepdims=True))
        cos, sin, x, y = jnp.moveaxis(t, 1, 0)[:, :, None]
        rows = (matrix[:, i] for i in range(3))
        first, second, third = rows
        first, second = first - x * third, second - y * third
        return jnp.stack(
            [cos * first - sin * second, sin * first + cos * second, third + 0 * cos], axis=1
        )

    def _amplitudes(self, fx: jax.Array, fy: jax.Array) -> jax.Array:
        """What a transform makes faster than the canvas can hold fades out."""
        band = self.rate / 2 - self.cutoff
        if band <= 0:  # Sampled critically: there is no band in which to fade.
            return jnp.ones_like(fx)
        return jnp.clip(1 - (jnp.sqrt(fx**2 + fy**2) - self.cutoff) / band, 0, 1)

    def _draw_frequencies(self) -> jax.Array:
        radius, angle = jax.random.uniform(self.make_rng('params'), (2, self.channels))
        radius, angle = self.cutoff * jnp.sqrt(radius), 2 * np.pi * angle
        return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=1)

    def _draw_phases(self) -> jax.Array:
        return jax.random.uniform(self.make_rng('params'), (self.channels,)) - 0.5
