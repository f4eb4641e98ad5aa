"""Resampling of images `[B, H, W, C]` by FIR filters: upsample, pad, filter, downsample.

    z = x with up - 1 zeros after every sample, then padded (negative: cropped)
    y[m] = Σ_k f[k] z[m·down + K - 1 - k]                along both axes

A filter is None (a single 1), `[K]` (separable, the same along both axes) or `[KH, KW]`. Arguments
of both axes are one number or (height, width); paddings are one number or ((top, bottom),
(left, right)) and count pixels of the *upsampled* image.

Every phase of the output is a sum of slices of x times one tap each: no zero is multiplied and
nothing is computed that is thrown away. A depthwise convolution says the same, but was 7 to 150
times slower on CPUs (measured). A TPU takes the same map as products with banded matrices, see
`ops.fir_matrices`. The transposed map is this one again with up and down exchanged,
and is told to JAX: transposing the slices one by one makes a pad of each. Derivatives are reverse
mode, of any order.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops import fir_matrices

Filter = np.ndarray | jax.Array | None
Pair = int | tuple[int, int]
Padding = int | tuple[tuple[int, int], tuple[int, int]]


def setup_filter(
    taps: Sequence | float | None,
    *,
    normalize: bool = True,
    flip: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
) -> np.ndarray:
    """A filter from a list of taps, `[K]` or `[KH, KW]` float32.

    Args:
      taps: one axis, or both; None and a number are a filter of one tap.
      normalize: divides by the sum, so that the mean of an image stays.
      gain: of the whole filter in two dimensions.
      separable: keeps one axis, by default from 8 taps on; else the outer product is made.
    """
    f = np.atleast_1d(np.asarray(1 if taps is None else taps, np.float32))
    if f.ndim > 2 or not f.size:
        raise ValueError(f'a filter has one or two axes, got the shape {f.shape}')
    if separable is None:
        separable = f.ndim == 1 and f.size >= 8
    if f.ndim == 1 and not separable:
        f = np.outer(f, f)
    if normalize:
        f = f / f.sum()
    if flip:
        f = np.flip(f)
    return f * np.float32(gain ** (f.ndim / 2))


def upfirdn2d(
    x: jax.Array,
    f: Filter,
    *,
    up: Pair = 1,
    down: Pair = 1,
    padding: Padding = 0,
    gain: float = 1.0,
    flip: bool = False,
) -> jax.Array:
    """Upsamples, pads, filters and downsamples.

    Args:
      x: `[B, H, W, C]`.
      f: see above; may be traced. A `[KH, KW]` filter that is an outer product costs no more than
        a separable one.
      gain: of the filter in two dimensions.
      flip: a correlation with `f` instead of a convolution.

    Returns:
      `[B, H', W', C]` with H' = (H·up + top + bottom - KH) // down + 1, in the dtype of x; sums are
      float32 at least.

    Raises:
      ValueError: the padded image is smaller than the filter.
    """
    up, down, padding = pair(up), pair(down), padding_of(padding)
    for axes, taps in _passes(f, gain, flip):
        x = _resample(x, taps, _on(axes, up, 1), _on(axes, down, 1), _on(axes, padding, (0, 0)))
    return x


def filter2d(
    x: jax.Array, f: Filter, *, padding: Padding = 0, gain: float = 1.0, flip: bool = False
) -> jax.Array:
    """Filters and keeps the size; `padding` is added to what that takes."""
    around = [(k // 2, (k - 1) // 2) for k in filter_size(f)]
    return upfirdn2d(x, f, padding=add_padding(padding, around), gain=gain, flip=flip)


def upsample2d(
    x: jax.Array,
    f: Filter,
    *,
    up: Pair = 2,
    padding: Padding = 0,
    gain: float = 1.0,
    flip: bool = False,
) -> jax.Array:
    """Makes images `up` times larger, keeping the mean; `padding` is added to what that takes."""
    padding = add_padding(padding, upsampling_padding(f, up))
    gain = gain * math.prod(pair(up))
    return upfirdn2d(x, f, up=up, padding=padding, gain=gain, flip=flip)


def downsample2d(
    x: jax.Array,
    f: Filter,
    *,
    down: Pair = 2,
    padding: Padding = 0,
    gain: float = 1.0,
    flip: bool = False,
) -> jax.Array:
    """Makes images `down` times smaller; `padding` is added to what that takes."""
    padding = add_padding(padding, downsampling_padding(f, down))
    return upfirdn2d(x, f, down=down, padding=padding, gain=gain, flip=flip)


def pair(value: Pair) -> tuple[int, int]:
    """(height, width) of an argument of both axes."""
    return (value, value) if isinstance(value, int) else tuple(value)


def padding_of(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right))."""
    return ((padding,) * 2,) * 2 if isinstance(padding, int) else tuple(map(tuple, padding))


