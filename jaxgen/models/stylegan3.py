"""StyleGAN3 (arXiv 2106.12423): an alias-free generator.

    z → mapping → w;   Fourier features, moved by w → layers → image

The layers, planned in `models.stylegan3_plan`, work on samples of continuous signals: what a layer
may not hold is filtered out, so that moving the input moves the image and nothing sticks to the
pixels.

`w` is `[B, num_ws, style]`: one for the input, each layer and ToRGB. Images are `[B, H, W, C]`
around [-1, 1] (no tanh). The paper's configurations, as far as they are architecture: T is the
default, R also `kernel_size=1, radial=True` and twice the channels. H is T with `flexible=False`, G
also `learned_transform=False`, F also `num_critical=num_layers`, E also `lrelu_upsampling=1`.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.models.style_generator import StyleGenerator
from jaxgen.models.stylegan3_plan import LayerSpec, flexible_bands, layer_specs, octave_bands
from jaxgen.nn.equalized import EqualizedDense
from jaxgen.nn.fourier_input import FourierInput
from jaxgen.nn.magnitude import input_gain
from jaxgen.nn.mapping import UpdateAverage
from jaxgen.ops.filtered_lrelu import filtered_lrelu
from jaxgen.ops.modulation import modulated_conv2d, normalize_modulation


class Layer(nn.Module):
    """Input scaled to unit magnitude, modulated convolution, bias, filtered nonlinearity.

    The magnitude is a running mean of the squared input in the collection 'stats'.
    """

    spec: LayerSpec
    clamp: float | None = 256.0
    magnitude_decay: float = 0.999
    remat: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, w: jax.Array, update_average: UpdateAverage = False
    ) -> jax.Array:
        """`x [B, *in_size, in]` and `w [B, style]` to `[B, *out_size, out_channels]`."""
        spec, channels = self.spec, x.shape[-1]
        side = spec.kernel_size
        gain = input_gain(self, x, self.magnitude_decay, update_average)
        style = EqualizedDense(channels, bias_init=1.0, name='affine')(w)
        kernel = self.param(
            'kernel', nn.initializers.normal(1.0), (side, side, channels, spec.out_channels)
        )
        if spec.to_rgb:
            style = style * (1 / math.sqrt(channels))
        else:
            kernel, style = normalize_modulation(kernel, style)
        x = modulated_conv2d(
            x,
            kernel,
            style,
            demodulate=not spec.to_rgb,
            input_gain=gain,
            padding=side - 1,
            dtype=self.dtype or jnp.promote_types(x.dtype, jnp.float32),
        )
        bias = self.param('bias', nn.initializers.zeros, (spec.out_channels,))
        return filtered_lrelu(
            x,
            spec.up_filter(),
            spec.down_filter(),
            bias,
            up=spec.up,
            down=spec.down,
            padding=spec.padding,
            gain=1.0 if spec.to_rgb else math.sqrt(2),
            slope=1.0 if spec.to_rgb else 0.2,
            limit=self.clamp,
            remat=self.remat,
        )


class StyleGAN3Generator(StyleGenerator):
    """The generator. See `StyleGenerator` for the other attributes.

    Attributes:
      channel_base, channel_max: a layer with the cutoff f has min(channel_base/2f, channel_max)
        channels.
      num_layers: without ToRGB. num_critical: so many layers before ToRGB are critically sampled.
      first_cutoff, first_stopband: of the first layer; last_stopband_rel: the last layer's stop
        band over its cutoff, which is size/2.
      margin: pixels of the canvas beyond each side of the image, at every rate.
      output_scale: of the image.
      kernel_size: of the convolutions, 3 (T) or 1 (R).
      radial: filters that are the same in every direction (R).
      filter_size: taps of a filter for each unit of its factor.
      lrelu_upsampling: of the nonlinearity, 1 for none (up to configuration E).
      learned_transform: whether w translates and rotates the input (from configuration H on).
      clamp: limits the magnitude behind each nonlinearity; None: no limit.
      magnitude_decay: of the running mean of each layer's squared input.
      dtype: of the layers within the `low_precision_blocks` highest octaves, e.g. bfloat16; None:
        float32.
      remat: compute the upsampled features of each nonlinearity again in the backward pass.
      flexible: layers of configuration T; else those of H, two for every octave, which leaves
        `num_layers`, `first_cutoff`, `first_stopband` and `last_stopband_rel` unused.
    """

    smallest: ClassVar[int] = 16
    takes_transform: ClassVar[bool] = True

    mapping_layers: int = 2
    num_layers: int = 14
    num_critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3
    margin: int = 10
    output_scale: float = 0.25
    kernel_size: int = 3
    radial: bool = False
    filter_size: int = 6
    lrelu_upsampling: int = 2
    learned_transform: bool = True
    clamp: float | None = 256.0
    magnitude_decay: float = 0.999
    dtype: jnp.dtype | None = None
    low_precision_blocks: int = 4
    remat: bool = True
    flexible: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {self.kernel_size}')
        self.specs()

    @property
    def num_ws(self) -> int:
        """Number of styles: the input's, one for each layer, and ToRGB's."""
        return len(self.specs()[1]) + 1

    def specs(self) -> tuple[int, tuple[LayerSpec, ...]]:
        """The channels of the input, and the plan of the layers, ToRGB last."""
        if self.flexible:
            bands = flexible_bands(
                self.size,
                self.num_layers,
                self.num_critical,
                self.first_cutoff,
                self.first_stopband,
                self.last_stopband_rel,
            )
        else:
            bands = octave_bands(self.size, self.num_critical)
        return layer_specs(
            bands,
            self.size,
            image_channels=self.image_channels,
            channel_base=self.channel_base,
            channel_max=self.channel_max,
            num_critical=self.num_critical,
            margin=self.margin,
            kernel_size=self.kernel_size,
            filter_size=self.filter_size,
            lrelu_upsampling=self.lrelu_upsampling,
            radial=self.radial,
        )

    def setup(self) -> None:
        super().setup()
        channels, specs = self.specs()
        first = specs[0]
        self.input = FourierInput(
            channels, first.in_size, first.in_rate, first.in_cutoff, self.learned_transform
        )
        self.layers = [
            Layer(
                spec,
                self.clamp,
                self.magnitude_decay,
                self.remat,
                self.dtype if spec.out_rate * 2**self.low_precision_blocks > self.size else None,
                name='to_rgb' if spec.to_rgb else f'layer_{i}',
            )
            for i, spec in enumerate(specs)
        ]

    def synthesize(
        self,
        w: jax.Array,
        transform: jax.Array | None = None,
        *,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
        """Images `[B, size, size, C]` from styles.

        Args:
          w: `[B, num_ws, style]`, or `[B, style]` for the same in every layer.
          transform: `[3, 3]`, or one for each image: the *inverse* of what shall happen to the
            image, acting on (x, y, 1) with sides of length 1, the origin in the middle, y down.
          update_average: moves the running magnitudes before they are used; see
            `MappingNetwork`.
        """
        w = self.each_style(w)
        x = self.input(w[:, 0], transform)
        for i, layer in enumerate(self.layers):
            x = layer(x.astype(layer.dtype or x.dtype), w[:, i + 1], update_average)
        return self.output_scale * x.astype(jnp.promote_types(x.dtype, jnp.float32))
