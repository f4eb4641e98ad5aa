"""PixelCNN++ (arXiv 1701.05517): a mixture of logistics for whole pixels, at three resolutions.

Two streams of gated residual blocks. At a pixel, `u` knows the rows above and `ul` also the pixels
to its left; information flows from u to ul only. Up pass: `resnets` blocks, halving, blocks,
halving, blocks. Down pass: back up, each block also fed the map of the up pass that mirrors it.

Images are integers `[B, H, W, C]`, H and W multiples of 4; the network gives the parameters
`[B, H, W, 10K]` of `ops.logistic_mixture` (3K for one colour). It does not see everything: on odd
rows a pixel misses what lies more than 4·resnets + 2 columns to the left in its own row, or to the
right in the row above, because the coarser maps only hold even rows.

Weights are normalised, and `init` must get a real batch: scales and biases start so that every
layer's output has mean 0 and variance 1 over that batch. With `dropout_keys` that batch sees
dropout, as published.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.losses.likelihood import LogisticMixture
from jaxgen.models.pixelcnn_pp_steps import (
    BlockWeights,
    Conv,
    PixelCNNppSteps,
    Stage,
    pixel_conv,
    split_shortcut,
)
from jaxgen.nn.autoregressive import condition_vector, narrowed
from jaxgen.ops.causal_conv import (
    centred,
    conv,
    shift_down,
    shift_right,
    transposed_conv,
)

STAGES = 3
ABOVE, LEFT = (2, 3), (2, 2)  # kernels of u and of ul


def concat_elu(x: jax.Array) -> jax.Array:
    """ELU of x and of -x, joined: twice the channels."""
    return jax.nn.elu(jnp.concatenate([x, -x], axis=-1))


# What each does to the number of channels.
NONLINEARITIES = {'concat_elu': (concat_elu, 2), 'elu': (jax.nn.elu, 1), 'relu': (jax.nn.relu, 1)}


class WeightNormConv(nn.Module):
    """A convolution with kernel scale·direction/‖direction‖, the norm taken for each output.

    A kernel of odd width is centred on the pixel's column, one of even width ends there; all end
    on the pixel's row. `transposed` doubles height and width.
    """

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    stride: int = 1
    init_scale: float = 1.0
    transposed: bool = False

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """((top, bottom), (left, right)) zeros around the input."""
        kh, kw = self.kernel_size
        return (kh - 1, 0), ((kw // 2, kw // 2) if kw % 2 else (kw - 1, 0))

    def _unit(self, direction: jax.Array) -> jax.Array:
        axes = (0, 1, 3) if self.transposed else (0, 1, 2)
        return direction / jnp.sqrt(jnp.sum(jnp.square(direction), axis=axes, keepdims=True))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        ends = (self.features, x.shape[-1])
        shape = (*self.kernel_size, *(ends if self.transposed else ends[::-1]))
        unit = self._unit(self.param('direction', nn.initializers.normal(0.05), shape))
        if self.transposed:
            y = transposed_conv(x, unit.swapaxes(2, 3).astype(x.dtype))
            # The published moments are taken over one more row and column, of zeros.
            y = jnp.pad(y, ((0, 0), (0, 1), (0, 1), (0, 0)))
        else:
            y = conv(x, unit.astype(x.dtype), stride=self.stride, padding=self.padding)
        wide = y.astype(unit.dtype)

        def to_unit(_: jax.Array) -> jax.Array:
            deviation = jnp.sqrt(wide.var((0, 1, 2)) + 1e-10)
            # On tiny images a coarse map can be all zeros: there is nothing then to scale to.
            return self.init_scale / jnp.where(deviation < 2e-5, 1, deviation)

        scale = self.param('scale', to_unit)
        bias = self.param('bias', lambda _: -wide.mean((0, 1, 2)) * scale)
        if self.transposed:
            first = (self.kernel_size[1] - 1) // 2
            y = y[:, : 2 * x.shape[1], first : first + 2 * x.shape[2]]
        scale, bias = (p.astype(y.dtype)[None, None, None, :] for p in (scale, bias))
        return y * scale + bias

    def weights(self) -> tuple[jax.Array, jax.Array]:
        """The normalised kernel and the bias; transposed kernels are `[kh, kw, in, out]` too."""
        stored = self.variables['params']
        kernel = self._unit(stored['direction'])
        if self.transposed:
            kernel = kernel.swapaxes(2, 3)
        return kernel * stored['scale'][None, None, None, :], stored['bias']


class GatedResnet(nn.Module):
    """x + a·σ(b), [a, b] = conv_out(drop(φ(conv_in(φ(x)) + shortcut(φ(second))))) + V·h.

    A residual block of either stream, with a second input where `has_shortcut`.
    `index` is the block's own number: it tells its dropout from that of the others.
    """

    features: int
    kernel_size: tuple[int, int]
    index: int
    has_shortcut: bool
    has_condition: bool
    nonlinearity: str = 'concat_elu'
    dropout: float = 0.5

    def setup(self) -> None:
        self.conv_in = WeightNormConv(self.features, self.kernel_size)
        self.conv_out = WeightNormConv(2 * self.features, self.kernel_size, init_scale=0.1)
        if self.has_shortcut:
            self.shortcut = WeightNormConv(self.features)
        if self.has_condition:
            init = nn.initializers.normal(0.05)
            self.condition = nn.Dense(2 * self.features, use_bias=False, kernel_init=init)

    def __call__(
        self,
        x: jax.Array,
        second: jax.Array | None = None,
        h: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        act, _ = NONLINEARITIES[self.nonlinearity]

        def drop(y: jax.Array) -> jax.Array:
            if dropout_keys is None or not self.dropout:
                return y
            keys = jax.vmap(lambda key: jax.random.fold_in(key, self.index))(dropout_keys)
            keep = 1 - self.dropout
            mask = jax.vmap(lambda key: jax.random.bernoulli(key, keep, y.shape[1:]))(keys)
            return jnp.where(mask, y / keep, 0)

        y = self.conv_in(act(x))
        if self.has_shortcut:
            y = y + self.shortcut(act(second))
        y = self.conv_out(drop(act(y)))
        if self.has_condition:
            y = y + self.condition(h)[:, None, None, :].astype(y.dtype)
        a, b = jnp.split(y, 2, axis=-1)
        return x + a * nn.sigmoid(b)

    def step_weights(self, h: jax.Array | None) -> BlockWeights:
        """The block's arrays as `PixelCNNppSteps` takes them."""
        rightward = self.kernel_size == LEFT
        convs = [
            pixel_conv(*layer.weights()) if rightward else Conv(*layer.weights())
            for layer in (self.conv_in, self.conv_out)
        ]
        of_u = of_ul = None
        bias = jnp.zeros(self.features)
        if self.has_shortcut:
            kernel, bias = self.shortcut.weights()
            _, copies = NONLINEARITIES[self.nonlinearity]
            of_u = kernel[0, 0]
            if len(of_u) == 2 * copies * self.features:
                of_u, of_ul = split_shortcut(kernel, copies)
        term = self.condition(h) if self.has_condition else jnp.zeros((1, 2 * self.features))
        return BlockWeights(*convs, of_u, of_ul, bias, term)


