"""StyleGAN2 (arXiv 1912.04958): a generator of convolutions whose weights a style modulates.

    z → mapping → w;   constant [4, 4] → blocks of 3×3 convolutions, each twice the resolution of
    the one before → image

`w` is `[B, num_ws, style]`, one for each convolution in order; a block's ToRGB takes that of the
convolution that comes next. Images are `[B, H, W, C]` around [-1, 1] (no tanh).
The paper's configurations, as far as they are architecture: A is `normalization='instance'` with
`architecture='orig'`, B to D `architecture='orig'`, E the default with half of `channel_base`, and
F the default.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.models.discriminator import ARCHITECTURES, tapered_channels
from jaxgen.nn.equalized import EqualizedConv, EqualizedDense
from jaxgen.nn.mapping import MappingNetwork, UpdateAverage
from jaxgen.ops.activations import activation, bias_act
from jaxgen.ops.modulation import modulated_conv2d
from jaxgen.ops.upfirdn2d import setup_filter, upsample2d

NOISES = ('none', 'const', 'random')
NORMALIZATIONS = ('demodulation', 'instance')
Noise = jax.Array | Sequence[jax.Array]


class NoisyLayer(nn.Module):
    """What a layer of the synthesis network does behind its convolution: noise, bias, activation.

    The noise is broadcast over the channels and scaled by one learned strength, 0 at first. The
    fixed map of noise='const' is in the collection 'stats', as it belongs to a trained model.
    """

    features: int
    kernel_size: int = 3
    up: int = 1
    noise: str = 'random'
    activation: str = 'lrelu'
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    clamp: float | None = None
    form: str | None = None
    dtype: jnp.dtype | None = None

    def finish(self, y: jax.Array, noise: jax.Array | None) -> jax.Array:
        """`y [B, H, W, features]`; `noise [1 or B, H, W, 1]` instead of the module's own."""
        if self.noise != 'none':
            strength = self.param('noise_scale', nn.initializers.zeros, ())
            fixed = self.variable('stats', 'noise', self._draw, y.shape[1:3]).value
            if noise is None and self.noise == 'const':
                noise = fixed[None, :, :, None]
            if noise is not None:
                y = y + (strength * noise).astype(y.dtype)
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return bias_act(y, bias, kind=self.activation, limit=self.clamp)

    def _draw(self, shape: tuple[int, int]) -> jax.Array:
        return jax.random.normal(self.make_rng('params'), shape)


class StyledConv(NoisyLayer):
    """A layer of the revised network (Fig. 2d): modulated, convolved, demodulated.

    Its kernel is not scaled for equalised learning rate: demodulation undoes any scale.
    """

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        channels, side = x.shape[-1], self.kernel_size
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, self.features)
        )
        y = modulated_conv2d(
            x,
            kernel,
            EqualizedDense(channels, bias_init=1.0, name='affine')(w),
            f=setup_filter(self.resample_filter),
            up=self.up,
            padding=side // 2,
            flip_kernel=self.up > 1,
            form=self.form,
            dtype=self.dtype,
        )
        return self.finish(y, noise)


class AdaINConv(NoisyLayer):
    """A layer of the first StyleGAN (Fig. 2b): convolution, noise, bias, activation, then AdaIN.

    What applied the same to the constant is left out, as the paper does from B on. Each channel of
    each image is normalised by its own mean and deviation over the pixels, then
    scaled and shifted by the style: what gives the paper's droplets.
    """

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        y = EqualizedConv(
            self.features,
            self.kernel_size,
            up=self.up,
            resample_filter=self.resample_filter,
            use_bias=False,
            dtype=self.dtype,
            name='conv',
        )(x)
        y = self.finish(y, noise)
        style = EqualizedDense(2 * self.features, name='affine')(w)[:, None, None, :]
        scale, shift = jnp.split(style, 2, axis=-1)
        wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        wide = wide - wide.mean((1, 2), keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.square(wide).mean((1, 2), keepdims=True) + 1e-8)
        return ((1 + scale) * wide + shift).astype(y.dtype)


class ToRGB(nn.Module):
    """Features to colours: modulated without demodulation, its style scaled by 1/√fan_in."""

    features: int = 3
    clamp: float | None = None
    form: str | None = None
    kernel_size: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        channels, side = x.shape[-1], self.kernel_size
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, self.features)
        )
        style = EqualizedDense(channels, bias_init=1.0, name='affine')(w)
        y = modulated_conv2d(
            x,
            kernel,
            style * (1 / math.sqrt(channels * side**2)),
            demodulate=False,
            padding=side // 2,
            form=self.form,
            dtype=self.dtype,
        )
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return bias_act(y, bias, limit=self.clamp)