def add_padding(
    padding: Padding, more: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The sum of two paddings."""
    return tuple((a[0] + b[0], a[1] + b[1]) for a, b in zip(padding_of(padding), more, strict=True))


def filter_size(f: Filter) -> tuple[int, int]:
    """(height, width) of a filter."""
    if f is None:
        return 1, 1
    return f.shape if f.ndim == 2 else f.shape * 2


def upsampling_padding(f: Filter, up: Pair = 2) -> list[tuple[int, int]]:
    """What keeps images in place when they are upsampled through `f`."""
    sides = zip(filter_size(f), pair(up), strict=True)
    return [((k + u - 1) // 2, (k - u) // 2) for k, u in sides]


def downsampling_padding(f: Filter, down: Pair = 2) -> list[tuple[int, int]]:
    """What keeps images in place when they are downsampled through `f`."""
    sides = zip(filter_size(f), pair(down), strict=True)
    return [((k - d + 1) // 2, (k - d) // 2) for k, d in sides]


def _on(axes: tuple[int, ...], values: Sequence, neutral: object) -> tuple:
    return tuple(value if i in axes else neutral for i, value in enumerate(values))


def _passes(f: Filter, gain: float, flip: bool) -> list[tuple[tuple[int, ...], Filter]]:
    """(axes, taps `[KH, KW]` of a correlation along them), one after the other."""
    if f is None:
        f = np.ones((1, 1))
    if not isinstance(f, jax.Array):
        f = np.asarray(f, np.float64)
    if not flip:
        f = f[(slice(None, None, -1),) * f.ndim]
    if f.ndim == 1:
        f = f * gain**0.5
        return [((0,), f[:, None]), ((1,), f[None, :])]
    f = f * gain
    factors = None if isinstance(f, jax.Array) else _factors(f)
    if factors is None:
        return [((0, 1), f)]
    return [((0,), factors[0][:, None]), ((1,), factors[1][None, :])]


def _factors(f: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(column, row) whose outer product is `f` in float64, None if there are none."""
    total = f.sum()
    if not total:
        return None
    # Sums, because those of the usual filters are exact.
    column, row = f.sum(1), f.sum(0) / total
    close = np.allclose(np.outer(column, row), f, rtol=1e-15, atol=0)
    return (column, row) if close else None


@dataclasses.dataclass(frozen=True)
class Phases:
    """How one axis is resampled: output m = phase + m'·len(phases) sums taps of strided slices.

    Attributes:
      starts: for each phase its (tap, index of the first sample in the padded input).
      stride: between the samples of a slice. count: samples in each.
      padding: zeros to put before and after the input.
    """

    starts: tuple[tuple[tuple[int, int], ...], ...]
    stride: int
    count: int
    padding: tuple[int, int]


def phases(length: int, taps: int, up: int, down: int, before: int, size: int) -> Phases:
    """The phases of an axis of `length` samples, padded by `before`, with `size` outputs."""
    common = math.gcd(up, down)
    stride, count = down // common, -(-size * common // up)
    starts = [
        [(k, (first + k) // up) for k in range(taps) if (first + k) % up == 0]
        for first in range(-before, down * (up // common) - before, down)
    ]
    every = [start for phase in starts for _, start in phase] or [0]
    low = max(0, -min(every))
    high = max(0, max(every) + stride * (count - 1) + 1 - length)
    shifted = tuple(tuple((k, start + low) for k, start in phase) for phase in starts)
    return Phases(shifted, stride, count, (low, high))


def interleave(parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """Sample i of part j becomes sample i·len(parts) + j."""
    if len(parts) == 1:
        return parts[0]
    y = jnp.stack(parts, axis + 1)
    return y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])


def _resample(
    x: jax.Array,
    taps: Filter,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> jax.Array:
    size = tuple(
        (n * u + sum(p) - k) // d + 1
        for n, u, d, p, k in zip(x.shape[1:3], up, down, padding, taps.shape, strict=True)
    )
    if min(size) < 1:
        raise ValueError(f'a filter of {taps.shape} taps does not fit the image, {x.shape[1:3]}')
    geometry = up, down, tuple(p[0] for p in padding), size, x.shape[1:3]
    if isinstance(taps, jax.Array):
        return _correlate_traced(x, taps, geometry)
    return _correlate(x, tuple(map(tuple, taps.tolist())), geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _correlate_once(
    x: jax.Array, taps: tuple[tuple[float, ...], ...], geometry: tuple
) -> jax.Array:
    """The linear map, and its transpose, in the form that suits the machine."""
    f = np.array(taps)
    return jax.lax.platform_dependent(
        x,
        tpu=lambda x: fir_matrices.resample(x, f, *geometry),
        default=lambda x: _sum_of_slices(x, f, *geometry),
    )


# Hundreds of slices take longer to trace than to compile: each shape is traced once.
_correlate = jax.jit(_correlate_once, static_argnums=(1, 2), inline=True)


def _forward(x: jax.Array, taps: tuple, geometry: tuple) -> tuple[jax.Array, None]:
    return _correlate(x, taps, geometry), None


def _backward(taps: tuple, geometry: tuple, _: None, y: jax.Array) -> tuple[jax.Array]:
    flipped = tuple(row[::-1] for row in taps[::-1])
    return (_correlate(y, flipped, _transposed(np.shape(taps), geometry)),)


_correlate_once.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate_traced(x: jax.Array, taps: jax.Array, geometry: tuple) -> jax.Array:
    """The same with taps that are not known beforehand, and may be differentiated too."""
    return _sum_of_slices(x, taps, *geometry)


def _forward_traced(x: jax.Array, taps: jax.Array, geometry: tuple) -> tuple[jax.Array, tuple]:
    return _correlate_traced(x, taps, geometry), (x, taps)


def _backward_traced(geometry: tuple, kept: tuple, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, taps = kept
    transposed = _transposed(taps.shape, geometry)
    _, pull = jax.vjp(lambda taps: _sum_of_slices(x, taps, *geometry), taps)
    return _correlate_traced(y, taps[::-1, ::-1], transposed), *pull(y)


_correlate_traced.defvjp(_forward_traced, _backward_traced)


def _transposed(taps: tuple[int, int], geometry: tuple) -> tuple:
    up, down, before, size, length = geometry
    return down, up, tuple(k - 1 - b for k, b in zip(taps, before, strict=True)), length, size


def _sum_of_slices(
    x: jax.Array,
    taps: Filter,
    up: tuple[int, int],
    down: tuple[int, int],
    before: tuple[int, int],
    size: tuple[int, int],
    length: tuple[int, int],
) -> jax.Array:
    arguments = zip(length, taps.shape, up, down, before, size, strict=True)
    vertical, horizontal = (phases(*axis) for axis in arguments)
    static = not isinstance(taps, jax.Array)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    x = jax.lax.pad(
        x,
        jnp.zeros((), x.dtype),
        ((0, 0, 0), (*vertical.padding, 0), (*horizontal.padding, 0), (0, 0, 0)),
    )

    def term(k: int, top: int, j: int, left: int) -> jax.Array:
        stop = (
            x.shape[0],
            top + vertical.stride * (vertical.count - 1) + 1,
            left + horizontal.stride * (horizontal.count - 1) + 1,
            x.shape[3],
        )
        strides = (1, vertical.stride, horizontal.stride, 1)
        part = jax.lax.slice(x, (0, top, left, 0), stop, strides).astype(dtype)
        tap = np.asarray(taps[k, j], dtype) if static else taps[k, j].astype(dtype)
        return jax.lax.mul(part, jax.lax.broadcast(tap, part.shape))

    rows = []
    for row in vertical.starts:
        columns = []
        for column in horizontal.starts:
            places = [(*v, *h) for v in row for h in column if not static or taps[v[0], h[0]]]
            zeros = (x.shape[0], vertical.count, horizontal.count, x.shape[3])
            terms = [term(*place) for place in places] or [jnp.zeros(zeros, dtype)]
            columns.append(functools.reduce(jax.lax.add, terms).astype(x.dtype))
        rows.append(interleave(columns, 2))
    return interleave(rows, 1)[:, : size[0], : size[1]]
