"""StyleGAN2 (arXiv 1912.04958): a generator of convolutions whose weights a style modulates.

    z → mapping → w;   constant [4, 4] → blocks of 3×3 convolutions, each twice the resolution of
    the one before → image

`w` is `[B, num_ws, style]`, one for each convolution in order; a block's ToRGB takes that of the
convolution that comes next. Images are `[B, H, W, C]` around [-1, 1] (no tanh).
The paper's configurations, as far as they are architecture: A is `normalization='instance'` with
`architecture='orig'`, B to D `architecture='orig'`, E the default with half of `channel_base`, and
F the default. Of the ladder of StyleGAN3 (arXiv 2106.12423), A is the default, B also
`fourier_input=True`, C also `noise='none'`, D also `architecture='orig'`, `mapping_layers=2` and
`normalize_inputs=True`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.models.discriminator import ARCHITECTURES, tapered_channels
from jaxgen.models.style_generator import StyleGenerator
from jaxgen.nn.equalized import EqualizedConv, EqualizedDense
from jaxgen.nn.fourier_input import FourierInput
from jaxgen.nn.magnitude import input_gain
from jaxgen.nn.mapping import UpdateAverage
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
    magnitude_decay: float | None = None

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

    Its kernel is not scaled for equalised learning rate: demodulation undoes any scale. With
    `magnitude_decay` the input is scaled to unit magnitude, as of that running mean.
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        w: jax.Array,
        noise: jax.Array | None = None,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
        decay = self.magnitude_decay
        channels, side = x.shape[-1], self.kernel_size
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, self.features)
        )
        y = modulated_conv2d(
            x,
            kernel,
            EqualizedDense(channels, bias_init=1.0, name='affine')(w),
            input_gain=None if decay is None else input_gain(self, x, decay, update_average),
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
    def __call__(
        self,
        x: jax.Array,
        w: jax.Array,
        noise: jax.Array | None = None,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
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
    magnitude_decay: float | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, w: jax.Array, update_average: UpdateAverage = False
    ) -> jax.Array:
        channels, side, decay = x.shape[-1], self.kernel_size, self.magnitude_decay
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, self.features)
        )
        style = EqualizedDense(channels, bias_init=1.0, name='affine')(w)
        y = modulated_conv2d(
            x,
            kernel,
            style * (1 / math.sqrt(channels * side**2)),
            demodulate=False,
            input_gain=None if decay is None else input_gain(self, x, decay, update_average),
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
    magnitude_decay: float | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        image: jax.Array | None,
        w: jax.Array,
        noise: Sequence[jax.Array | None],
        update_average: UpdateAverage = False,
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
            magnitude_decay=self.magnitude_decay,
        )
        y, styles = x, jnp.moveaxis(w, 1, 0)
        if not self.first:
            conv0 = layer(self.features, up=2, **common, name='conv0')
            y = conv0(y, styles[0], noise[0], update_average)
        convs = 1 if self.first else 2
        conv1 = layer(self.features, **common, name='conv1')
        y = conv1(y, styles[convs - 1], noise[-1], update_average)
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
            rgb = self._to_rgb(y, styles[convs], update_average)
            rgb = rgb.astype(jnp.promote_types(rgb.dtype, jnp.float32))
            image = rgb if image is None else image + rgb
        return y, image

    def _to_rgb(self, y: jax.Array, w: jax.Array, update_average: UpdateAverage) -> jax.Array:
        common = dict(clamp=self.clamp, dtype=self.dtype, name='to_rgb')
        if self.normalization == 'demodulation':
            common |= dict(form=self.form, magnitude_decay=self.magnitude_decay)
            return ToRGB(self.image_channels, **common)(y, w, update_average)
        return EqualizedConv(self.image_channels, 1, **common)(y)


class StyleGAN2Generator(StyleGenerator):
    """The generator. See `StyleGenerator` for the other attributes.

    Attributes:
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
      fourier_input: fixed sines, which can be moved, in place of the learned constant.
      normalize_inputs: scale the input of each layer to unit magnitude, by a running mean that
        decays with `magnitude_decay`.
    """

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
    fourier_input: bool = False
    normalize_inputs: bool = False
    magnitude_decay: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (
            ('architecture', ARCHITECTURES),
            ('normalization', NORMALIZATIONS),
            ('noise', NOISES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f'{name} must be one of {allowed}, got {getattr(self, name)!r}')
        if self.channel_base < self.size:
            raise ValueError(f'channel_base must be {self.size} or more, got {self.channel_base}')
        if self.normalize_inputs and self.normalization != 'demodulation':
            raise ValueError("normalize_inputs must be left out for normalization='instance'")
        activation(self.activation)

    @property
    def takes_transform(self) -> bool:
        """Whether the input can be moved."""
        return self.fourier_input

    @property
    def num_layers(self) -> int:
        """Number of convolutions with noise, 2·log2(size) - 3."""
        return 2 * int(math.log2(self.size)) - 3

    @property
    def num_ws(self) -> int:
        """Number of styles: one for each convolution, and one for the last ToRGB."""
        return self.num_layers + 1

    def setup(self) -> None:
        super().setup()
        channels = tapered_channels(self.size, self.channel_base, self.channel_max)
        if self.fourier_input:
            # At the cutoff of 2 that 4×4 samples hold.
            self.input = FourierInput(channels[4], (4, 4), 4.0, 2.0, learned_transform=False)
        else:
            self.constant = self.param('constant', nn.initializers.normal(1.0), (4, 4, channels[4]))
        block = nn.remat(Block, static_argnums=(5,)) if self.remat else Block
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
                magnitude_decay=self.magnitude_decay if self.normalize_inputs else None,
                name=f'block_{side}',
            )
            for side, count in channels.items()
        ]

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

    def synthesize(
        self,
        w: jax.Array,
        noise: Noise | None = None,
        transform: jax.Array | None = None,
        *,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
        """Images `[B, size, size, C]` from styles.

        Args:
          w: `[B, num_ws, style]` (style mixing: those of two latents, joined along axis 1),
            or `[B, style]` for the same in every layer.
          noise: `[B]` keys, needed for noise='random' only; or instead `num_layers` maps
            `[1 or B, r, r, 1]`.
          transform: of a Fourier input, see `StyleGAN3Generator.synthesize`.
          update_average: moves the running magnitudes before they are used, if there are any; see
            `MappingNetwork`.
        """
        w, maps = self.each_style(w), self.make_noise(noise)
        if self.fourier_input:
            x = self.input(w[:, 0], transform)
        elif transform is None:
            x = jnp.broadcast_to(self.constant[None], (w.shape[0], *self.constant.shape))
        else:
            raise ValueError('transform must be left out: a learned constant cannot be moved')
        image, start = None, 0
        for block in self.blocks:
            stop = start + (1 if block.first else 2)
            styles = w[:, start : stop + 1]
            x, image = block(x, image, styles, maps[start:stop], update_average)
            start = stop
        return image