class PixelCNNpp(nn.Module):
    """PixelCNN++.

    Attributes:
      levels, colours: of the images; 1 or 3 colours.
      features: width of both streams.
      resnets: blocks at each resolution of the up pass; the down pass has one more at the two
        finer ones.
      components: logistics in a pixel's mixture.
      num_classes, embedding: conditions on a class, an embedding of this width, or both.
      nonlinearity: 'concat_elu', 'elu' or 'relu'.
      dropout: share of a block's maps that training drops.
      dtype: of all maps, e.g. bfloat16 to train; None: float32. What comes out is float32 at
        least, and the cached sampler computes in the precision of the weights.
      remat: recompute each block's activations in the backward pass.
    """

    levels: int = 256
    colours: int = 3
    features: int = 160
    resnets: int = 5
    components: int = 10
    num_classes: int = 0
    embedding: int = 0
    nonlinearity: str = 'concat_elu'
    dropout: float = 0.5
    dtype: jnp.dtype | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colours not in (1, 3):
            raise ValueError(f'colours must be 1 or 3, got {self.colours}')
        if self.levels < 2:
            raise ValueError(f'levels must be 2 or more, got {self.levels}')
        for name in ('features', 'resnets', 'components'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
        if self.nonlinearity not in NONLINEARITIES:
            allowed = sorted(NONLINEARITIES)
            raise ValueError(f'nonlinearity must be one of {allowed}, got {self.nonlinearity!r}')
        if not 0 <= self.dropout < 1:
            raise ValueError(f'dropout must be from 0 to below 1, got {self.dropout}')

    @property
    def likelihood(self) -> LogisticMixture:
        """What the network's numbers mean."""
        return LogisticMixture(self.levels, self.components)

    def setup(self) -> None:
        width, coarser = self.features, range(1, STAGES)
        self.stem_above = WeightNormConv(width, (2, 3))
        self.stem_row = WeightNormConv(width, (1, 3))
        self.stem_column = WeightNormConv(width, (2, 1))
        numbers = itertools.count()
        resnet = nn.remat(GatedResnet) if self.remat else GatedResnet

        def block(name: str, kernel: tuple[int, int], shortcut: bool) -> GatedResnet:
            return resnet(
                width,
                kernel,
                next(numbers),
                shortcut,
                bool(self.num_classes or self.embedding),
                self.nonlinearity,
                self.dropout,
                name=name,
            )

        def pairs(way: str, stage: int, count: int) -> list[tuple[GatedResnet, GatedResnet]]:
            down = way == 'down'
            return [
                (
                    block(f'{way}_{stage}_{b}_u', ABOVE, down),
                    block(f'{way}_{stage}_{b}_ul', LEFT, True),
                )
                for b in range(count)
            ]

        def resized(way: str, **how: Any) -> list[tuple[WeightNormConv, WeightNormConv]]:
            return [
                (
                    WeightNormConv(width, ABOVE, **how, name=f'{way}_{s}_u'),
                    WeightNormConv(width, LEFT, **how, name=f'{way}_{s}_ul'),
                )
                for s in coarser
            ]

        last = STAGES - 1
        self.up_blocks = [pairs('up', s, self.resnets) for s in range(STAGES)]
        self.down_blocks = [pairs('down', s, self.resnets + (s < last)) for s in range(STAGES)]
        self.halve = resized('halve', stride=2)
        self.double = resized('double', transposed=True)
        self.out = WeightNormConv(self.likelihood.outputs(self.colours))

    def stem(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """u and ul of the image, before any block."""
        # A channel of ones tells the image from the zeros around it.
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        u = shift_down(self.stem_above(x))
        return u, shift_down(self.stem_row(x)) + shift_right(self.stem_column(x))

    def up(
        self, x: jax.Array, h: jax.Array | None = None, dropout_keys: jax.Array | None = None
    ) -> tuple[list[list[jax.Array]], list[list[jax.Array]]]:
        """The up pass: for each resolution the maps of u, and of ul, that the way down takes."""
        u, ul = self.stem(x)
        all_u, all_ul = [], []
        for stage, blocks in enumerate(self.up_blocks):
            if stage:
                halve_u, halve_ul = self.halve[stage - 1]
                u, ul = halve_u(u), halve_ul(ul)
            all_u.append([u])
            all_ul.append([ul])
            for block_u, block_ul in blocks:
                u = block_u(u, None, h, dropout_keys)
                ul = block_ul(ul, u, h, dropout_keys)
                all_u[-1].append(u)
                all_ul[-1].append(ul)
        return all_u, all_ul

    def down(
        self,
        all_u: Sequence[Sequence[jax.Array]],
        all_ul: Sequence[Sequence[jax.Array]],
        h: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """The down pass: `[B, H, W, features]` of the stream ul."""
        mirrored = [list(zip(us, uls, strict=True)) for us, uls in zip(all_u, all_ul, strict=True)]
        u, ul = mirrored[-1].pop()
        for stage in reversed(range(STAGES)):
            for block_u, block_ul in self.down_blocks[stage]:
                from_u, from_ul = mirrored[stage].pop()
                u = block_u(u, from_u, h, dropout_keys)
                ul = block_ul(ul, jnp.concatenate([u, from_ul], axis=-1), h, dropout_keys)
            if stage:
                double_u, double_ul = self.double[stage - 1]
                u, ul = double_u(u), double_ul(ul)
        return ul

    def _check_size(self, size: tuple[int, int]) -> None:
        if size[0] % 4 or size[1] % 4:
            raise ValueError(f'height and width must be multiples of 4, got {tuple(size)}')

    def body(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        *,
        embedding: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """The stream ul `[B, H, W, features]` before the last layer."""
        self._check_size(x.shape[1:3])
        h = condition_vector(label, embedding, self.num_classes, self.embedding)
        x = narrowed(x, self.dtype)
        return self.down(*self.up(x, h, dropout_keys), h, dropout_keys)

    def network(self, x: jax.Array, label: jax.Array | None = None, **given: Any) -> jax.Array:
        """Parameters of the mixtures for centred images `x [B, H, W, C]`, floats in [-1, 1]."""
        y = self.out(jax.nn.elu(self.body(x, label, **given)))
        return self.likelihood.shaped(y, self.colours)

    def __call__(
        self, pixels: jax.Array, label: jax.Array | None = None, **given: Any
    ) -> jax.Array:
        """Parameters `[B, H, W, 10K]` for integer images `[B, H, W, C]`.

        Args:
          label: `[B]` integers below `num_classes`.
          **given: `embedding [B, m]` where the model has one; `dropout_keys [B]`, one for each
            example, for training; without them nothing is dropped.
        """
        return self.network(centred(pixels, self.levels), label, **given)

    def steps(
        self,
        batch: int,
        size: tuple[int, int],
        label: jax.Array | None = None,
        *,
        embedding: jax.Array | None = None,
    ) -> PixelCNNppSteps:
        """The same network one pixel at a time, for the cached sampler."""
        self._check_size(size)
        h = condition_vector(label, embedding, self.num_classes, self.embedding)
        act, copies = NONLINEARITIES[self.nonlinearity]

        def of_blocks(pairs: list[tuple[GatedResnet, GatedResnet]]) -> tuple:
            return tuple((u.step_weights(h), ul.step_weights(h)) for u, ul in pairs)

        def resized(pairs: list[tuple[WeightNormConv, WeightNormConv]], s: int) -> tuple | None:
            if not s:
                return None
            u, ul = pairs[s - 1]
            return Conv(*u.weights()), pixel_conv(*ul.weights())

        stem = self.stem_above, self.stem_row, self.stem_column
        return PixelCNNppSteps(
            batch=batch,
            size=size,
            features=self.features,
            nonlinearity=act,
            copies=copies,
            stem=tuple(Conv(*layer.weights()) for layer in stem),
            stages=tuple(
                Stage(
                    of_blocks(self.up_blocks[s]),
                    of_blocks(self.down_blocks[s]),
                    resized(self.halve, s),
                    resized(self.double, s),
                )
                for s in range(STAGES)
            ),
            out=Conv(*self.out.weights()),
        )
