"""Both PixelCNNs one sub-pixel at a time, for the cached sampler (after arXiv 1704.06001).

The Gated PixelCNN's vertical stack runs once a row, on the row that was completed last and on the
few rows kept before it; so does the part of the masked PixelCNN that reads rows above. What is
left runs once a sub-pixel, on the few pixels kept to its left, and only on the channels of that
colour: those of the colours before it stand from the steps before. What is kept grows with a row
of the image, not with the image.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.causal_conv import conv, group_sizes

PyTree = Any


class BlockWeights(NamedTuple):
    """Arrays of one `GatedBlock`, masked.

    Shapes, with r = n//2: vertical `[r + 1, n, in, 2p]`, link `[2p, 2p]`, horizontal
    `[r + 1, in, 2p]`, out `[p, p]`; vector_terms two `[B, 1, 1, 2p]` or 0.0; map_kernels two
    `[m', 2p]` or None.
    """

    vertical: jax.Array
    vertical_bias: jax.Array
    link: jax.Array
    horizontal: jax.Array
    horizontal_bias: jax.Array
    out: jax.Array
    out_bias: jax.Array
    vector_terms: tuple[jax.Array | float, jax.Array | float]
    map_kernels: tuple[jax.Array, jax.Array] | None


class ColourWeights(NamedTuple):
    """What of a block is needed for one colour: both stacks joined, masks cut out.

    `taps [r·in + known, 2·p_c]` for the channels of the r pixels at the left and the known ones of
    the pixel itself; `out [p_known, p_c]`, `out_bias [1, p_c]`.
    """

    taps: jax.Array
    out: jax.Array
    out_bias: jax.Array


class Partial(NamedTuple):
    """A pixel whose first colours are known: maps by layer and colour, to be joined."""

    streams: tuple[tuple[jax.Array, ...], ...]  # the horizontal stack; [0] is the image
    gated: tuple[tuple[jax.Array, ...], ...]
    hidden: tuple[jax.Array, ...]  # the head's first layer


def _offsets(channels: int, colours: int) -> list[int]:
    return [0, *np.cumsum(group_sizes(channels, colours)).tolist()]


def _of_gate(x: jax.Array, start: int, stop: int) -> jax.Array:
    """Channels start … stop of both halves of the 2p maps on the last axis."""
    half = x.shape[-1] // 2
    return jnp.concatenate([x[..., start:stop], x[..., half + start : half + stop]], axis=-1)


def _gate(x: jax.Array) -> jax.Array:
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.tanh(first) * jax.nn.sigmoid(second)


def split_block(w: BlockWeights, colours: int, *, first: bool) -> tuple[ColourWeights, ...]:
    """The block's horizontal weights by colour; made once, before any loop."""
    p, known = _offsets(w.out.shape[0], colours), _offsets(w.horizontal.shape[1], colours)
    parts = []
    for c in range(colours):
        kernel = _of_gate(w.horizontal, p[c], p[c + 1])
        at_pixel = kernel[-1, : known[c if first else c + 1]]
        taps = jnp.concatenate([kernel[:-1].reshape(-1, kernel.shape[-1]), at_pixel], axis=0)
        here = slice(p[c], p[c + 1])
        parts.append(ColourWeights(taps, w.out[: p[c + 1], here], w.out_bias[None, here]))
    return tuple(parts)


def split_head(
    first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array], colours: int
) -> tuple[tuple[jax.Array, ...], ...]:
    """Kernel and bias of both layers of the head, by colour."""
    (kernel, bias), (last, last_bias) = first, second
    known, h = _offsets(kernel.shape[0], colours), _offsets(kernel.shape[1], colours)
    levels = last.shape[1] // colours
    parts = []
    for c in range(colours):
        here, at = slice(h[c], h[c + 1]), slice(c * levels, (c + 1) * levels)
        parts.append(
            (
                kernel[: known[c + 1], here],
                bias[None, here],
                last[: h[c + 1], at],
                last_bias[None, at],
            )
        )
    return tuple(parts)


