"""What the generators of StyleGAN2 and StyleGAN3 have in common: z → mapping → w → image."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.mapping import MappingNetwork, UpdateAverage


class StyleGenerator(nn.Module):
    """A generator of whole images from `num_ws` styles.

    A subclass has `num_ws`, `synthesize(w, …, update_average)`, and says in `takes_transform`
    whether its input can be moved.

    Attributes:
      size, image_channels: side of the images, a power of two, and 3 for RGB.
      latent, style, mapping_layers, mapping_lr_multiplier, num_classes: the mapping network;
        mapping_features: width of its hidden layers, and label_features: of the label's embedding
        (None: `style`); average_decay: of the running mean of w.
      channel_base, channel_max: of the layers.
    """

    smallest: ClassVar[int] = 8

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < self.smallest or self.size & (self.size - 1):
            raise ValueError(f'size must be a power of two from {self.smallest}, got {self.size}')
        positive = ('image_channels', 'latent', 'style', 'mapping_layers', 'channel_max')
        for name, least in (dict.fromkeys(positive, 1) | {'num_classes': 0}).items():
            if getattr(self, name) < least:
                raise ValueError(f'{name} must be {least} or more, got {getattr(self, name)}')

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.size, self.size

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

    def each_style(self, w: jax.Array) -> jax.Array:
        """`[B, num_ws, style]`: w itself, or w `[B, style]` for every layer."""
        if w.ndim == 2:
            w = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, w.shape[1]))
        if w.shape[1] != self.num_ws:
            raise ValueError(f'w must have {self.num_ws} styles, got {w.shape[1]}')
        return w

    def generate(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array | None = None,
        truncation_cutoff: int | None = None,
        update_average: UpdateAverage = False,
        **options: Any,
    ) -> jax.Array:
        """Latents `[B, latent]` to images `[B, size, size, C]`.

        `options`: of `synthesize`; the others are those of `mapping`. `update_average` moves the
        running means of both.
        """
        w = self.mapping(
            z,
            label,
            truncation=truncation,
            truncation_cutoff=truncation_cutoff,
            update_average=update_average,
        )
        return self.synthesize(w, update_average=update_average, **options)

    __call__ = generate
