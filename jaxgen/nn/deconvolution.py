"""A deconvolutional network: a vector to a map of any size (m(h) of arXiv 1606.05328)."""

import jax
from flax import linen as nn


class Deconvolution(nn.Module):
    """`[B, m]` to `[B, H, W, features]`: a dense layer, then doublings by transposed convolution.

    `widths` are the channels before each doubling, so there are as many doublings as widths; the
    map is cropped where the size is no multiple of 2^doublings.
    """

    features: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, vector: jax.Array, size: tuple[int, int]) -> jax.Array:
        scale = 2 ** len(self.widths)
        height, width = (-(-side // scale) for side in size)
        x = nn.Dense(height * width * self.widths[0], name='start')(vector)
        x = nn.relu(x).reshape(-1, height, width, self.widths[0])
        for i, channels in enumerate((*self.widths[1:], self.features)):
            x = nn.ConvTranspose(channels, (4, 4), (2, 2), name=f'double_{i}')(x)
            if i + 1 < len(self.widths):
                x = nn.relu(x)
        return x[:, : size[0], : size[1]]