def _head(
    weights: tuple[jax.Array, ...], maps: tuple[jax.Array, ...], hidden: tuple[jax.Array, ...]
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The head of one colour: its hidden maps with those of the colours before, and logits."""
    kernel, bias, last, last_bias = weights
    y = jax.nn.relu(jnp.concatenate(maps, axis=-1)) @ kernel + bias
    hidden = (*hidden, jax.nn.relu(y))
    return hidden, (jnp.concatenate(hidden, axis=-1) @ last + last_bias)[:, None]


def _shifted(left: tuple[jax.Array, ...], maps: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Pixels kept at the left, oldest first: the oldest goes, the new one comes."""
    return tuple(
        jnp.concatenate([x, new], axis=-1)[:, new.shape[-1] :]
        for x, new in zip(left, maps, strict=True)
    )


@dataclasses.dataclass(frozen=True)
class GatedSteps:
    """See the module. The methods are the protocol `Steps` of `autoregressive_sampling`."""

    batch: int
    size: tuple[int, int]
    colours: int
    shift: str
    link: str
    blocks: tuple[BlockWeights, ...]
    by_colour: tuple[tuple[ColourWeights, ...], ...]
    head: tuple[tuple[jax.Array, ...], ...]
    map: jax.Array | None = None

    @property
    def _reach(self) -> int:
        return self.blocks[0].vertical.shape[0] - 1

    def start(self) -> tuple[PyTree, PyTree]:
        """What is kept before the first row: by layer, the last r rows `[B, r, W, in]`."""
        kept = tuple(
            jnp.zeros((self.batch, self._reach, self.size[1], w.vertical.shape[2]), w.link.dtype)
            for w in self.blocks
        )
        return kept, ()

    def begin_row(
        self, kept: PyTree, ended: PyTree, above: jax.Array, i: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Runs the vertical stack for row i.

        Args:
          kept: of `start` or of the row before.
          ended: what `end_pixel` gave for the pixels of the row before: nothing.
          above: `[B, W, C]` in [-1, 1], the row before; zeros for the first.
          i: the row's number.

        Returns:
          What to keep; what each pixel of the row needs, `[W, ...]`; what is kept at its left.
        """
        del ended
        # With 'link' the vertical stack stands on the row above, and above row 0 there is nothing.
        stands = (i > 0).astype(above.dtype) if self.shift == 'link' else 1
        on_map = jnp.maximum(i - 1, 0) if self.shift == 'link' else i
        reach = self._reach
        v, windows, needs = above, [], []
        for w, rows in zip(self.blocks, kept, strict=True):
            window = jnp.concatenate([rows, v[:, None]], axis=1)
            windows.append(window[:, 1:])
            plain = conv(window, w.vertical, padding=((0, 0), (reach, reach)))
            plain = plain + w.vertical_bias[None, None, None, :]
            v_term, h_term = w.vector_terms
            if w.map_kernels is not None:
                v_term = v_term + (self.map[:, on_map] @ w.map_kernels[0])[:, None]
                h_term = h_term + (self.map[:, i] @ w.map_kernels[1])[:, None]
            linked = plain if self.link == 'pre' else plain + v_term
            sums = (linked @ w.link) * stands + w.horizontal_bias[None, None, None, :] + h_term
            sums = jnp.moveaxis(sums[:, 0], 1, 0)
            p = _offsets(w.out.shape[0], self.colours)
            needs.append(tuple(_of_gate(sums, *ends) for ends in zip(p, p[1:], strict=False)))
            v = (_gate(plain + v_term) * stands)[:, 0]
        left = tuple(
            jnp.zeros((self.batch, reach * w.horizontal.shape[1]), w.link.dtype)
            for w in self.blocks
        )
        return tuple(windows), tuple(needs), left

    def begin_pixel(self) -> Partial:
        """A pixel of which nothing is known."""
        empty = ((),) * len(self.blocks)
        return Partial(((), *empty), empty, ())

    def step(
        self, left: PyTree, need: PyTree, partial: Partial, pixel: jax.Array, colours: slice
    ) -> tuple[Partial, jax.Array]:
        """The logits `[B, 1, L]` of one colour, from the colours before it in `pixel [B, C]`."""
        c = colours.start
        image = tuple(pixel[:, k, None] for k in range(c))
        streams, gated = [image], []
        for b, by_colour in enumerate(self.by_colour):
            w = by_colour[c]
            inputs = partial.streams[b] + (streams[b],) if b else image
            sums = need[b][c] + jnp.concatenate([left[b], *inputs], axis=-1) @ w.taps
            gated.append(partial.gated[b] + (_gate(sums),))
            y = jnp.concatenate(gated[b], axis=-1) @ w.out + w.out_bias
            streams.append(y + inputs[c] if b else y)
        joined = tuple(
            old + (new,) for old, new in zip(partial.streams[1:], streams[1:], strict=True)
        )
        hidden, logits = _head(self.head[c], joined[-1], partial.hidden)
        return Partial((image, *joined), tuple(gated), hidden), logits

    def end_pixel(self, left: PyTree, partial: Partial, pixel: jax.Array) -> tuple[PyTree, PyTree]:
        """What is kept at the left of the next pixel, and what the next row will want."""
        maps = (pixel, *(jnp.concatenate(groups, axis=-1) for groups in partial.streams[1:-1]))
        return _shifted(left, maps), ()


class ConvWeights(NamedTuple):
    """A masked convolution: its rows above the pixel, and the pixel's own row by colour.

    above `[r, k, in, out]`, None for a 1×1; `rows` a `(taps, bias)` for each colour, as in
    `ColourWeights`.
    """

    above: jax.Array | None
    rows: tuple[tuple[jax.Array, jax.Array], ...]


def split_conv(
    weight: jax.Array, bias: jax.Array, colours: int, *, first: bool = False
) -> ConvWeights:
    """The parts of a masked kernel `[k, k, in, out]`; made once, before any loop."""
    r = weight.shape[0] // 2
    out, known = _offsets(weight.shape[3], colours), _offsets(weight.shape[2], colours)
    rows = []
    for c in range(colours):
        here = slice(out[c], out[c + 1])
        kernel = weight[r, : r + 1, :, here]
        at_pixel = kernel[r, : known[c if first else c + 1]]
        taps = jnp.concatenate([kernel[:r].reshape(-1, kernel.shape[-1]), at_pixel], axis=0)
        rows.append((taps, bias[None, here]))
    return ConvWeights(weight[:r] if r else None, tuple(rows))


class MaskedPartial(NamedTuple):
    """A pixel whose first colours are known, in the masked PixelCNN: maps by layer and colour."""

    streams: tuple[tuple[jax.Array, ...], ...]
    inner: tuple[tuple[jax.Array, ...], ...]  # what each block's 3×3 reads
    middle: tuple[tuple[jax.Array, ...], ...]  # what it gives
    hidden: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class MaskedSteps:
    """The masked PixelCNN: a row of every 3×3 at once for what lies above, then as `GatedSteps`."""

    batch: int
    size: tuple[int, int]
    colours: int
    conv_in: ConvWeights
    blocks: tuple[tuple[ConvWeights, ConvWeights, ConvWeights], ...]
    head: tuple[tuple[jax.Array, ...], ...]

    @property
    def _wide(self) -> tuple[ConvWeights, ...]:
        """The convolutions that read other pixels."""
        return (self.conv_in, *(mid for _, mid, _ in self.blocks))

    def start(self) -> tuple[PyTree, PyTree]:
        """The last r rows of what each convolution reads, and the row that the pixels left."""
        width, kept, ended = self.size[1], [], []
        for conv_weights in self._wide:
            reach, _, channels, _ = conv_weights.above.shape
            dtype = conv_weights.above.dtype
            kept.append(jnp.zeros((self.batch, reach, width, channels), dtype))
            ended.append(jnp.zeros((width, self.batch, channels), dtype))
        return tuple(kept), tuple(ended[1:])

    def begin_row(
        self, kept: PyTree, ended: PyTree, above: jax.Array, i: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Adds up what lies above row i, for all its pixels."""
        del i
        news = (above, *(jnp.moveaxis(row, 0, 1) for row in ended))
        rows, needs, left = [], [], []
        for weights, old, new in zip(self._wide, kept, news, strict=True):
            rows.append(jnp.concatenate([old, new[:, None]], axis=1)[:, 1:])
            reach, _, channels, out = weights.above.shape
            sums = conv(rows[-1], weights.above, padding=((0, 0), (reach, reach)))
            sums, ends = jnp.moveaxis(sums[:, 0], 1, 0), _offsets(out, self.colours)
            needs.append(tuple(jnp.split(sums, ends[1:-1], axis=-1)))
            left.append(jnp.zeros((self.batch, reach * channels), sums.dtype))
        return tuple(rows), tuple(needs), tuple(left)

    def begin_pixel(self) -> MaskedPartial:
        """A pixel of which nothing is known."""
        empty = ((),) * len(self.blocks)
        return MaskedPartial(((), *empty), empty, empty, ())

    def step(
        self, left: PyTree, need: PyTree, partial: MaskedPartial, pixel: jax.Array, colours: slice
    ) -> tuple[MaskedPartial, jax.Array]:
        """The logits `[B, 1, L]` of one colour, from the colours before it in `pixel [B, C]`."""
        c = colours.start

        def apply(weights: ConvWeights, known: tuple[jax.Array, ...]) -> jax.Array:
            taps, bias = weights.rows[c]
            return jnp.concatenate(known, axis=-1) @ taps + bias

        u = need[0][c] + apply(self.conv_in, (left[0], pixel[:, :c]))
        streams, inner, middle = [(*partial.streams[0], u)], [], []
        for b, (down, mid, up) in enumerate(self.blocks):
            y = jax.nn.relu(apply(down, tuple(map(jax.nn.relu, streams[b]))))
            inner.append((*partial.inner[b], y))
            y = need[b + 1][c] + apply(mid, (left[b + 1], *inner[b]))
            middle.append((*partial.middle[b], jax.nn.relu(y)))
            u = u + apply(up, middle[b])
            streams.append((*partial.streams[b + 1], u))
        hidden, logits = _head(self.head[c], streams[-1], partial.hidden)
        partial = MaskedPartial(tuple(streams), tuple(inner), tuple(middle), hidden)
        return partial, logits

    def end_pixel(
        self, left: PyTree, partial: MaskedPartial, pixel: jax.Array
    ) -> tuple[PyTree, PyTree]:
        """What is kept at the left of the next pixel, and what the next row will want."""
        maps = (pixel, *(jnp.concatenate(groups, axis=-1) for groups in partial.inner))
        return _shifted(left, maps), maps[1:]
