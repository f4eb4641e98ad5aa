"""The Inception network of FID: v3 as TensorFlow released it in December 2015, for inference.

It is not torchvision's or Keras's: average pools don't count the padding, the last block pools by
maximum, and there are 1008 outputs. Inputs `[N, H, W, 3]` come from `metrics.resize`, where the
three conventions are. Modules bear the published names. Batch normalisation (eps 1e-3) is folded
into kernels and biases by the importer, so a layer here is a convolution with a bias and a ReLU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

CLASSES = 1008
WIDTH = 2048
BATCH_NORM_EPS = 1e-3

# Within a block: (name, output channels, kernel), at stride 1 with the size kept.
Layer = tuple[str, int, tuple[int, int]]


class Outputs(NamedTuple):
    """Of images.

    Attributes:
      pool: `[N, 2048]`, the features of FID and KID.
      logits: `[N, 1008]`.
      unbiased_logits: the same without the last layer's bias, for the inception score.
    """

    pool: jax.Array
    logits: jax.Array
    unbiased_logits: jax.Array


def _conv(
    x: jax.Array,
    name: str,
    features: int,
    kernel: tuple[int, int] = (1, 1),
    *,
    stride: int = 1,
    padding: str = 'SAME',
) -> jax.Array:
    layer = nn.Conv(
        features,
        kernel,
        strides=stride,
        padding=padding if stride == 1 else 'VALID',
        precision=jax.lax.Precision.HIGHEST,
        name=name,
    )
    return nn.relu(layer(x))


def _chain(x: jax.Array, *layers: Layer) -> jax.Array:
    for name, features, kernel in layers:
        x = _conv(x, name, features, kernel)
    return x


def _halve(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2))


def _average(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False)


def _maximum(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), padding='SAME')


class BlockA(nn.Module):
    """Mixed_5b to 5d; `pooled` channels for the pool's branch."""

    pooled: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [
            _conv(x, 'branch1x1', 64),
            _chain(x, ('branch5x5_1', 48, (1, 1)), ('branch5x5_2', 64, (5, 5))),
            _chain(
                x,
                ('branch3x3dbl_1', 64, (1, 1)),
                ('branch3x3dbl_2', 96, (3, 3)),
                ('branch3x3dbl_3', 96, (3, 3)),
            ),
            _conv(_average(x), 'branch_pool', self.pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockB(nn.Module):
    """Mixed_6a: to half the size."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        deep = _chain(x, ('branch3x3dbl_1', 64, (1, 1)), ('branch3x3dbl_2', 96, (3, 3)))
        branches = [
            _conv(x, 'branch3x3', 384, (3, 3), stride=2),
            _conv(deep, 'branch3x3dbl_3', 96, (3, 3), stride=2),
            _halve(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockC(nn.Module):
    """Mixed_6b to 6e; `inner` channels between the long, thin kernels."""

    inner: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, wide, tall = self.inner, (1, 7), (7, 1)
        branches = [
            _conv(x, 'branch1x1', 192),
            _chain(
                x, ('branch7x7_1', c, (1, 1)), ('branch7x7_2', c, wide), ('branch7x7_3', 192, tall)
            ),
            _chain(
                x,
                ('branch7x7dbl_1', c, (1, 1)),
                ('branch7x7dbl_2', c, tall),
                ('branch7x7dbl_3', c, wide),
                ('branch7x7dbl_4', c, tall),
                ('branch7x7dbl_5', 192, wide),
            ),
            _conv(_average(x), 'branch_pool', 192),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockD(nn.Module):
    """Mixed_7a: to half the size."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        deep = _chain(
            x,
            ('branch7x7x3_1', 192, (1, 1)),
            ('branch7x7x3_2', 192, (1, 7)),
            ('branch7x7x3_3', 192, (7, 1)),
        )
        branches = [
            _conv(_conv(x, 'branch3x3_1', 192), 'branch3x3_2', 320, (3, 3), stride=2),
            _conv(deep, 'branch7x7x3_4', 192, (3, 3), stride=2),
            _halve(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockE(nn.Module):
    """Mixed_7b, whose pool is an average, and 7c, where it is the maximum."""

    maximum: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pool = _maximum if self.maximum else _average
        shallow = _conv(x, 'branch3x3_1', 384)
        deep = _chain(x, ('branch3x3dbl_1', 448, (1, 1)), ('branch3x3dbl_2', 384, (3, 3)))
        branches = [
            _conv(x, 'branch1x1', 320),
            _conv(shallow, 'branch3x3_2a', 384, (1, 3)),
            _conv(shallow, 'branch3x3_2b', 384, (3, 1)),
            _conv(deep, 'branch3x3dbl_3a', 384, (1, 3)),
            _conv(deep, 'branch3x3dbl_3b', 384, (3, 1)),
            _conv(pool(x), 'branch_pool', 192),
        ]
        return jnp.concatenate(branches, axis=-1)


STAGES = (
    ('Mixed_5b', BlockA, 32),
    ('Mixed_5c', BlockA, 64),
    ('Mixed_5d', BlockA, 64),
    ('Mixed_6a', BlockB),
    ('Mixed_6b', BlockC, 128),
    ('Mixed_6c', BlockC, 160),
    ('Mixed_6d', BlockC, 160),
    ('Mixed_6e', BlockC, 192),
    ('Mixed_7a', BlockD),
    ('Mixed_7b', BlockE, False),
    ('Mixed_7c', BlockE, True),
)


class InceptionV3(nn.Module):
    """Images `[N, 299, 299, 3]`, as of `metrics.resize.inception_input`, to `Outputs`.

    Each stage's result is sown as an intermediate under the stage's name. Other sizes of at least
    75 pixels run too, but are no protocol.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> Outputs:
        def done(name: str, x: jax.Array) -> jax.Array:
            self.sow('intermediates', f'stage_{name}', x)
            return x

        def stem(x: jax.Array, name: str, *shape, **how) -> jax.Array:
            return done(name, _conv(x, name, *shape, **how))

        x = stem(x, 'Conv2d_1a_3x3', 32, (3, 3), stride=2)
        x = stem(x, 'Conv2d_2a_3x3', 32, (3, 3), padding='VALID')
        x = stem(x, 'Conv2d_2b_3x3', 64, (3, 3))
        x = done('MaxPool_1', _halve(x))
        x = stem(x, 'Conv2d_3b_1x1', 80)
        x = stem(x, 'Conv2d_4a_3x3', 192, (3, 3), padding='VALID')
        x = done('MaxPool_2', _halve(x))
        for name, block, *fields in STAGES:
            x = done(name, block(*fields, name=name)(x))
        pool = x.mean(axis=(1, 2))
        init = nn.initializers
        kernel = self.param('fc_kernel', init.lecun_normal(), (WIDTH, CLASSES))
        bias = self.param('fc_bias', init.zeros_init(), (CLASSES,))
        unbiased = jnp.matmul(pool, kernel.astype(x.dtype), precision=jax.lax.Precision.HIGHEST)
        return Outputs(pool, unbiased + bias.astype(x.dtype)[None], unbiased)
