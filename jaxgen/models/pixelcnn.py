"""PixelCNN (arXiv 1601.06759) and the Gated, Conditional PixelCNN (arXiv 1606.05328).

    p(x) = Π p(red | before) · p(green | before, red) · p(blue | before, red, green)

over pixels in raster order, each factor a softmax over the levels. Images are integers
`[B, H, W, C]` below `levels`, of any size; a network gives logits `[B, H, W, C, levels]`, those of
a sub-pixel from the sub-pixels before it alone. `network` is the same on centred floats.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.losses.likelihood import Softmax
from jaxgen.models.pixelcnn_steps import (
    BlockWeights,
    ConvWeights,
    GatedSteps,
    MaskedSteps,
    split_block,
    split_conv,
    split_head,
)
from jaxgen.nn.autoregressive import (
    CausalConv,
    Head,
    check_condition,
    check_sizes,
    condition_vector,
    gate,
    narrowed,
)
from jaxgen.nn.deconvolution import Deconvolution
from jaxgen.ops.causal_conv import centred, shift_down

SHIFTS = ('input', 'link')
LINKS = ('pre', 'post')


class ResidualBlock(nn.Module):
    """u + up(ReLU(mid(ReLU(down(ReLU(u)))))): 1×1 2h → h, 3×3 h → h, 1×1 h → 2h (figure 5)."""

    features: int
    kernel_size: int = 3
    colours: int = 3

    def setup(self) -> None:
        h, side = self.features, self.kernel_size
        self.down = CausalConv(2 * h, h, colours=self.colours)
        self.mid = CausalConv(h, h, (side, side), colours=self.colours)
        self.up = CausalConv(h, 2 * h, colours=self.colours)

    def __call__(self, u: jax.Array) -> jax.Array:
        y = self.mid(nn.relu(self.down(nn.relu(u))))
        return u + self.up(nn.relu(y))


class PixelCNN(nn.Module):
    """The masked PixelCNN: one stack of masked convolutions, which leaves a blind spot.

    Attributes:
      levels, colours: of the images.
      features: h; the residual stream has 2h channels.
      blocks: residual blocks (15 in the paper's CIFAR-10 network).
      head: width of the two last 1×1 layers (1024 for CIFAR-10 and ImageNet, 32 for MNIST).
      first_kernel, kernel: side of the first, mask A convolution and of those in the blocks.
      dtype: of all maps, e.g. bfloat16; None: float32. Logits are float32 at least.
      remat: recompute each block's activations in the backward pass.
    """

    levels: int = 256
    colours: int = 3
    features: int = 128
    blocks: int = 15
    head: int = 1024
    first_kernel: int = 7
    kernel: int = 3
    dtype: jnp.dtype | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, 'features', 'head')
        for name in ('first_kernel', 'kernel'):
            if getattr(self, name) % 2 == 0 or getattr(self, name) < 3:
                raise ValueError(f'{name} must be odd and 3 or more, got {getattr(self, name)}')

    @property
    def likelihood(self) -> Softmax:
        """What the logits mean."""
        return Softmax(self.levels)

    def setup(self) -> None:
        h, side = self.features, self.first_kernel
        self.conv_in = CausalConv(self.colours, 2 * h, (side, side), kind='A', colours=self.colours)
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        self.stack = [
            block(h, self.kernel, self.colours, name=f'block_{b}') for b in range(self.blocks)
        ]
        outputs = self.likelihood.outputs(self.colours)
        self.head_layers = Head(2 * h, self.head, outputs, self.colours, name='head')

    def body(self, x: jax.Array) -> jax.Array:
        """The maps `[B, H, W, 2h]` before the head, split among the colours."""
        u = self.conv_in(narrowed(x, self.dtype))
        for block in self.stack:
            u = block(u)
        return u

    def network(self, x: jax.Array) -> jax.Array:
        """Logits of centred images `x [B, H, W, C]`, floats in [-1, 1]."""
        return self.likelihood.shaped(self.head_layers(self.body(x)), self.colours)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Logits `[B, H, W, C, levels]` of integer images `[B, H, W, C]`."""
        return self.network(centred(pixels, self.levels))

    def steps(self, batch: int, size: tuple[int, int]) -> MaskedSteps:
        """The same network one sub-pixel at a time, for the cached sampler."""

        def split(layer: CausalConv) -> ConvWeights:
            first = layer.kind == 'A'
            return split_conv(layer.weight, layer.bias, self.colours, first=first)

        return MaskedSteps(
            batch=batch,
            size=size,
            colours=self.colours,
            conv_in=split(self.conv_in),
            blocks=tuple((split(b.down), split(b.mid), split(b.up)) for b in self.stack),
            head=split_head(*self.head_layers.weights(), self.colours),
        )


class Condition(NamedTuple):
    """What an image is conditioned on: a vector `h [B, m]`, a map `s [B, H, W, m']`, or None."""

    vector: jax.Array | None = None
    map: jax.Array | None = None


class GatedBlock(nn.Module):
    """One layer of the Gated PixelCNN (figure 2): a vertical and a horizontal stack.

    The vertical stack sees the rows above, all of them and without colour masks; its maps before
    the gate enter the horizontal stack through a 1×1; the horizontal stack never enters it. The
    first block reads the image (mask A) and has no residual connection.

    Attributes:
      in_features, features: channels of both stacks' inputs, and p.
      kernel_size: n; the vertical kernel is ⌈n/2⌉×n, the horizontal one 1×⌈n/2⌉.
      shift: 'link': the maps are moved down a row on their way to the horizontal stack; anything
        else: they know only the rows above already.
      link: whether the 1×1 reads the maps before ('pre') or after ('post') the conditioning.
      vector, map: channels of what an image is conditioned on; 0: nothing of that kind.
    """

    in_features: int
    features: int
    kernel_size: int = 5
    colours: int = 3
    first: bool = False
    shift: str = 'input'
    link: str = 'pre'
    vector: int = 0
    map: int = 0

    def setup(self) -> None:
        p, n, r = self.features, self.kernel_size, self.kernel_size // 2
        self.v = CausalConv(self.in_features, 2 * p, (r + 1, n), (r, r), kind=None)
        self.v2h = CausalConv(2 * p, 2 * p, kind=None, use_bias=False)
        self.h = CausalConv(
            self.in_features,
            2 * p,
            (1, r + 1),
            (0, r),
            kind='A' if self.first else 'B',
            colours=self.colours,
            parts=2,
        )
        self.out = CausalConv(p, p, colours=self.colours)
        if self.vector:
            self.cond_v = CausalConv(self.vector, 2 * p, kind=None, use_bias=False)
            self.cond_h = CausalConv(self.vector, 2 * p, kind=None, use_bias=False)
        if self.map:
            self.spat_v = CausalConv(self.map, 2 * p, kind=None, use_bias=False)
            self.spat_h = CausalConv(self.map, 2 * p, kind=None, use_bias=False)

    def vector_terms(self, condition: Condition) -> tuple[jax.Array | float, jax.Array | float]:
        """Vᵀh of the vertical and of the horizontal stack, `[B, 1, 1, 2p]`; 0.0 without h."""
        if not self.vector:
            return 0.0, 0.0
        vector = condition.vector[:, None, None, :]
        return self.cond_v(vector), self.cond_h(vector)

    def terms(self, condition: Condition) -> tuple[jax.Array | float, jax.Array | float]:
        """What is added before the gates of the two stacks: Vᵀh and V∗s (eq. 4)."""
        v, h = self.vector_terms(condition)
        if self.map:
            v, h = v + self.spat_v(condition.map), h + self.spat_h(condition.map)
        return v, h

    def before_gates(
        self, v: jax.Array, h: jax.Array, condition: Condition
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`[B, H, W, 2p]`: the vertical maps without and with conditioning, the horizontal sum."""
        v_term, h_term = self.terms(condition)
        plain = self.v(v)
        conditioned = plain + v_term
        linked = plain if self.link == 'pre' else conditioned
        if self.shift == 'link':  # After the bias: the first row gets zeros, not the bias.
            linked = shift_down(linked)
        return plain, conditioned, self.h(h) + self.v2h(linked) + h_term

    def __call__(
        self, v: jax.Array, h: jax.Array, condition: Condition
    ) -> tuple[jax.Array, jax.Array]:
        _, v_maps, h_maps = self.before_gates(v, h, condition)
        y = self.out(gate(h_maps))
        return gate(v_maps), y if self.first else y + h

    def step_weights(self, condition: Condition) -> BlockWeights:
        """The layer's arrays as `GatedSteps` takes them."""
        return BlockWeights(
            vertical=self.v.weight,
            vertical_bias=self.v.bias,
            link=self.v2h.weight[0, 0],
            horizontal=self.h.weight[0],
            horizontal_bias=self.h.bias,
            out=self.out.weight[0, 0],
            out_bias=self.out.bias,
            vector_terms=self.vector_terms(condition),
            map_kernels=(self.spat_v.weight[0, 0], self.spat_h.weight[0, 0]) if self.map else None,
        )


class GatedPixelCNN(nn.Module):
    """The Gated PixelCNN, with whatever it is conditioned on; no blind spot.

    Attributes:
      levels, colours: of the images.
      features: p, the width of each stack (384 in the ImageNet network).
      blocks: layers (20 in the ImageNet network).
      kernel_size: n of every layer.
      head: width of the last two 1×1 layers.
      num_classes: conditions on a class (section 2.3): a class is a bias of every layer.
      embedding: width of an embedding h to condition on; may come with a class.
      spatial: channels of a map s to condition on. s is given, or with `spatial_widths` made from
        the class and embedding by a deconvolutional network of these widths, s = m(h).
      shift: 'input': the image is moved down one row before the vertical stack; 'link': the maps
        are moved in every layer. Near the upper border these are different functions.
      link: what of a conditioned vertical stack the horizontal one sees; see `GatedBlock`.
      dtype: of all maps, e.g. bfloat16 to train; None: float32. Logits are float32 at least, and
        the cached sampler computes in the precision of the weights.
      remat: recompute each block's activations in the backward pass.
    """

    levels: int = 256
    colours: int = 3
    features: int = 384
    blocks: int = 20
    kernel_size: int = 5
    head: int = 1024
    num_classes: int = 0
    embedding: int = 0
    spatial: int = 0
    spatial_widths: tuple[int, ...] = ()
    shift: str = 'input'
    link: str = 'pre'
    dtype: jnp.dtype | None = None
    remat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, 'features', 'head')
        if self.kernel_size % 2 == 0 or self.kernel_size < 3:
            raise ValueError(f'kernel_size must be odd and 3 or more, got {self.kernel_size}')
        if self.blocks < 1:
            raise ValueError(f'blocks must be positive, got {self.blocks}')
        for name, value, allowed in (('shift', self.shift, SHIFTS), ('link', self.link, LINKS)):
            if value not in allowed:
                raise ValueError(f'{name} must be one of {allowed}, got {value!r}')
        if self.spatial_widths and not (self.spatial and self.has_vector):
            raise ValueError(
                'spatial_widths make a map of spatial channels from a class or an embedding, '
                f'got spatial={self.spatial} and neither of them'
            )

    @property
    def likelihood(self) -> Softmax:
        """What the logits mean."""
        return Softmax(self.levels)

    @property
    def has_vector(self) -> bool:
        """Whether there is a class or an embedding."""
        return bool(self.num_classes or self.embedding)

    def setup(self) -> None:
        block = nn.remat(GatedBlock) if self.remat else GatedBlock
        self.stack = [
            block(
                self.features if b else self.colours,
                self.features,
                self.kernel_size,
                self.colours,
                first=b == 0,
                shift=self.shift,
                link=self.link,
                vector=self.num_classes + self.embedding,
                map=self.spatial,
                name=f'block_{b}',
            )
            for b in range(self.blocks)
        ]
        outputs = self.likelihood.outputs(self.colours)
        self.head_layers = Head(self.features, self.head, outputs, self.colours, name='head')
        if self.spatial_widths:
            self.map_network = Deconvolution(self.spatial, self.spatial_widths, name='map')

    def condition(
        self,
        size: tuple[int, int],
        label: jax.Array | None,
        embedding: jax.Array | None,
        spatial: jax.Array | None,
    ) -> Condition:
        """The vector h = [one-hot class, embedding] and the map s for images of `size`.

        Raises:
          ValueError: something that the model is not conditioned on, or nothing where it is.
        """
        check_condition('spatial', spatial, self.spatial > 0 and not self.spatial_widths)
        vector = condition_vector(label, embedding, self.num_classes, self.embedding)
        if self.spatial_widths:
            spatial = self.map_network(vector, size)
        return Condition(vector, None if spatial is None else jnp.asarray(spatial))

    def body(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        *,
        embedding: jax.Array | None = None,
        spatial: jax.Array | None = None,
    ) -> jax.Array:
        """The horizontal stack `[B, H, W, p]` before the head, split among the colours."""
        condition = self.condition(x.shape[1:3], label, embedding, spatial)
        x, condition = jax.tree.map(lambda y: narrowed(y, self.dtype), (x, condition))
        v, h = (shift_down(x) if self.shift == 'input' else x), x
        for block in self.stack:
            v, h = block(v, h, condition)
        return h

    def network(self, x: jax.Array, label: jax.Array | None = None, **given: Any) -> jax.Array:
        """Logits of centred images `x [B, H, W, C]`, floats in [-1, 1]."""
        return self.likelihood.shaped(self.head_layers(self.body(x, label, **given)), self.colours)

    def __call__(
        self, pixels: jax.Array, label: jax.Array | None = None, **given: Any
    ) -> jax.Array:
        """Logits `[B, H, W, C, levels]` of integer images `[B, H, W, C]`.

        Args:
          label: `[B]` integers below `num_classes`.
          **given: `embedding [B, m]` and `spatial [B, H, W, m']`, where the model has them.
        """
        return self.network(centred(pixels, self.levels), label, **given)

    def steps(
        self,
        batch: int,
        size: tuple[int, int],
        label: jax.Array | None = None,
        *,
        embedding: jax.Array | None = None,
        spatial: jax.Array | None = None,
    ) -> GatedSteps:
        """The same network one sub-pixel at a time, for the cached sampler."""
        condition = self.condition(size, label, embedding, spatial)
        blocks = tuple(block.step_weights(condition) for block in self.stack)
        return GatedSteps(
            batch=batch,
            size=size,
            colours=self.colours,
            shift=self.shift,
            link=self.link,
            blocks=blocks,
            by_colour=tuple(
                split_block(w, self.colours, first=b == 0) for b, w in enumerate(blocks)
            ),
            head=split_head(*self.head_layers.weights(), self.colours),
            map=condition.map,
        )
