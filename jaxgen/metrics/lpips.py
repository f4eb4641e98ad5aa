"""LPIPS v0.1 (Zhang et al. 2018, 'The Unreasonable Effectiveness of Deep Features', section 3).

Images are `[N, H, W, 3]` in [-1, 1]. At each of the five taps of a trunk a pixel's features are
divided by their length + 1e-10; the squared difference of two images is weighed channel by channel
with weights ≥ 0, summed over channels and averaged over pixels; the taps are added.

    distance = Σ_l mean_pixels Σ_c weight_lc (â_lc - b̂_lc)²

So it is the squared distance of features, those that `LPIPS.embed` gives. `per_layer` and
`embed` have a gradient everywhere, also at a pixel whose features are all zero.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.metrics import alexnet, vgg

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10
# Name to (trunk, channels of its taps).
NETWORKS: Mapping[str, tuple[type[nn.Module], Sequence[int]]] = {
    'vgg16': (vgg.VGG16, vgg.WIDTHS),
    'alexnet': (alexnet.AlexNet, alexnet.WIDTHS),
}


def scale_input(images: jax.Array) -> jax.Array:
    """Images in [-1, 1] to what the trunks take."""
    shift, scale = (jnp.asarray(x, images.dtype) for x in (SHIFT, SCALE))
    return (images - shift[None, None, None]) / scale[None, None, None]


def normalize(features: jax.Array) -> jax.Array:
    """Each pixel's vector `[..., C]` over its length + 1e-10; zeros stay zeros."""
    squares = jnp.sum(features * features, axis=-1, keepdims=True)
    there = squares > 0
    # The root's gradient at 0 is infinite: it never gets to see a 0.
    length = jnp.where(there, jnp.sqrt(jnp.where(there, squares, 1)), 0)
    return features / (length + EPSILON)


def layer_distances(
    a: Sequence[jax.Array], b: Sequence[jax.Array], weights: Sequence[jax.Array]
) -> jax.Array:
    """Distances `[N, L]` of L taps `[N, H_l, W_l, C_l]`, with channel weights `[C_l]`."""
    distances = []
    for x, y, weight in zip(a, b, weights, strict=True):
        squares = jnp.square(normalize(x) - normalize(y)) * weight[None, None, None]
        distances.append(squares.sum(axis=-1).mean(axis=(1, 2)))
    return jnp.stack(distances, axis=-1)


def embed_taps(taps: Sequence[jax.Array], weights: Sequence[jax.Array]) -> jax.Array:
    """Features `[N, F]` whose squared distance is the sum over `layer_distances`."""
    parts = []
    for x, weight in zip(taps, weights, strict=True):
        pixels = x.shape[1] * x.shape[2]
        part = normalize(x) * jnp.sqrt(weight / pixels)[None, None, None]
        parts.append(part.reshape(len(x), -1))
    return jnp.concatenate(parts, axis=-1)


class LPIPS(nn.Module):
    """The distance of two batches of images.

    Attributes:
      network: of the trunk, 'vgg16' or 'alexnet'.
    """

    network: str = 'vgg16'

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f'network must be one of {tuple(NETWORKS)}, got {self.network!r}')
        super().__post_init__()

    def setup(self) -> None:
        trunk, widths = NETWORKS[self.network]
        self.trunk = trunk()
        ones = nn.initializers.ones_init()
        self.weights = [self.param(f'weights_{i}', ones, (c,)) for i, c in enumerate(widths)]

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distances `[N]`."""
        return self.per_layer(a, b).sum(axis=-1)

    def per_layer(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distances `[N, 5]`, whose sum is LPIPS."""
        return layer_distances(self.taps(a), self.taps(b), self.weights)

    def taps(self, images: jax.Array) -> list[jax.Array]:
        """The trunk's five maps."""
        return self.trunk(scale_input(images))

    def embed(self, images: jax.Array) -> jax.Array:
        """Features `[N, F]` whose squared distance is LPIPS; F grows with the images."""
        return embed_taps(self.taps(images), self.weights)
