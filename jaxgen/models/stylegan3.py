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

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.models.stylegan3_plan import LayerSpec, flexible_bands, layer_specs, octave_bands
from jaxgen.nn.equalized import EqualizedDense
from jaxgen.nn.mapping import MappingNetwork, UpdateAverage, over_devices
from jaxgen.ops.filtered_lrelu import filtered_lrelu
from jaxgen.ops.modulation import modulated_conv2d, normalize_modulation


class FourierInput(nn.Module):
    """Sines of fixed random frequencies on a canvas, translated and rotated by w (section 3.2).

    Frequencies (uniform in the disc below the cutoff) and phases are in the collection 'stats', as
    they belong to a trained model.

    Attributes:
      size: (height, width) of the canvas. rate: its samples per side of the image.
      cutoff: the largest frequency.
      learned_transform: whether w moves the canvas (from configuration H on).
    """

    channels: int
    size: tuple[int, int]
    rate: float
    cutoff: float
    learned_transform: bool = True

    @nn.compact
    def __call__(self, w: jax.Array, transform: jax.Array | None = None) -> jax.Array:
        """`[B, height, width, channels]`; see `StyleGAN3Generator.synthesize` for `transform`."""
        frequencies = self.variable('stats', 'frequencies', self._draw_frequencies).value
        phases = self.variable('stats', 'phases', self._draw_phases).value
        matrix = self._transform(w, transform)
        # Written out, not as matmuls: a TPU would round the coordinates to bfloat16.
        fx, fy = frequencies[None, :, 0], frequencies[None, :, 1]
        m = matrix[:, :, :, None]
        phases = phases[None] + fx * m[:, 0, 2] + fy * m[:, 1, 2]
        fx, fy = fx * m[:, 0, 0] + fy * m[:, 1, 0], fx * m[:, 0, 1] + fy * m[:, 1, 1]
        # What the transform makes faster than the canvas can hold fades out.
        beyond = (jnp.sqrt(fx**2 + fy**2) - self.cutoff) / (self.rate / 2 - self.cutoff)
        amplitudes = jnp.clip(1 - beyond, 0, 1)
        height, width = self.size
        y = ((np.arange(height) + 0.5 - height / 2) / self.rate)[None, :, None, None]
        x = ((np.arange(width) + 0.5 - width / 2) / self.rate)[None, None, :, None]
        turns = (v[:, None, None, :] for v in (fx, fy, phases))
        fx, fy, phases = turns
        waves = jnp.sin(2 * np.pi * (fx * x + fy * y + phases)) * amplitudes[:, None, None, :]
        kernel = self.param('kernel', nn.initializers.normal(1.0), (self.channels, self.channels))
        return waves @ (kernel * (1 / math.sqrt(self.channels)))

    def _transform(self, w: jax.Array, user: jax.Array | None) -> jax.Array:
        """`[1 or B, 3, 3]`: rotation and translation by w, behind the user's."""
        matrix = jnp.eye(3)[None] if user is None else user.reshape(-1, 3, 3)
        if not self.learned_transform:
            return jnp.broadcast_to(matrix, (w.shape[0], 3, 3))
        t = EqualizedDense(4, bias_init=(1.0, 0.0, 0.0, 0.0), kernel_scale=0.0, name='affine')(w)
        t = t / jnp.sqrt(jnp.sum(jnp.square(t[:, :2]), axis=1, keepdims=True))
        cos, sin, x, y = jnp.moveaxis(t, 1, 0)[:, :, None]
        rows = (matrix[:, i] for i in range(3))
        first, second, third = rows
        first, second = first - x * third, second - y * third
        return jnp.stack(
            [cos * first - sin * second, sin * first + cos * second, third + 0 * cos], axis=1
        )

    def _draw_frequencies(self) -> jax.Array:
        radius, angle = jax.random.uniform(self.make_rng('params'), (2, self.channels))
        radius, angle = self.cutoff * jnp.sqrt(radius), 2 * np.pi * angle
        return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=1)

    def _draw_phases(self) -> jax.Array:
        return jax.random.uniform(self.make_rng('params'), (self.channels,)) - 0.5


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
        magnitude = self.variable('stats', 'magnitude', jnp.ones, ())
        if update_average and not self.is_initializing():
            wide = jax.lax.stop_gradient(x).astype(jnp.promote_types(x.dtype, jnp.float32))
            square = over_devices(jnp.mean(jnp.square(wide)), update_average)
            magnitude.value = square + self.magnitude_decay * (magnitude.value - square)
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
            input_gain=jax.lax.rsqrt(magnitude.value),
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


class StyleGAN3Generator(nn.Module):
    """The generator.

    Attributes:
      size: side of the images, a power of two from 16.
      image_channels: 3 for RGB.
      latent, style, mapping_layers, mapping_lr_multiplier, num_classes: the mapping network;
        mapping_features: width of its hidden layers, and label_features: of the label's embedding
        (None: `style`); average_decay: of the running mean of w.
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

    size: int = 256
    image_channels: int = 3
    latent: int = 512
    style: int = 512
    mapping_layers: int = 2
    mapping_lr_multiplier: float = 0.01
    num_classes: int = 0
    mapping_features: int | None = None
    label_features: int | None = None
    average_decay: float = 0.998
    channel_base: int = 32768
    channel_max: int = 512
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
        if self.size < 16 or self.size & (self.size - 1):
            raise ValueError(f'size must be a power of two from 16, got {self.size}')
        for name in ('image_channels', 'latent', 'style', 'mapping_layers', 'channel_max'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {self.kernel_size}')
        if self.num_classes < 0:
            raise ValueError(f'num_classes must be 0 (none) or more, got {self.num_classes}')
        self.specs()

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.size, self.size

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
        if w.ndim == 2:
            w = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, w.shape[1]))
        if w.shape[1] != self.num_ws:
            raise ValueError(f'w must have {self.num_ws} styles, got {w.shape[1]}')
        x = self.input(w[:, 0], transform)
        for i, layer in enumerate(self.layers):
            x = layer(x.astype(layer.dtype or x.dtype), w[:, i + 1], update_average)
        return self.output_scale * x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def generate(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array | None = None,
        truncation_cutoff: int | None = None,
        transform: jax.Array | None = None,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
        """Latents `[B, latent]` to images `[B, size, size, C]`; moves both kinds of averages."""
        w = self.mapping(
            z,
            label,
            truncation=truncation,
            truncation_cutoff=truncation_cutoff,
            update_average=update_average,
        )
        return self.synthesize(w, transform, update_average=update_average)

    __call__ = generate