class Block(nn.Module):
    """One resolution: convolutions conv0 (upsamples) and conv1, and what makes the image.

    `first` is the block at 4×4, which has conv1 only.
    """

    features: int
    image_channels: int
    architecture: str
    first: bool = False
    last: bool = False
    noise: str = 'random'
    normalization: str = 'demodulation'
    activation: str = 'lrelu'
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    clamp: float | None = None
    form: str | None = None
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        image: jax.Array | None,
        w: jax.Array,
        noise: Sequence[jax.Array | None],
    ) -> tuple[jax.Array, jax.Array | None]:
        """`x [B, H/2, W/2, in]`, `image` at the same size, and `w [B, layers, style]`."""
        x = x.astype(self.dtype or jnp.promote_types(x.dtype, jnp.float32))
        layer = StyledConv if self.normalization == 'demodulation' else AdaINConv
        common = dict(
            noise=self.noise,
            activation=self.activation,
            resample_filter=self.resample_filter,
            clamp=self.clamp,
            form=self.form,
            dtype=self.dtype,
        )
        y, styles = x, jnp.moveaxis(w, 1, 0)
        if not self.first:
            y = layer(self.features, up=2, **common, name='conv0')(y, styles[0], noise[0])
        convs = 1 if self.first else 2
        y = layer(self.features, **common, name='conv1')(y, styles[convs - 1], noise[-1])
        if self.architecture == 'resnet' and not self.first:
            skip = EqualizedConv(
                self.features,
                1,
                up=2,
                resample_filter=self.resample_filter,
                use_bias=False,
                dtype=self.dtype,
                name='skip',
            )(x)
            y = (y + skip) * math.sqrt(1 / 2)
        if image is not None:
            image = upsample2d(image, setup_filter(self.resample_filter))
        if self.last or self.architecture == 'skip':
            rgb = self._to_rgb(y, styles[convs])
            rgb = rgb.astype(jnp.promote_types(rgb.dtype, jnp.float32))
            image = rgb if image is None else image + rgb
        return y, image

    def _to_rgb(self, y: jax.Array, w: jax.Array) -> jax.Array:
        common = dict(clamp=self.clamp, dtype=self.dtype, name='to_rgb')
        if self.normalization == 'demodulation':
            return ToRGB(self.image_channels, form=self.form, **common)(y, w)
        return EqualizedConv(self.image_channels, 1, **common)(y)


