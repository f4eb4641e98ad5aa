"""PixelCNN++ one pixel at a time, for the cached sampler (after arXiv 1704.06001).

The stream u, and of the stream ul all that reads the rows above, runs once a row, on the row that
was completed last and on one kept row of every map. What is left of ul runs once a pixel, on one
kept pixel of every map. The maps at half and quarter resolution run on every second and fourth row
and column only. What is kept grows with a row of the image, not with the image.

Row arrays are `[B, W, F]`, pixel arrays `[B, F]`. A stage s has the rows and columns i, j of the
image that are multiples of 2^s.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.causal_conv import conv, transposed_conv

PyTree = Any
Nonlinearity = Callable[[jax.Array], jax.Array]


class Conv(NamedTuple):
    """A normalised kernel `[kh, kw, in, out]` and its bias.

    `here`: of a 2×2 kernel, the lower row as a matrix `[2·in, out]` for the pixel at the left and
    the pixel itself; cut out once, before any loop.
    """

    kernel: jax.Array
    bias: jax.Array
    here: jax.Array | None = None


class BlockWeights(NamedTuple):
    """Arrays of one `GatedResnet`.

    `of_u`, `of_ul`: the rows of the shortcut's kernel that read u and ul, and its bias; `term
    [1 or B, 2F]` is what the condition adds.
    """

    conv_in: Conv
    conv_out: Conv
    of_u: jax.Array | None
    of_ul: jax.Array | None
    shortcut_bias: jax.Array
    term: jax.Array


class Stage(NamedTuple):
    """One resolution: (u, ul) blocks of both passes, and (u, ul) of the way to it and back."""

    up: tuple[tuple[BlockWeights, BlockWeights], ...]
    down: tuple[tuple[BlockWeights, BlockWeights], ...]
    halve: tuple[Conv, Conv] | None
    double: tuple[Conv, Conv] | None


class RowNeed(NamedTuple):
    """What the pixels of a stage's row need, `[B, W, F]` each.

    `blocks`: two sums a block, of all that is known before ul runs. `halved`: the same for the
    layer that leads to this stage. `doubled`: the map that comes back from the next one, where
    this row is odd.
    """

    blocks: tuple[tuple[jax.Array, jax.Array], ...]
    halved: jax.Array | None
    doubled: jax.Array | None


class Kept(NamedTuple):
    """One row of every map of a stage.

    `u`, `ul`: the inputs of each block's two convolutions. `last_u`, `last_ul`: what leads to the
    next stage. `next_u`: what u gets back from it on the odd row. `out_ul`: the stage's result.
    """

    u: tuple[tuple[jax.Array, jax.Array], ...]
    ul: tuple[tuple[jax.Array, jax.Array], ...]
    last_u: jax.Array
    last_ul: jax.Array
    next_u: jax.Array
    out_ul: jax.Array


class Left(NamedTuple):
    """One pixel of every map of ul of a stage, as in `Kept`; `doubled` is for the odd column."""

    blocks: tuple[tuple[jax.Array, jax.Array], ...]
    last: jax.Array
    out: jax.Array
    doubled: jax.Array


def pixel_conv(kernel: jax.Array, bias: jax.Array) -> Conv:
    """A 2×2 convolution of ul with the part that reads the pixel's own row cut out."""
    return Conv(kernel, bias, kernel[1].reshape(-1, kernel.shape[-1]))


def split_shortcut(kernel: jax.Array, copies: int) -> tuple[jax.Array, jax.Array]:
    """Rows of a kernel on φ of [u, ul]: those for φ of u and for φ of ul.

    φ makes `copies` of what it gets, one after the other: concat-ELU gives [u, ul, -u, -ul].
    """
    by_part = kernel[0, 0].reshape(copies, 2, -1, kernel.shape[-1])
    return tuple(by_part[:, k].reshape(-1, kernel.shape[-1]) for k in range(2))


def _row_conv(weights: Conv, before: jax.Array, row: jax.Array, *, stride: int = 1) -> jax.Array:
    """A 2×3 convolution on the rows `before` and `row`."""
    y = conv(
        jnp.stack([before, row], axis=1), weights.kernel, stride=stride, padding=((0, 0), (1, 1))
    )
    return y[:, 0] + weights.bias[None, None, :]


def _from_above(weights: Conv, before: jax.Array, *, stride: int = 1) -> jax.Array:
    """The part of a 2×2 convolution that reads the row `before`, and the bias."""
    y = conv(before[:, None], weights.kernel[:1], stride=stride, padding=((0, 0), (1, 0)))
    return y[:, 0] + weights.bias[None, None, :]


def _gated(x: jax.Array, y: jax.Array) -> jax.Array:
    a, b = jnp.split(y, 2, axis=-1)
    return x + a * jax.nn.sigmoid(b)


@dataclasses.dataclass(frozen=True)
class PixelCNNppSteps:
    """See the module. The methods are the protocol `Steps` of `autoregressive_sampling`."""

    batch: int
    size: tuple[int, int]
    features: int
    nonlinearity: Nonlinearity
    copies: int
    stem: tuple[Conv, Conv, Conv]
    stages: tuple[Stage, ...]
    out: Conv

    def start(self) -> tuple[PyTree, PyTree]:
        """Zeros: what is kept before the first row, and what a row of pixels leaves."""
        kept = tuple(self._empty(Kept, s, (self.size[1] >> s,)) for s in range(len(self.stages)))
        ended = tuple(
            jax.tree.map(
                lambda x: jnp.zeros((self.size[1], *x.shape), x.dtype), self._empty(Left, s, ())
            )
            for s in range(len(self.stages))
        )
        image = jnp.zeros((self.batch, self.size[1], self.stem[0].kernel.shape[2]), self._dtype)
        return (image, kept), ended

    @property
    def _dtype(self) -> jnp.dtype:
        return self.out.kernel.dtype

    def _empty(self, kind: type, s: int, shape: tuple[int, ...]) -> PyTree:
        stage = self.stages[s]
        map_ = jnp.zeros((self.batch, *shape, self.features), self._dtype)
        wide = jnp.zeros((self.batch, *shape, self.copies * self.features), self._dtype)
        blocks = ((wide, wide),) * len(stage.up + stage.down)
        if kind is Left:
            return Left(blocks, map_, map_, map_)
        return Kept(blocks, blocks, map_, map_, map_, map_)

    def begin_row(
        self, kept: PyTree, ended: PyTree, above: jax.Array, i: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Runs what reads rows above row i only; see `autoregressive_sampling.Steps`."""
        image, stages = kept
        stages = tuple(self._adopt(s, stages[s], ended[s], i) for s in range(len(stages)))
        stands = (i > 0).astype(above.dtype)
        # The channel of ones is zero outside of the image.
        above = jnp.concatenate([above, jnp.broadcast_to(stands, (*above.shape[:2], 1))], axis=-1)
        first, row, column = self.stem
        u = _row_conv(first, image, above) * stands
        from_row = conv(above[:, None], row.kernel, padding=((0, 0), (1, 1)))[:, 0]
        from_row = (from_row + row.bias[None, None, :]) * stands
        from_column = above @ column.kernel[0, 0] + column.bias[None, None, :]
        from_column = jnp.pad(from_column, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        _, stages, needs = self._row(0, u, stages, i)
        width = self.size[1]
        needs = tuple(
            jax.tree.map(lambda x, s=s: jnp.repeat(jnp.moveaxis(x, 1, 0), 2**s, axis=0), need)
            for s, need in enumerate(needs)
        )
        place = jnp.arange(width), jnp.broadcast_to(i, (width,))
        needs = (place, jnp.moveaxis(from_row + from_column, 1, 0), needs)
        left = tuple(self._empty(Left, s, ()) for s in range(len(self.stages)))
        left = (jnp.zeros((self.batch, above.shape[-1]), above.dtype), left)
        return (above, stages), needs, left

    def _adopt(self, s: int, kept: Kept, ended: Left, i: jax.Array) -> Kept:
        """The maps of ul that the pixels of the row before left behind, if it was of stage s."""
        ran = (i - 1) % 2**s == 0

        def adopt(old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(ran, jnp.moveaxis(new[:: 2**s], 0, 1), old)

        return kept._replace(
            ul=jax.tree.map(adopt, kept.ul, ended.blocks),
            last_ul=adopt(kept.last_ul, ended.last),
            out_ul=adopt(kept.out_ul, ended.out),
        )

    def _row(
        self, s: int, u: jax.Array, kept: tuple[Kept, ...], i: jax.Array
    ) -> tuple[jax.Array, tuple[Kept, ...], tuple[RowNeed, ...]]:
        """Stage s and those below it: u after the down pass, what to keep, what pixels need."""
        stage, mine, below = self.stages[s], kept[0], kept[1:]
        us, caches, needs = [u], [], []

        def block(number: int, blocks: tuple[BlockWeights, ...], a: jax.Array | None) -> None:
            nonlocal u
            u, cache = self._row_block(blocks[0], u, a, mine.u[number])
            caches.append(cache)
            needs.append(self._row_of_ul(blocks[1], u, mine.ul[number]))

        for number, blocks in enumerate(stage.up):
            block(number, blocks, None)
            us.append(u)
        last, next_u, doubled, below_needs = u, mine.next_u, None, ()
        if below:
            doubled = self._odd_row(s + 1, below[0].out_ul)
            u, next_u, below, below_needs = self._row_below(s + 1, last, mine, below, i)
        else:
            us.pop()
        for number, blocks in enumerate(stage.down, len(stage.up)):
            block(number, blocks, us.pop())
        mine = mine._replace(u=tuple(caches), last_u=last, next_u=next_u)
        need = RowNeed(tuple(needs), None, doubled)
        return u, (mine, *below), (need, *below_needs)

    def _row_below(
        self, s: int, last: jax.Array, before: Kept, kept: tuple[Kept, ...], i: jax.Array
    ) -> tuple[jax.Array, jax.Array, tuple[Kept, ...], tuple[RowNeed, ...]]:
        """What u gets back from stage s on this row and the next, and the rest as `_row`."""
        halve, double = self.stages[s].halve, self.stages[s].double[0]

        def run(kept: tuple[Kept, ...]) -> PyTree:
            u = _row_conv(halve[0], before.last_u, last, stride=2)
            u, kept, needs = self._row(s, u, kept, i)
            halved = _from_above(halve[1], before.last_ul, stride=2)
            needs = (needs[0]._replace(halved=halved), *needs[1:])
            pair = transposed_conv(u[:, None], double.kernel)[:, :, 1:]
            pair = pair + double.bias[None, None, None, :]
            return pair[:, 0], pair[:, 1], kept, needs

        def rest(kept: tuple[Kept, ...]) -> PyTree:
            needs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            return before.next_u, before.next_u, kept, needs

        shapes = jax.eval_shape(run, kept)[-1]
        return jax.lax.cond(i % 2**s == 0, run, rest, kept)

    def _odd_row(self, s: int, x: jax.Array) -> jax.Array:
        """The odd row that stage s gives back to ul, from its result `[B, W/2, F]`."""
        kernel, bias, _ = self.stages[s].double[1]
        pair = jnp.stack([x @ kernel[1, 0], x @ kernel[1, 1]], axis=2)
        return pair.reshape(x.shape[0], -1, x.shape[2]) + bias[None, None, :]

    def _row_block(
        self,
        block: BlockWeights,
        u: jax.Array,
        a: jax.Array | None,
        cache: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """A block of u on a row, and the inputs of its convolutions to keep."""
        act = self.nonlinearity
        first = act(u)
        y = _row_conv(block.conv_in, cache[0], first)
        if a is not None:
            y = y + act(a) @ block.of_u + block.shortcut_bias[None, None, :]
        second = act(y)
        y = _row_conv(block.conv_out, cache[1], second) + block.term[:, None]
        return _gated(u, y), (first, second)

    def _row_of_ul(
        self, block: BlockWeights, u: jax.Array, cache: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """The part of a block of ul that is known before its row."""
        first = _from_above(block.conv_in, cache[0]) + self.nonlinearity(u) @ block.of_u
        second = _from_above(block.conv_out, cache[1]) + block.term[:, None]
        return first + block.shortcut_bias[None, None, :], second

    def begin_pixel(self) -> PyTree:
        """Nothing: a pixel has one step."""
        return ()

    def step(
        self, left: PyTree, need: PyTree, partial: PyTree, pixel: jax.Array, colours: slice
    ) -> tuple[PyTree, jax.Array]:
        """The mixture's parameters `[B, 10K]` of a pixel; `pixel` and `colours` play no part."""
        del partial, pixel, colours
        place, stem, needs = need
        image, maps = left
        column = self.stem[2].kernel[1, 0]
        ul, maps = self._pixel(0, stem + image @ column, maps, needs, place)
        return maps, jax.nn.elu(ul) @ self.out.kernel[0, 0] + self.out.bias[None, :]

    def end_pixel(self, left: PyTree, partial: PyTree, pixel: jax.Array) -> tuple[PyTree, PyTree]:
        """What the pixel at the right and the row below will want: the same maps."""
        del left
        image = jnp.concatenate([pixel, jnp.ones_like(pixel[:, :1])], axis=-1)
        return (image, partial), partial

    def _pixel(
        self,
        s: int,
        ul: jax.Array,
        left: tuple[Left, ...],
        needs: tuple[RowNeed, ...],
        place: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, tuple[Left, ...]]:
        """Stage s and those below it: ul after the down pass, and its maps."""
        stage, mine, below, sums = self.stages[s], left[0], left[1:], needs[0].blocks
        uls, inputs = [ul], []
        for (_, block), cache, known in zip(stage.up, mine.blocks, sums, strict=False):
            ul, pair = self._pixel_block(block, ul, cache, known)
            uls.append(ul)
            inputs.append(pair)
        last, doubled = ul, mine.doubled
        if below:
            even_column, even_row = (x % 2 ** (s + 1) == 0 for x in place)
            ul, doubled, below = jax.lax.cond(
                even_column & even_row,
                lambda below: self._pixel_below(s + 1, last, mine.last, below, needs[1:], place),
                lambda below: (mine.doubled, mine.doubled, below),
                below,
            )
            ul = jnp.where(even_row, ul, needs[0].doubled)
        else:
            uls.pop()
        count = len(stage.up)
        for (_, block), cache, known in zip(
            stage.down, mine.blocks[count:], sums[count:], strict=True
        ):
            known = known[0] + self.nonlinearity(uls.pop()) @ block.of_ul, known[1]
            ul, pair = self._pixel_block(block, ul, cache, known)
            inputs.append(pair)
        return ul, (Left(tuple(inputs), last, ul, doubled), *below)

    def _pixel_below(
        self,
        s: int,
        last: jax.Array,
        left_of_last: jax.Array,
        left: tuple[Left, ...],
        needs: tuple[RowNeed, ...],
        place: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, tuple[Left, ...]]:
        """What ul gets back from stage s on this column and the next, and stage s's maps."""
        halve, double = self.stages[s].halve[1], self.stages[s].double[1]
        ul = needs[0].halved + jnp.concatenate([left_of_last, last], axis=-1) @ halve.here
        ul, maps = self._pixel(s, ul, left, needs, place)
        even, odd = (ul @ double.kernel[0, c] + double.bias[None, :] for c in range(2))
        return even, odd, maps

    def _pixel_block(
        self,
        block: BlockWeights,
        ul: jax.Array,
        left: tuple[jax.Array, jax.Array],
        known: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """A block of ul on a pixel, and the inputs of its convolutions."""
        first = self.nonlinearity(ul)
        y = known[0] + jnp.concatenate([left[0], first], axis=-1) @ block.conv_in.here
        second = self.nonlinearity(y)
        y = known[1] + jnp.concatenate([left[1], second], axis=-1) @ block.conv_out.here
        return _gated(ul, y), (first, second)
