"""VGG16 (Simonyan and Zisserman 2015, configuration D), for inference.

Layers are named conv1_1 to conv5_3, as in the paper's files; convolutions are 3×3 with the size
kept, each block ends with a 2×2 maximum. Two uses:

- `VGG16`: the last ReLU of each block before its maximum, which LPIPS compares.
- `VGG16Features`: what comes out of the second fully connected layer and its ReLU, for precision
  and recall. Images are `[N, 224, 224, 3]` normalised by `imagenet_input`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, number of convolutions
WIDTHS = tuple(width for width, _ in BLOCKS)
SIDE = 224
FEATURES = 4096

# Mean and deviation of ImageNet's colours on [0, 1], to which published trunks were trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_input(images: jax.Array) -> jax.Array:
    """Images `[N, H, W, 3]` in [-1, 1] to what the published trunks take."""
    mean, std = (jnp.asarray(x, images.dtype) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images + 1) / 2 - mean[None, None, None]) / std[None, None, None]


class VGG16(nn.Module):
    """Images `[N, H, W, 3]`, sides of 16 or more, to five maps `[N, H/2^i, W/2^i, WIDTHS[i]]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        taps = []
        for i, (width, convolutions) in enumerate(BLOCKS):
            for j in range(convolutions):
                layer = nn.Conv(
                    width, (3, 3), precision=jax.lax.Precision.HIGHEST, name=f'conv{i + 1}_{j + 1}'
                )
                x = nn.relu(layer(x))
            taps.append(x)
            if i + 1 < len(BLOCKS):
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return taps


class VGG16Features(nn.Module):
    """Images `[N, 224, 224, 3]` as of `imagenet_input` to features `[N, 4096]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if x.shape[1:3] != (SIDE, SIDE):
            raise ValueError(f'images must be {SIDE}×{SIDE}, got {x.shape}')
        x = nn.max_pool(VGG16(name='trunk')(x)[-1], (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for name in ('fc6', 'fc7'):
            x = nn.relu(nn.Dense(FEATURES, precision=jax.lax.Precision.HIGHEST, name=name)(x))
        return x
