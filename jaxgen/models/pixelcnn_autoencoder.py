"""Auto-encoders with a PixelCNN and with a mean-squared-error decoder (1606.05328, section 2.4).

A convolutional encoder makes a short code h (10 or 100 numbers in the paper). The one decoder is a
Gated PixelCNN conditioned on h, so that h need not hold what neighbouring pixels tell; the other
one is deconvolutional and its reconstruction is as near as it gets. Both train end to end.

To draw reconstructions, or to walk between codes with one sampling seed, use the decoder alone:

    code = model.apply(variables, pixels, method='encode')
    sample_cached(model.decoder, {'params': variables['params']['decoder']}, keys, size,
                  embedding=code)
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.losses.likelihood import Likelihood
from jaxgen.nn.deconvolution import Deconvolution
from jaxgen.ops.causal_conv import centred


class Encoder(nn.Module):
    """Centred images `[B, H, W, C]` to codes `[B, code]`: each width is a halving by 4×4, then h.

    Images are of one size for good: the last layer is dense.
    """

    code: int
    widths: Sequence[int] = (64, 128, 256)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = nn.relu(nn.Conv(width, (4, 4), (2, 2), name=f'halve_{i}')(x))
        return nn.Dense(self.code, name='code')(x.reshape(x.shape[0], -1))


class PixelCNNAutoencoder(nn.Module):
    """Encoder and conditional PixelCNN decoder: logits of an image given its own code.

    Attributes:
      decoder: a `GatedPixelCNN` (or `PixelCNNpp`) whose `embedding` is the code's width.
      widths: of the encoder.
    """

    decoder: nn.Module
    widths: Sequence[int] = (64, 128, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder.embedding < 1:
            raise ValueError('the decoder must be conditioned on an embedding, got embedding=0')

    @property
    def levels(self) -> int:
        """Levels of the images."""
        return self.decoder.levels

    @property
    def colours(self) -> int:
        """Colours of the images."""
        return self.decoder.colours

    @property
    def likelihood(self) -> Likelihood:
        """What the logits mean."""
        return self.decoder.likelihood

    def setup(self) -> None:
        self.encoder = Encoder(self.decoder.embedding, self.widths)

    def encode(self, pixels: jax.Array) -> jax.Array:
        """Codes `[B, embedding]` of integer images."""
        return self.encoder(centred(pixels, self.levels))

    def __call__(self, pixels: jax.Array, **given: Any) -> jax.Array:
        """What the decoder gives for integer images `[B, H, W, C]` and their codes."""
        return self.decoder(pixels, embedding=self.encode(pixels), **given)


class MSEAutoencoder(nn.Module):
    """The same encoder with a deconvolutional decoder: reconstructions around [-1, 1].

    Attributes:
      code, widths: of the encoder; the decoder has the widths the other way around.
      levels, colours: of the images.
    """

    code: int
    widths: Sequence[int] = (64, 128, 256)
    levels: int = 256
    colours: int = 3

    def setup(self) -> None:
        self.encoder = Encoder(self.code, self.widths)
        self.decoder = Deconvolution(self.colours, tuple(self.widths)[::-1])

    def encode(self, pixels: jax.Array) -> jax.Array:
        """Codes `[B, code]` of integer images."""
        return self.encoder(centred(pixels, self.levels))

    def decode(self, code: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Images `[B, H, W, C]` of codes."""
        return self.decoder(code, size)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Reconstructions `[B, H, W, C]` of integer images `[B, H, W, C]`."""
        return self.decode(self.encode(pixels), pixels.shape[1:3])


def squared_error(reconstruction: jax.Array, pixels: jax.Array, levels: int) -> jax.Array:
    """Mean squared error `[B]` against integer images, on the scale of [-1, 1]."""
    error = jnp.square(reconstruction - centred(pixels, levels))
    return error.reshape(error.shape[0], -1).mean(axis=1)
