"""Layers whose output at a sub-pixel reads sub-pixels before it only: PixelCNN and PixelRNN.

Maps are `[B, H, W, F]`. See `ops.causal_conv` for the order and for the groups of channels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.ops.causal_conv import causal_conv, causal_mask, colour_groups


class CausalConv(nn.Module):
    """A convolution over the pixels around `centre`, masked by colour at the centre itself.

    Attributes:
      in_features, features: channels.
      kernel_size, centre: (height, width), and the tap on the pixel itself; default: the middle.
      kind: 'A' or 'B', the mask; None: no mask, for maps that know nothing of the pixel's row.
      colours: groups that the channels are split into.
      parts: 2 for the maps of a gate, 4 for those of an LSTM: groups are split in each part.
      use_bias: whether a bias is added.
    """

    in_features: int
    features: int
    kernel_size: tuple[int, int] = (1, 1)
    centre: tuple[int, int] | None = None
    kind: str | None = 'B'
    colours: int = 1
    parts: int = 1
    use_bias: bool = True

    @property
    def mask(self) -> np.ndarray:
        """The 0/1 mask of the kernel."""
        if self.kind is None:
            return np.ones((*self.kernel_size, self.in_features, self.features), np.float32)
        return causal_mask(
            self.kernel_size,
            self.kind,
            colour_groups(self.in_features, self.colours),
            colour_groups(self.features, self.colours, parts=self.parts),
            centre=self.centre,
        )

    def _init_kernel(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        # The variance counts the taps that are left.
        fan_in = max(self.mask.sum() / self.features, 1.0)
        return jax.random.normal(key, shape) / math.sqrt(fan_in)

    def setup(self) -> None:
        shape = (*self.kernel_size, self.in_features, self.features)
        self.kernel = self.param('kernel', self._init_kernel, shape)
        if self.use_bias:
            self.bias = self.param('bias', nn.initializers.zeros, (self.features,))

    @property
    def weight(self) -> jax.Array:
        """The kernel times its mask: what the mask shuts never counts and gets no gradient."""
        if self.kind is None:
            return self.kernel
        return self.kernel * self.mask.astype(self.kernel.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        centre = self.centre or tuple(side // 2 for side in self.kernel_size)
        y = causal_conv(x, self.weight.astype(x.dtype), centre)
        return y + self.bias.astype(y.dtype)[None, None, None, :] if self.use_bias else y


class Head(nn.Module):
    """ReLU, 1×1, ReLU, 1×1 to `outputs` numbers a pixel, `[B, H, W, outputs]` (section 3.5)."""

    in_features: int
    features: int
    outputs: int
    colours: int = 1

    def setup(self) -> None:
        self.first = CausalConv(self.in_features, self.features, colours=self.colours)
        self.second = CausalConv(self.features, self.outputs, colours=self.colours)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(nn.relu(self.first(nn.relu(x))))

    def weights(self) -> tuple[tuple[jax.Array, jax.Array], ...]:
        """Kernel `[in, out]`, masked, and bias of both layers."""
        return tuple((layer.weight[0, 0], layer.bias) for layer in (self.first, self.second))


def check_sizes(module: nn.Module, *names: str) -> None:
    """ValueError where a width is too small for a group of channels a colour."""
    if module.levels < 2:
        raise ValueError(f'levels must be 2 or more, got {module.levels}')
    if module.colours < 1:
        raise ValueError(f'colours must be positive, got {module.colours}')
    for name in names:
        if getattr(module, name) < module.colours:
            raise ValueError(
                f'{name} must be {module.colours} or more, one for each colour, '
                f'got {getattr(module, name)}'
            )


def narrowed(x: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """`x` in `dtype`; None: as it is. Layers compute in the precision of what they are given."""
    return x if dtype is None else x.astype(dtype)


def gate(x: jax.Array) -> jax.Array:
    """tanh of the first half of the channels times σ of the second (1606.05328, eq. 2)."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.tanh(first) * nn.sigmoid(second)


def condition_vector(
    label: jax.Array | None, embedding: jax.Array | None, num_classes: int, width: int
) -> jax.Array | None:
    """The vector h `[B, num_classes + width]` of a class and an embedding; None without either.

    Raises:
      ValueError: one of them where the model takes none, or none where it needs one.
    """
    check_condition('label', label, num_classes > 0)
    check_condition('embedding', embedding, width > 0)
    parts = [] if label is None else [jax.nn.one_hot(label, num_classes)]
    parts += [] if embedding is None else [embedding]
    return jnp.concatenate(parts, axis=-1) if parts else None


def check_condition(name: str, value: jax.Array | None, wanted: bool) -> None:
    """ValueError unless `value` is there exactly if it is `wanted`."""
    if (value is not None) != wanted:
        raise ValueError(f'the model {"needs" if wanted else "takes no"} {name}')
