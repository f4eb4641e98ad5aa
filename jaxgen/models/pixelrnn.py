"""PixelRNN (arXiv 1601.06759): the Row LSTM and the Diagonal BiLSTM.

A mask A convolution, LSTM layers with residual connections, and a softmax over the levels of each
sub-pixel, from the sub-pixels before it alone (see `pixelcnn` for the factorisation). Images are
integers `[B, H, W, C]`; the logits are `[B, H, W, C, levels]`.

    [o, f, i, g] = σ(K_ss ∗ h_before + K_is ∗ x)      (tanh for g)      (eq. 3)
    c = f·c_before + i·g        h = o·tanh(c)

K_is is masked (B); K_ss is not: what is before lies in earlier pixels. "Before" is the row above
for the Row LSTM, the diagonal before for the Diagonal BiLSTM.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.losses.likelihood import Softmax
from jaxgen.nn.autoregressive import CausalConv, Head, check_sizes, narrowed
from jaxgen.ops.causal_conv import causal_conv, centred, shift_down

KINDS = ('row', 'diagonal')


def lstm(sums: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(h, c) from the sums `[..., 4h]` before the gates, in the order o, f, i, g, and the cell."""
    o, f, i, g = jnp.split(sums, 4, axis=-1)
    cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(cell), cell


def skew(x: jax.Array) -> jax.Array:
    """`[B, H, W, F]` to `[B, H, H + W - 1, F]`: row i moved i to the right, zeros around.

    A column of the result is a diagonal of the image.
    """
    batch, height, width, features = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, height), (0, 0)))
    # Rows that are one shorter than they were filled start one further left, row by row.
    x = x.reshape(batch, height * (width + height), features)[:, : height * (width + height - 1)]
    return x.reshape(batch, height, width + height - 1, features)


def unskew(x: jax.Array) -> jax.Array:
    """The inverse of `skew`: `[B, H, H + W - 1, F]` to `[B, H, W, F]`."""
    batch, height, diagonals, features = x.shape
    x = jnp.pad(x.reshape(batch, -1, features), ((0, 0), (0, height), (0, 0)))
    x = x.reshape(batch, height, diagonals + 1, features)
    return x[:, :, : diagonals + 1 - height]