class StyleGAN2Generator(nn.Module):
    """The generator.

    Attributes:
      size, image_channels: side of the images, a power of two from 8, and 3 for RGB.
      latent, style, mapping_layers, mapping_lr_multiplier, num_classes: the mapping network;
        mapping_features: width of its hidden layers, and label_features: of the label's embedding
        (None: `style`); average_decay: of the running mean of w.
      channel_base, channel_max: a block at resolution r has min(channel_base/r, channel_max)
        channels.
      architecture: 'skip': the image is the sum of one upsampled ToRGB per block; 'resnet': blocks
        have skip connections; 'orig': neither. The latter two have a single ToRGB at the end.
      normalization: 'demodulation', or 'instance' for the AdaIN of the first StyleGAN.
      noise: 'random' (new for every key, as in training), 'const' (the model's fixed maps), 'none'
        (and no strengths among the parameters). `clone(noise=…)` changes it.
      activation, resample_filter, clamp: of all blocks; `clamp` limits the magnitude behind each
        activation and of each ToRGB (256 in released models).
      form: of the modulation, 'weights' or 'activations'; None: by shape (`ops.modulation`).
      dtype: of the `low_precision_blocks` highest resolutions, e.g. bfloat16; None: float32.
      remat: recompute each block's activations in the backward pass.
    """

    size: int = 256
    image_channels: int = 3
    latent: int = 512
    style: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    num_classes: int = 0
    mapping_features: int | None = None
    label_features: int | None = None
    average_decay: float = 0.998
    channel_base: int = 32768
    channel_max: int = 512
    architecture: str = 'skip'
    normalization: str = 'demodulation'
    noise: str = 'random'
    activation: str = 'lrelu'
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    clamp: float | None = None
    form: str | None = None
    dtype: jnp.dtype | None = None
    low_precision_blocks: int = 4
    remat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 8 or self.size & (self.size - 1):
            raise ValueError(f'size must be a power of two from 8, got {self.size}')
        for name, allowed in (
            ('architecture', ARCHITECTURES),
            ('normalization', NORMALIZATIONS),
            ('noise', NOISES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f'{name} must be one of {allowed}, got {getattr(self, name)!r}')
        smallest = dict(image_channels=1, latent=1, style=1, mapping_layers=1, num_classes=0)
        for name, least in (smallest | dict(channel_max=1, channel_base=self.size)).items():
            if getattr(self, name) < least:
                raise ValueError(f'{name} must be {least} or more, got {getattr(self, name)}')
        activation(self.activation)

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.size, self.size

    @property
    def num_layers(self) -> int:
        """Number of convolutions with noise, 2·log2(size) - 3."""
        return 2 * int(math.log2(self.size)) - 3

    @property
    def num_ws(self) -> int:
        """Number of styles: one for each convolution, and one for the last ToRGB."""
        return self.num_layers + 1

    def setup(self) -> None:
        self.mapping_network = MappingNetwork(
            self.style,
            self.mapping_layers,
            self.mapping_lr_multiplier,
            self.num_classes,
            self.average_decay,
            self.mapping_features,
            self.label_features,
            self.num_ws,
            name='mapping',
        )
        channels = tapered_channels(self.size, self.channel_base, self.channel_max)
        self.constant = self.param('constant', nn.initializers.normal(1.0), (4, 4, channels[4]))
        block = nn.remat(Block) if self.remat else Block
        self.blocks = [
            block(
                count,
                self.image_channels,
                self.architecture,
                first=side == 4,
                last=side == self.size,
                noise=self.noise,
                normalization=self.normalization,
                activation=self.activation,
                resample_filter=self.resample_filter,
                clamp=self.clamp,
                form=self.form,
                dtype=self.dtype if side > self.size >> self.low_precision_blocks else None,
                name=f'block_{side}',
            )
            for side, count in channels.items()
        ]

    def mapping(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array | None = None,
        truncation_cutoff: int | None = None,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
        """`z [B, latent]` to `w [B, num_ws, style]`; see `MappingNetwork`."""
        return self.mapping_network(
            z,
            label,
            truncation=truncation,
            truncation_cutoff=truncation_cutoff,
            update_average=update_average,
        )

    def make_noise(self, noise: Noise | None) -> Sequence[jax.Array | None]:
        """Maps `[B, r, r, 1]` of all layers from `[B]` keys; None where layers have their own."""
        if isinstance(noise, tuple | list):
            if len(noise) != self.num_layers:
                raise ValueError(f'noise must have {self.num_layers} maps, got {len(noise)}')
            return noise
        if self.noise != 'random':
            return (None,) * self.num_layers
        if noise is None:
            raise ValueError("noise='random' needs a key for each example")
        fold_in = jax.vmap(jax.random.fold_in, (0, None))

        def draw(i: int) -> jax.Array:
            side = 4 << (i + 1) // 2
            keys = fold_in(noise, i)
            return jax.vmap(lambda key: jax.random.normal(key, (side, side, 1)))(keys)

        return tuple(map(draw, range(self.num_layers)))

    def synthesize(self, w: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Images `[B, size, size, C]` from styles.

        Args:
          w: `[B, num_ws, style]` (style mixing: those of two latents, joined along axis 1),
            or `[B, style]` for the same in every layer.
          noise: `[B]` keys, needed for noise='random' only; or instead `num_layers` maps
            `[1 or B, r, r, 1]`.
        """
        if w.ndim == 2:
            w = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, w.shape[1]))
        if w.shape[1] != self.num_ws:
            raise ValueError(f'w must have {self.num_ws} styles, got {w.shape[1]}')
        maps = self.make_noise(noise)
        x = jnp.broadcast_to(self.constant[None], (w.shape[0], *self.constant.shape))
        image, start = None, 0
        for block in self.blocks:
            stop = start + (1 if block.first else 2)
            x, image = block(x, image, w[:, start : stop + 1], maps[start:stop])
            start = stop
        return image

    def generate(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        noise: Noise | None = None,
        **options: float | jax.Array | None,
    ) -> jax.Array:
        """Latents `[B, latent]` to images `[B, size, size, C]`; `options` of `mapping`."""
        return self.synthesize(self.mapping(z, label, **options), noise)

    __call__ = generate
