"""The residual discriminator of StyleGAN2 (arXiv 1912.04958, section 4.1), as CIPS uses it.

Images `[B, H, W, C]` to scores `[B]`. Blurs are [1, 3, 3, 1]; sums of two paths are divided by √2.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedConv, EqualizedDense
from jaxgen.nn.mapping import normalize_second_moment
from jaxgen.nn.minibatch_std import GROUPINGS, minibatch_std
from jaxgen.ops.filters import filter2d, normalized


def paper_channels(size: int, channel_multiplier: int = 2) -> dict[int, int]:
    """Channels by resolution: 512 up to 64² (with multiplier 2), then halved at each doubling."""
    table = {4: 512, 8: 512, 16: 512, 32: 512}
    table |= {64 * 2**i: 256 * channel_multiplier // 2**i for i in range(5)}
    return {side: c for side, c in table.items() if side <= size}


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, the second behind a blur with stride 2; beside them blur and 1×1."""

    features: int
    blur_kernel: tuple[float, ...] = (1, 3, 3, 1)
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        taps = normalized(self.blur_kernel)
        channels = x.shape[-1]
        y = EqualizedConv(
            channels, 3, padding=1, activation='lrelu', dtype=self.dtype, name='conv0'
        )(x)
        # Padded so that 3×3 with stride 2 sees the blurred image centred between pixels.
        extra = len(taps) - 2 + 2
        y = filter2d(y, taps, ((extra + 1) // 2, extra // 2))
        y = EqualizedConv(
            self.features, 3, stride=2, activation='lrelu', dtype=self.dtype, name='conv1'
        )(y)
        extra = len(taps) - 2
        x = filter2d(x, taps, ((extra + 1) // 2, extra // 2), stride=2)
        x = EqualizedConv(self.features, 1, use_bias=False, dtype=self.dtype, name='skip')(x)
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
        if self.minibatch_std_grouping not in GROUPINGS:
            raise ValueError(
                f'minibatch_std_grouping must be one of {GROUPINGS}, '
                f'got {self.minibatch_std_grouping!r}'
            )
        for name in ('minibatch_std_group', 'first_layers', 'num_classes'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must be 0 (none) or more, got {getattr(self, name)}')
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

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        label: jax.Array | None = None,
        *,
        coords: jax.Array | None = None,
    ) -> jax.Array:
        """Scores `[B]` of `image [B, H, W, C]`, with `coords [1 or B, H, W, 2]` if asked for.

        Raises:
          ValueError: an image of another size, coordinates or labels missing or not expected.
        """
        self._check(image, label, coords)
        channels, resolutions = self._channels(), self._resolutions()
        x = image
        if self.coordinates:
            coords = jnp.broadcast_to(coords, (*image.shape[:3], 2))
            x = jnp.concatenate([image, coords], axis=-1)
        conv = dict(activation='lrelu', dtype=self.dtype)
        x = EqualizedConv(channels[resolutions[0]], 1, **conv, name='from_rgb')(x)
        for i in range(self.first_layers):
            x = EqualizedConv(x.shape[-1], 3, padding=1, **conv, name=f'first_{i}')(x)
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        for side, next_side in zip(resolutions[:-1], resolutions[1:], strict=True):
            x = block(channels[next_side], self.blur_kernel, self.dtype, name=f'block_{side}')(x)
        if self.minibatch_std_group:
            x = minibatch_std(
                x,
                group=self.minibatch_std_group,
                features=self.minibatch_std_features,
                grouping=self.minibatch_std_grouping,
            )
        x = EqualizedConv(channels[4], 3, padding=1, **conv, name='final_conv')(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(x.shape[0], -1)
        x = EqualizedDense(channels[4], activation='lrelu', name='final_dense')(x)
        if label is None:
            return EqualizedDense(1, name='score')(x)[:, 0]
        x = EqualizedDense(channels[4], name='score')(x)
        one_hot = jax.nn.one_hot(label, self.num_classes, dtype=x.dtype)
        embedded = normalize_second_moment(EqualizedDense(channels[4], name='label')(one_hot))
        return jnp.sum(x * embedded, axis=-1) / math.sqrt(channels[4])

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