class RowLSTM(nn.Module):
    """`[B, H, W, 2h]` to `[B, H, W, h]`: a pixel sees a triangle of the rows above (3.1).

    `kernel` is the width of the input-to-state convolution; the state-to-state one is 3 wide.
    """

    features: int
    kernel: int = 3
    colours: int = 3

    def setup(self) -> None:
        h = self.features
        self.input = CausalConv(2 * h, 4 * h, (1, self.kernel), colours=self.colours, parts=4)
        self.state = CausalConv(h, 4 * h, (1, 3), kind=None, use_bias=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, centre = self.state.weight.astype(x.dtype), (0, 1)

        def row(before: tuple[jax.Array, jax.Array], sums: jax.Array) -> tuple:
            h, cell = before
            h, cell = lstm(sums + causal_conv(h[:, None], kernel, centre)[:, 0], cell)
            return (h, cell), h

        sums = self.input(x)
        zeros = jnp.zeros((x.shape[0], x.shape[2], self.features), sums.dtype)
        _, h = jax.lax.scan(row, (zeros, zeros), sums.swapaxes(0, 1))
        return h.swapaxes(0, 1)


class DiagonalBiLSTM(nn.Module):
    """`[B, H, W, 2h]` to `[B, H, W, h]`: two LSTMs that walk along the diagonals (3.2).

    The one from the left sees what is above and to the left; the one from the right is moved down
    a row, so that it sees no pixel that comes later. Together they reach all of the rows above but
    for a few pixels at the right border of the row above, behind the first convolution's reach.
    """

    features: int
    colours: int = 3

    def setup(self) -> None:
        h = self.features
        of_input = dict(colours=self.colours, parts=4)
        of_state = dict(kind=None, use_bias=False)
        self.left_input = CausalConv(2 * h, 4 * h, **of_input)
        self.left_state = CausalConv(h, 4 * h, (2, 1), **of_state)
        self.right_input = CausalConv(2 * h, 4 * h, **of_input)
        self.right_state = CausalConv(h, 4 * h, (2, 1), **of_state)

    def __call__(self, x: jax.Array) -> jax.Array:
        left = self._walk(self.left_input(x), self.left_state.weight)
        right = self._walk(self.right_input(x)[:, :, ::-1], self.right_state.weight)
        return left + shift_down(right[:, :, ::-1])

    def _walk(self, sums: jax.Array, kernel: jax.Array) -> jax.Array:
        """From the upper left: h(i, j) reads h(i - 1, j) and h(i, j - 1), one diagonal before."""
        kernel = kernel.astype(sums.dtype)

        # The bias is in `sums` already, which are zero outside of the image. So the cells there
        # stay zero at the left of a row; those at its right are read by none inside.
        def diagonal(before: tuple[jax.Array, jax.Array], sums: jax.Array) -> tuple:
            h, cell = before
            above = jnp.pad(h, ((0, 0), (1, 0), (0, 0)))[:, :-1]
            h, cell = lstm(sums + above @ kernel[0, 0] + h @ kernel[1, 0], cell)
            return (h, cell), h

        zeros = jnp.zeros((sums.shape[0], sums.shape[1], self.features), sums.dtype)
        _, h = jax.lax.scan(diagonal, (zeros, zeros), jnp.moveaxis(skew(sums), 2, 0))
        return unskew(jnp.moveaxis(h, 0, 2))


class RecurrentBlock(nn.Module):
    """u + up(LSTM(u)), `up` a masked 1×1 from h to 2h (figure 5, right)."""

    features: int
    diagonal: bool
    kernel: int = 3
    colours: int = 3

    def setup(self) -> None:
        h = self.features
        if self.diagonal:
            self.lstm = DiagonalBiLSTM(h, self.colours)
        else:
            self.lstm = RowLSTM(h, self.kernel, self.colours)
        self.up = CausalConv(h, 2 * h, colours=self.colours)

    def __call__(self, u: jax.Array) -> jax.Array:
        return u + self.up(self.lstm(u))


class PixelRNN(nn.Module):
    """The recurrent baselines.

    Attributes:
      kind: 'row' (12 layers with h = 384 for ImageNet 32²) or 'diagonal' (12 with h = 128 for
        CIFAR-10, 7 with h = 16 for MNIST).
      levels, colours: of the images.
      features: h; the residual stream has 2h channels.
      layers: LSTM layers.
      head: width of the two last 1×1 layers.
      first_kernel: side of the first, mask A convolution.
      kernel: width of the Row LSTM's input-to-state convolution.
      dtype: of all maps, e.g. bfloat16; None: float32. Logits are float32 at least.
      remat: recompute each layer's activations in the backward pass.
    """

    kind: str = 'diagonal'
    levels: int = 256
    colours: int = 3
    features: int = 128
    layers: int = 12
    head: int = 1024
    first_kernel: int = 7
    kernel: int = 3
    dtype: jnp.dtype | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ValueError(f'kind must be one of {KINDS}, got {self.kind!r}')
        check_sizes(self, 'features', 'head')
        for name in ('first_kernel', 'kernel'):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f'{name} must be odd, got {getattr(self, name)}')

    @property
    def likelihood(self) -> Softmax:
        """What the logits mean."""
        return Softmax(self.levels)

    def setup(self) -> None:
        h, side = self.features, self.first_kernel
        self.conv_in = CausalConv(self.colours, 2 * h, (side, side), kind='A', colours=self.colours)
        block = nn.remat(RecurrentBlock) if self.remat else RecurrentBlock
        self.stack = [
            block(h, self.kind == 'diagonal', self.kernel, self.colours, name=f'layer_{i}')
            for i in range(self.layers)
        ]
        outputs = self.likelihood.outputs(self.colours)
        self.head_layers = Head(2 * h, self.head, outputs, self.colours, name='head')

    def body(self, x: jax.Array) -> jax.Array:
        """The maps `[B, H, W, 2h]` before the head, split among the colours."""
        u = self.conv_in(narrowed(x, self.dtype))
        for layer in self.stack:
            u = layer(u)
        return u

    def network(self, x: jax.Array) -> jax.Array:
        """Logits of centred images `x [B, H, W, C]`, floats in [-1, 1]."""
        return self.likelihood.shaped(self.head_layers(self.body(x)), self.colours)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Logits `[B, H, W, C, levels]` of integer images `[B, H, W, C]`."""
        return self.network(centred(pixels, self.levels))
