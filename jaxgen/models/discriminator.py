"""The discriminators of StyleGAN2 (arXiv 1912.04958, section 4.1); CIPS and StyleGAN3 use them too.

Images `[B, H, W, C]` to scores `[B]`. Blurs are [1, 3, 3, 1]; sums of two paths are divided by √2.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedConv, EqualizedDense
from jaxgen.nn.mapping import MappingNetwork, label_vectors, normalize_second_moment
from jaxgen.nn.minibatch_std import GROUPINGS, minibatch_std
from jaxgen.ops.activations import activation
from jaxgen.ops.upfirdn2d import downsample2d, setup_filter

ARCHITECTURES = ('resnet', 'skip', 'orig')


def paper_channels(size: int, channel_multiplier: int = 2) -> dict[int, int]:
    """Channels by resolution: 512 up to 64² (with multiplier 2), then halved at each doubling."""
    table = {4: 512, 8: 512, 16: 512, 32: 512}
    table |= {64 * 2**i: 256 * channel_multiplier // 2**i for i in range(5)}
    return {side: c for side, c in table.items() if side <= size}


def tapered_channels(size: int, base: int = 32768, maximum: int = 512) -> dict[int, int]:
    """Channels by resolution, base/side but at most `maximum` (the published `channel_base`)."""
    sides = (4 << i for i in range(int(math.log2(size)) - 1))
    return {side: min(base // side, maximum) for side in sides}


class Block(nn.Module):
    """Two 3×3 convolutions, the second behind a blur with stride 2."""

    features: int
    blur_kernel: tuple[float, ...] = (1, 3, 3, 1)
    dtype: jnp.dtype | None = None
    clamp: float | None = None
    activation: str = 'lrelu'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        common = dict(
            resample_filter=self.blur_kernel,
            activation=self.activation,
            clamp=self.clamp,
            dtype=self.dtype,
        )
        y = EqualizedConv(x.shape[-1], **common, name='conv0')(x)
        return EqualizedConv(self.features, down=2, **common, name='conv1')(y)


class ResidualBlock(Block):
    """The same, and beside it blur and 1×1."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = super().__call__(x)
        x = EqualizedConv(
            self.features,
            1,
            down=2,
            resample_filter=self.blur_kernel,
            use_bias=False,
            dtype=self.dtype,
            name='skip',
        )(x)
        return (x + y) * math.sqrt(1 / 2)


