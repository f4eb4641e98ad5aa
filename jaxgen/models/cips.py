"""CIPS: image generators with conditionally-independent pixel synthesis (arXiv 2011.13775).

    G(x, y, z) = G'([e_fo(x, y), e_co(x, y)]; M(z))

The colour of a pixel is a function of its coordinate and of the style: no operation looks at
another pixel. Pixels are therefore a list: coordinates `[1 or B, N, 2]` in (x, y), colours
`[B, N, 3]` around [-1, 1] (no tanh). Any set, order or tiling of coordinates gives the same pixels.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedDense
from jaxgen.nn.fourier import LOOKUPS, CoordinateEmbedding, FourierFeatures
from jaxgen.nn.mapping import MappingNetwork
from jaxgen.nn.styled import StyledDense, ToRGB
from jaxgen.ops import coords as coordinates
from jaxgen.ops.activations import activation
from jaxgen.ops.interpolate import bilinear
from jaxgen.ops.random import normal_at

NOISES = ('none', 'const', 'random')
Style = jax.Array | Sequence[jax.Array]


def uniform_widths(size: int, width: int = 512) -> tuple[int, ...]:
    """The paper's blocks: log2(size) - 1 of equal width, i.e. 15 layers at 256."""
    return (width,) * (int(math.log2(size)) - 1)


def released_widths(size: int, channel_multiplier: int = 2) -> tuple[int, ...]:
    """The released code's taper of `CIPSskip`: by block 512 ×5, then 128, 64, 32, 16 times cm."""
    table = (512,) * 5 + tuple(c * channel_multiplier for c in (128, 64, 32, 16))
    return table[: int(math.log2(size)) - 1]


def released_residual_widths(size: int, channel_multiplier: int = 2) -> tuple[int, ...]:
    """The released code's taper of `CIPSres`, wider in the blocks 7 and 8."""
    table = (512,) * 5 + tuple(c * channel_multiplier for c in (128, 64, 64, 32))
    return table[: int(math.log2(size)) - 1]


class Block(nn.Module):
    """Two styled layers, with the skip connection of CIPSres and/or a ToRGB at the end."""

    features: int
    use_noise: bool = False
    activation: str = 'lrelu'
    residual: bool = False
    to_rgb: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, w: Sequence[jax.Array], noise: Sequence[jax.Array | None]
    ) -> tuple[jax.Array, jax.Array | None]:
        y = x
        for i in range(2):
            y = StyledDense(
                self.features,
                use_noise=self.use_noise,
                activation=self.activation,
                dtype=self.dtype,
                name=f'layer_{i}',
            )(y, w[i], noise[i])
        if self.residual:
            if x.shape[-1] != self.features:
                x = EqualizedDense(self.features, use_bias=False, dtype=self.dtype, name='skip')(x)
            y = (y + x) * math.sqrt(1 / 2)
        rgb = ToRGB(dtype=self.dtype, name='to_rgb')(y, w[1]) if self.to_rgb else None
        return y, rgb


