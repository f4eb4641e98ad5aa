"""The convolutions of AlexNet in the one-column form (Krizhevsky 2014), for LPIPS."""

import jax
from flax import linen as nn

# Output channels, side of the kernel, stride, padding; a maximum comes after the first two.
LAYERS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
WIDTHS = tuple(width for width, *_ in LAYERS)
POOLED = 2


class AlexNet(nn.Module):
    """Images `[N, H, W, 3]`, sides of 31 or more, to the five maps after a ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        taps = []
        for i, (width, side, stride, padding) in enumerate(LAYERS):
            layer = nn.Conv(
                width,
                (side, side),
                strides=stride,
                padding=padding,
                precision=jax.lax.Precision.HIGHEST,
                name=f'conv{i + 1}',
            )
            x = nn.relu(layer(x))
            taps.append(x)
            if i < POOLED:
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
        return taps