class Discriminator(nn.Module):
    """Scores images, optionally with their coordinates and conditioned on a label.

    Attributes:
      size: side or (height, width) of the images: both a power of two times the last block's side.
      channels: channels by resolution, from 4 up to the shorter side; None: the paper's.
      image_channels: 3 for RGB.
      coordinates: x and y of every pixel are two more input channels.
      first_layers: extra 3×3 layers at full resolution.
      blur_kernel: taps of the low-pass filter before each halving.
      minibatch_std_group, minibatch_std_features, minibatch_std_grouping: see `minibatch_std`; a
        group of 0 leaves the statistic out.
      num_classes: projection discriminator on a label embedding, if not 0.
      dtype: of the convolutions; the last dense layers are float32 at least.
      remat: recompute each block in the backward pass.
      architecture: 'resnet'; 'skip': every resolution sees the downsampled image; or 'orig'.
      clamp: limits the magnitude behind each convolution that has an activation (256 in the
        released StyleGAN2 models).
      label_layers: dense layers of a mapping network behind the label's embedding (8 in the
        released StyleGAN2-ADA models); 0: the embedding alone.
      label_features: width of that embedding; None: channels[4].
      low_precision_blocks: so many of the highest resolutions are in `dtype`; None: all, and the
        last convolution too.
      activation: of all layers but the last.
    """

    size: int | tuple[int, int] = 256
    channels: dict[int, int] | None = None
    image_channels: int = 3
    coordinates: bool = False
    first_layers: int = 0
    blur_kernel: tuple[float, ...] = (1, 3, 3, 1)
    minibatch_std_group: int = 4
    minibatch_std_features: int = 1
    minibatch_std_grouping: str = 'contiguous'
    num_classes: int = 0
    dtype: jnp.dtype | None = None
    remat: bool = False
    architecture: str = 'resnet'
    clamp: float | None = None
    label_layers: int = 0
    label_features: int | None = None
    low_precision_blocks: int | None = None
    activation: str = 'lrelu'

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = self.frame
        shorter = min(height, width)
        if shorter < 4 or shorter & (shorter - 1):
            raise ValueError(f'the shorter side must be a power of two from 4, got {self.size}')
        if (height * 4) % shorter or (width * 4) % shorter:
            raise ValueError(
                f'both sides must be multiples of {shorter // 4} so that they can be halved '
                f'down to a shorter side of 4, got {self.size}'
            )
        for name, allowed in (
            ('minibatch_std_grouping', GROUPINGS),
            ('architecture', ARCHITECTURES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f'{name} must be one of {allowed}, got {getattr(self, name)!r}')
        for name in ('minibatch_std_group', 'first_layers', 'num_classes', 'label_layers'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must be 0 (none) or more, got {getattr(self, name)}')
        activation(self.activation)
        channels = self._channels()
        missing = [r for r in self._resolutions() if r not in channels]
        if missing:
            raise ValueError(f'channels has no entry for the resolutions {missing}')
        if min(channels.values()) < 1:
            raise ValueError(f'channels must be positive, got {channels}')

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    def _resolutions(self) -> list[int]:
        shorter = min(self.frame)
        return [shorter >> i for i in range(int(math.log2(shorter)) - 1)]

    def _channels(self) -> dict[int, int]:
        if self.channels is None:
            return paper_channels(min(self.frame))
        # Keys are strings where the table came through flax's or JSON's mappings.
        return {int(side): int(c) for side, c in self.channels.items()}

    def _dtype(self, index: int) -> jnp.dtype | None:
        """Of the resolution number `index` from the top."""
        blocks = self.low_precision_blocks
        return self.dtype if blocks is None or index < blocks else None

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        label: jax.Array | None = None,
        *,
        coords: jax.Array | None = None,
    ) -> jax.Array:
        """Scores `[B]` of `image [B, H, W, C]`, with `coords [1 or B, H, W, 2]` if asked for.

        `label` is `[B]` integers, or vectors `[B, num_classes]`.

        Raises:
          ValueError: an image of another size, coordinates or labels missing or not expected.
        """
        self._check(image, label, coords)
        channels, resolutions = self._channels(), self._resolutions()
        if self.coordinates:
            coords = jnp.broadcast_to(coords, (*image.shape[:3], 2))
            image = jnp.concatenate([image, coords], axis=-1)
        x = self._from_rgb(image, 0, 'from_rgb')
        conv = dict(activation=self.activation, clamp=self.clamp)
        for i in range(self.first_layers):
            x = EqualizedConv(x.shape[-1], **conv, dtype=self._dtype(0), name=f'first_{i}')(x)
        block = ResidualBlock if self.architecture == 'resnet' else Block
        block = nn.remat(block) if self.remat else block
        for i, side in enumerate(resolutions[:-1]):
            common = dict(dtype=self._dtype(i), clamp=self.clamp, activation=self.activation)
            x = x.astype(common['dtype'] or jnp.promote_types(x.dtype, jnp.float32))
            features = channels[resolutions[i + 1]]
            x = block(features, self.blur_kernel, **common, name=f'block_{side}')(x)
            if self.architecture == 'skip':
                image = downsample2d(image, setup_filter(self.blur_kernel))
                x = x + self._from_rgb(image, i + 1, f'from_rgb_{resolutions[i + 1]}')
        if self.low_precision_blocks is not None:
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.minibatch_std_group:
            x = minibatch_std(
                x,
                group=self.minibatch_std_group,
                features=self.minibatch_std_features,
                grouping=self.minibatch_std_grouping,
            )
        last = self._dtype(len(resolutions))
        x = EqualizedConv(channels[4], **conv, dtype=last, name='final_conv')(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(x.shape[0], -1)
        x = EqualizedDense(channels[4], activation=self.activation, name='final_dense')(x)
        if label is None:
            return EqualizedDense(1, name='score')(x)[:, 0]
        width = self.label_features or channels[4]
        x = EqualizedDense(width, name='score')(x)
        return jnp.sum(x * self._embed(label, width, x.dtype), axis=-1) / math.sqrt(width)

    def _from_rgb(self, image: jax.Array, index: int, name: str) -> jax.Array:
        """The image as features of the resolution number `index` from the top."""
        side = self._resolutions()[index]
        # The last one is behind the clamped blocks in the published code.
        clamp = None if name == 'from_rgb_4' else self.clamp
        return EqualizedConv(
            self._channels()[side],
            1,
            activation=self.activation,
            clamp=clamp,
            dtype=self._dtype(index),
            name=name,
        )(image)

    def _embed(self, label: jax.Array, width: int, dtype: jnp.dtype) -> jax.Array:
        if self.label_layers:
            return MappingNetwork(
                width,
                self.label_layers,
                num_classes=self.num_classes,
                average_decay=None,
                name='mapping',
            )(None, label)
        vectors = label_vectors(label, self.num_classes, dtype)
        return normalize_second_moment(EqualizedDense(width, name='label')(vectors))

    def _check(self, image: jax.Array, label: jax.Array | None, coords: jax.Array | None) -> None:
        if image.shape[1:] != (*self.frame, self.image_channels):
            raise ValueError(
                f'images must be {(*self.frame, self.image_channels)}, got {image.shape[1:]}'
            )
        if (coords is not None) != self.coordinates:
            given = 'not given' if coords is None else 'given'
            raise ValueError(f'coordinates is {self.coordinates} but coords is {given}')
        if (label is not None) != (self.num_classes > 0):
            given = 'not given' if label is None else 'given'
            raise ValueError(f'num_classes is {self.num_classes} but label is {given}')