class CIPSGenerator(nn.Module):
    """The generator and every variant of the paper's ablation.

    Attributes:
      size: side, or (height, width), of the training frame: the grid of the coordinate embedding.
      features: width of each of the two positional encodings.
      first_width: width of the first styled layer.
      block_widths: width of each block of two styled layers (`uniform_widths`, `released_widths`).
      latent, style, mapping_layers, mapping_lr_multiplier, num_classes: the mapping network.
      activation: 'lrelu', or 'sin' and 'sinrelu' of the ablations.
      fourier, embedding: which positional encodings there are; `embedding=False` is CIPS-NE.
      lookup: how the embedding is read off the training grid: 'exact' or 'reference'.
      cylindrical: for panoramas (section 4.5): the frame is a ring of `width` pixels around, x has
        period 2 (`ops.coords`), and the Fourier features see (cos πx, sin πx, y).
      residual: blocks with skip connections and a single ToRGB (the released CIPSres).
      cumulative_rgb: the image is the sum of one ToRGB per block; False: a single one at the end.
      noise: 'none' (default: a pixel is a function of coordinate and style alone), 'const' (a fixed
        map over the training frame, interpolated elsewhere), 'random' (new for every key).
      dtype: of the layers' large matmuls and activations, e.g. bfloat16; None: float32.
      remat: recompute each block's activations in the backward pass.
    """

    size: int | tuple[int, int] = 256
    features: int = 512
    first_width: int = 512
    block_widths: tuple[int, ...] = (512,) * 7
    latent: int = 512
    style: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    num_classes: int = 0
    activation: str = 'lrelu'
    fourier: bool = True
    embedding: bool = True
    lookup: str = 'exact'
    cylindrical: bool = False
    residual: bool = False
    cumulative_rgb: bool = True
    noise: str = 'none'
    dtype: jnp.dtype | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.frame) < 1:
            raise ValueError(f'size must be positive, got {self.frame}')
        for name in ('features', 'latent', 'style', 'mapping_layers'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
        if self.num_classes < 0:
            raise ValueError(f'num_classes must be 0 (none) or more, got {self.num_classes}')
        if not (self.fourier or self.embedding):
            raise ValueError('fourier and embedding are both off: pixels would have no position')
        widths = (self.first_width, *self.block_widths)
        if not self.block_widths or not all(isinstance(w, int) and w > 0 for w in widths):
            raise ValueError(
                'first_width and block_widths must be positive, at least one block, got '
                f'{self.first_width} and {tuple(self.block_widths)}'
            )
        for name, value, allowed in (
            ('noise', self.noise, NOISES),
            ('lookup', self.lookup, LOOKUPS),
        ):
            if value not in allowed:
                raise ValueError(f'{name} must be one of {allowed}, got {value!r}')
        if self.cylindrical and self.lookup != 'exact':
            raise ValueError("cylindrical=True needs lookup='exact': no published code has a ring")
        if self.activation == 'sinrelu' and any(width % 2 for width in widths):
            raise ValueError('sinrelu needs even widths: half of the channels are sines')
        activation(self.activation)

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the training frame."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    @property
    def num_layers(self) -> int:
        """Number of styled layers, 15 in the paper's 256² generator."""
        return 1 + 2 * len(self.block_widths)

    def points(self, height: int, width: int) -> jax.Array:
        """`[height·width, 2]`: the whole frame, or ring, as a grid of this size."""
        make = coordinates.ring_points if self.cylindrical else coordinates.points
        return make(height, width)

    def setup(self) -> None:
        self.mapping_network = MappingNetwork(
            self.style,
            self.mapping_layers,
            self.mapping_lr_multiplier,
            self.num_classes,
            name='mapping',
        )
        if self.fourier:
            self.fourier_features = FourierFeatures(self.features, name='fourier')
        if self.embedding:
            self.coordinate_embedding = CoordinateEmbedding(
                *self.frame, self.features, self.lookup, self.cylindrical, name='embedding'
            )
        common = dict(use_noise=self.noise != 'none', activation=self.activation, dtype=self.dtype)
        self.input_layer = StyledDense(self.first_width, **common, name='input')
        block = nn.remat(Block) if self.remat else Block
        per_block_rgb = self.cumulative_rgb and not self.residual
        self.blocks = [
            block(width, residual=self.residual, to_rgb=per_block_rgb, **common, name=f'block_{i}')
            for i, width in enumerate(self.block_widths)
        ]
        if not per_block_rgb:
            self.final_to_rgb = ToRGB(dtype=self.dtype, name='to_rgb')

    def mapping(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array | None = None,
        update_average: bool = False,
    ) -> jax.Array:
        """`z [B, latent]` to `w [B, style]`; see `MappingNetwork`."""
        return self.mapping_network(z, label, truncation=truncation, update_average=update_average)

    def encode(self, coords: jax.Array | None) -> jax.Array:
        """Positional encoding e(x, y), the same for every latent: compute once, use for all.

        Args:
          coords: `[1 or B, N, 2]`; None is the training grid, where the embedding is read directly.

        Returns:
          `[1 or B, N, C]` with C = features for each encoding there is.
        """
        encodings = []
        if self.fourier:
            places = self.points(*self.frame)[None] if coords is None else coords
            if self.cylindrical:
                places = coordinates.on_cylinder(places)
            encodings.append(self.fourier_features(places))
        if self.embedding:
            encodings.append(self.coordinate_embedding(coords))
        # Rounded before they are joined: in float32 this is the largest array of a training step.
        dtype = self.dtype or jnp.result_type(*encodings)
        return jnp.concatenate([e.astype(dtype) for e in encodings], axis=-1)

    def synthesize(
        self,
        features: jax.Array,
        w: Style,
        noise: Sequence[jax.Array | None] | None = None,
    ) -> jax.Array:
        """Colours `[B, N, 3]` from encodings `[1 or B, N, C]`.

        Args:
          features: of `encode`.
          w: `[B, style]`; `[B, N, style]` for a style per pixel; or a sequence of `num_layers` such
            arrays, one a styled layer (style mixing; a ToRGB takes that of the layer before it).
          noise: `num_layers` maps `[1 or B, N, 1]`, for a model with noise; None: no noise term.
        """
        styles = tuple(w) if isinstance(w, tuple | list) else (w,) * self.num_layers
        if len(styles) != self.num_layers:
            raise ValueError(f'w must have {self.num_layers} layers, got {len(styles)}')
        noise = (None,) * self.num_layers if noise is None else tuple(noise)
        x = self.input_layer(features, styles[0], noise[0])
        image = 0.0
        for i, block in enumerate(self.blocks):
            layers = slice(1 + 2 * i, 3 + 2 * i)
            x, rgb = block(x, styles[layers], noise[layers])
            if rgb is not None:
                image = image + rgb.astype(jnp.promote_types(rgb.dtype, jnp.float32))
        if rgb is None:
            image = self.final_to_rgb(x, styles[-1])
        return image.astype(jnp.promote_types(image.dtype, jnp.float32))

    def make_noise(
        self, coords: jax.Array | None, noise: jax.Array | Sequence[jax.Array] | None
    ) -> tuple[jax.Array, ...] | None:
        """The noise maps of `synthesize`, `[1 or B, N, 1]` a layer: functions of the coordinate.

        `noise`: `[B]` keys, needed for noise='random' only; or the maps themselves.
        """
        if self.noise == 'none':
            return None
        if isinstance(noise, tuple | list):
            return tuple(noise)
        if self.noise == 'const':
            maps = (
                jax.random.normal(jax.random.key(i), (*self.frame, 1))
                for i in range(self.num_layers)
            )
            if coords is None:
                return tuple(m.reshape(1, -1, 1) for m in maps)
            return tuple(bilinear(m, coords, ring=self.cylindrical) for m in maps)
        if noise is None:
            raise ValueError("noise='random' needs a key for each example")
        places = self.points(*self.frame)[None] if coords is None else coords
        places = jnp.broadcast_to(places, (noise.shape[0], *places.shape[1:]))
        fold_in = jax.vmap(jax.random.fold_in, (0, None))
        layer_keys = (fold_in(noise, i) for i in range(self.num_layers))
        return tuple(jax.vmap(normal_at)(k, places)[..., None] for k in layer_keys)

    def __call__(
        self,
        coords: jax.Array | None,
        w: Style,
        *,
        noise: jax.Array | Sequence[jax.Array] | None = None,
    ) -> jax.Array:
        """Colours `[B, N, 3]` at `coords` (None: the training grid) in the styles `w`."""
        return self.synthesize(self.encode(coords), w, self.make_noise(coords, noise))

    def generate(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        coords: jax.Array | None = None,
        noise: jax.Array | Sequence[jax.Array] | None = None,
        update_average: bool = False,
        split_pixels: Callable[[jax.Array], jax.Array] = lambda x: x,
        split_styles: Callable[[jax.Array], jax.Array] = lambda w: w,
    ) -> jax.Array:
        """What a training step calls: latents `[B, latent]` to images `[B, H, W, 3]`.

        `coords` is an image of coordinates `[1 or B, H, W, 2]`, or None for the training frame.
        `split_pixels` says how lists of pixels `[1 or B, N, C]` lie on the devices, `split_styles`
        how w does.
        """
        height, width = self.frame if coords is None else coords.shape[1:3]
        places = None if coords is None else coords.reshape(-1, height * width, 2)
        w = split_styles(self.mapping(z, label, update_average=update_average))
        features = split_pixels(self.encode(places))
        rgb = self.synthesize(features, w, self.make_noise(places, noise))
        return split_pixels(rgb).reshape(-1, height, width, 3)
