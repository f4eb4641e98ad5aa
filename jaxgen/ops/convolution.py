"""Convolutions of images `[B, H, W, C]` with resampling (StyleGAN2, appendix B).

Kernels are `[k, k, in, out]`, or `[B, k, k, in, out]` with one for each image. The latter are sums
of batched matmuls of shifted images; a grouped convolution was 6 to 14 times slower on CPUs.
Paddings are as in `ops.upfirdn2d` and may be negative.
"""

import functools

import jax
import jax.numpy as jnp

from jaxgen.ops.upfirdn2d import (
    Filter,
    Padding,
    add_padding,
    downsampling_padding,
    interleave,
    padding_of,
    upfirdn2d,
    upsampling_padding,
)

IMAGES = ('NHWC', 'HWIO', 'NHWC')
# With fewer channels a CPU has no formulation to choose, and less to trace.
MANY = 32
Sides = tuple[tuple[int, int], tuple[int, int]]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: Padding = 0,
    groups: int = 1,
) -> jax.Array:
    """The correlation that neural networks call convolution, `[B, H', W', out]`.

    `groups` splits the channels; a kernel is then `[k, k, in/groups, out]` and shared.
    """
    padding = padding_of(padding)
    if kernel.ndim == 5:
        return _convolve_each(x, kernel, stride, padding)
    if kernel.shape[:2] == (1, 1) and stride == groups == 1 and padding == ((0, 0),) * 2:
        return pointwise(x, kernel[0, 0])
    usual = groups == 1 and all(0 <= n < k for k, p in _sides(kernel, padding) for n in p)
    if usual and stride == 1 and any(sum(p) >= k for k, p in _sides(kernel, padding)):
        # Larger than x: a transposed convolution, with the kernel mirrored.
        size = tuple(
            n + sum(p) - k + 1
            for n, (k, p) in zip(x.shape[1:3], _sides(kernel, padding), strict=True)
        )
        rest = tuple((k - 1 - p[0], k - 1 - p[1]) for k, p in _sides(kernel, padding))
        return _transposed(x, _mirrored(kernel), 1, rest, size)
    if usual and (stride > 1 or _takes_products(x, kernel, stride)):
        return _strided(x, kernel, stride, padding)
    return _windows(x, kernel, stride, padding, groups)


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every pixel of `x [B, H, W, in]` times `kernel [in, out]`, or `[B, in, out]`, one an image.

    A CPU takes matrices: over several axes, XLA transposes before the product that is the kernel's
    gradient (97 against 132 GFLOP/s with 1024 channels, 33 against 57 with 64). A TPU would copy.
    """

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.einsum('bhwc,bcd->bhwd', x, kernel) if kernel.ndim == 3 else x @ kernel

    def flat(x: jax.Array, kernel: jax.Array) -> jax.Array:
        rows = x.reshape(*kernel.shape[:-2], -1, x.shape[-1])
        return (rows @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])

    if min(kernel.shape[-2:]) < MANY:
        return plain(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=flat, default=plain)


def _windows(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Sides, groups: int = 1
) -> jax.Array:
    """XLA's convolution; where nothing is padded, a CPU gets a row too many and drops it again.

    XLA:CPU has no fast path for a convolution without padding: 30 against 127 GFLOP/s (3×3 on 54²,
    512 channels, one core), 45 against 102 (32 channels, 34²).
    """

    def plain(x: jax.Array, kernel: jax.Array, padding: Sides = padding) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(stride, stride),
            padding=padding,
            dimension_numbers=IMAGES,
            feature_group_count=groups,
        )

    if padding != ((0, 0), (0, 0)) or kernel.shape[0] == 1 or min(kernel.shape[2:]) < MANY:
        return plain(x, kernel)
    rows = (x.shape[1] - kernel.shape[0]) // stride + 1
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: plain(x, kernel, ((0, 1), (0, 0)))[:, :rows],
        default=plain,
    )


def _sides(kernel: jax.Array, padding: Sides) -> zip:
    return zip(kernel.shape[:2], padding, strict=True)


def _mirrored(kernel: jax.Array) -> jax.Array:
    """The kernel of the other direction: from outputs to inputs."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


# A strided convolution and the transposed one are each other's gradient by x, and share that by the
# kernel. Told so, XLA:CPU has a fast path for all derivatives; what JAX derives has the smaller
# image as a mirrored window, and takes 20 to 40 times longer (measured).
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _strided(x: jax.Array, kernel: jax.Array, stride: int, padding: Sides) -> jax.Array:
    return _windows(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _transposed(
    y: jax.Array, kernel: jax.Array, stride: int, padding: Sides, size: tuple[int, int]
) -> jax.Array:
    """`[B, *size, in]` from `y [B, h, w, out]`: the transpose of `_strided` by its image."""
    low = [k - 1 - p[0] for k, p in _sides(kernel, padding)]
    rest = [
        (a, n + k - 2 - (m - 1) * stride - a)
        for a, n, k, m in zip(low, size, kernel.shape[:2], y.shape[1:3], strict=True)
    ]
    if stride == 1:
        return _windows(y, _mirrored(kernel), 1, tuple(rest))
    return jax.lax.conv_general_dilated(
        y, _mirrored(kernel), (1, 1), rest, (stride, stride), dimension_numbers=IMAGES
    )


def _takes_products(y: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether a CPU takes the kernel's gradient faster as products (`experiments/speed`).

    GFLOP/s of one core as products and as XLA's convolution: 512 channels, 64²: 108 and 25; 128,
    32²: 75 and 61; with stride 2 onto 31² 104 and 11, 72 and 24. Not with few channels, nor on 16².
    """
    channels, pixels = min(kernel.shape[2:]), y.shape[1] * y.shape[2]
    return channels >= MANY if stride > 1 else channels >= 128 and pixels >= 1024


def _by_kernel(
    x: jax.Array, y: jax.Array, kernel: jax.Array, stride: int, padding: Sides
) -> jax.Array:
    """The gradient by the kernel, with `x` on the larger side and `y` on the smaller."""
    if not _takes_products(y, kernel, stride):
        return _by_convolution(x, y, kernel, stride, padding)
    return jax.lax.platform_dependent(
        x,
        y,
        cpu=lambda x, y: _by_products(x, y, kernel, stride, padding),
        default=lambda x, y: _by_convolution(x, y, kernel, stride, padding),
    )


def _by_products(
    x: jax.Array, y: jax.Array, kernel: jax.Array, stride: int, padding: Sides
) -> jax.Array:
    """One matrix product for each tap."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (stride * (n - 1) + 1 for n in y.shape[1:3])
    y = y.reshape(-1, y.shape[3])

    def tap(i: int, j: int) -> jax.Array:
        met = x[:, i : i + height : stride, j : j + width : stride]
        # Matrices: a product over three axes takes twice as long.
        return met.reshape(-1, x.shape[3]).T @ y

    taps = [[tap(i, j) for j in range(kernel.shape[1])] for i in range(kernel.shape[0])]
    return jnp.stack([jnp.stack(row) for row in taps])


def _by_convolution(
    x: jax.Array, y: jax.Array, kernel: jax.Array, stride: int, padding: Sides
) -> jax.Array:
    """What the transpose of a convolution is to XLA."""
    gradient = jax.lax.conv_general_dilated(
        x,
        y,
        (1, 1),
        padding,
        rhs_dilation=(stride, stride),
        dimension_numbers=('CHWN', 'IHWO', 'NHWC'),
    )
    height, width = kernel.shape[:2]
    return gradient[:, :height, :width].transpose(1, 2, 0, 3)


def _strided_forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Sides
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _strided(x, kernel, stride, padding), (x, kernel)


def _strided_backward(
    stride: int, padding: Sides, kept: tuple[jax.Array, jax.Array], y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    of_x = _transposed(y, kernel, stride, padding, x.shape[1:3])
    return of_x, _by_kernel(x, y, kernel, stride, padding)


def _transposed_forward(
    y: jax.Array, kernel: jax.Array, stride: int, padding: Sides, size: tuple[int, int]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _transposed(y, kernel, stride, padding, size), (y, kernel)


def _transposed_backward(
    stride: int,
    padding: Sides,
    size: tuple[int, int],
    kept: tuple[jax.Array, jax.Array],
    x: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    y, kernel = kept
    return _strided(x, kernel, stride, padding), _by_kernel(x, y, kernel, stride, padding)


_strided.defvjp(_strided_forward, _strided_backward)
_transposed.defvjp(_transposed_forward, _transposed_backward)


def conv2d_resample(
    x: jax.Array,
    kernel: jax.Array,
    f: Filter = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    flip_kernel: bool = False,
    flip: bool = False,
) -> jax.Array:
    """Upsamples through `f`, convolves, downsamples through `f`; each where it costs least.

    Args:
      x: `[B, H, W, in]`.
      f: a filter of `ops.upfirdn2d`, used if up or down is not 1.
      padding: of the upsampled image, all at the beginning; what keeps the size through `f` is
        added to it, what keeps it through the kernel is not.
      flip_kernel: a true convolution with `kernel` instead of a correlation. The published
        generators were trained so where they upsample.
      flip: a correlation with `f` instead of a convolution.
    """
    padding = padding_of(padding)
    if flip_kernel:
        kernel = jnp.flip(kernel, (-4, -3))
    if up > 1:
        padding = add_padding(padding, upsampling_padding(f, up))
    if down > 1:
        padding = add_padding(padding, downsampling_padding(f, down))
    side = kernel.shape[-4]
    if up > 1:
        # All of it is linear and shift invariant, so the kernel may come before the filter, where
        # the image is small.
        x = convolve(x, kernel, groups=groups) if side == 1 else _convolve_up(x, kernel, up, groups)
        gone = (1 - side, 1 - side + (up - 1 if side > 1 else 0))
        first = up if side == 1 else 1
        x = upfirdn2d(
            x, f, up=first, padding=add_padding(padding, (gone, gone)), gain=up**2, flip=flip
        )
        return upfirdn2d(x, f, down=down, flip=flip) if down > 1 else x
    if down > 1 and side == 1:
        x = upfirdn2d(x, f, down=down, padding=padding, flip=flip)
        return convolve(x, kernel, groups=groups)
    if down > 1:
        x, padding = upfirdn2d(x, f, padding=padding, flip=flip), 0
    return convolve(x, kernel, stride=down, padding=padding, groups=groups)


def _convolve_up(x: jax.Array, kernel: jax.Array, up: int, groups: int) -> jax.Array:
    """The full correlation with x between zeros: `[B, (H-1)·up + k, (W-1)·up + k, out]`.

    Each phase of the output is the full correlation of x with the taps that meet no zero. Nothing
    is padded beyond that, as the gradient would crop, for which XLA:CPU has no fast path.
    """
    side = kernel.shape[-4]
    sizes = [(n - 1) * up + side for n in x.shape[1:3]]
    first = [(side - 1 - phase) % up for phase in range(up)]

    def phase(i: int, j: int) -> jax.Array:
        taps = kernel[..., i::up, j::up, :, :]
        shape = [-(-size // up) for size in sizes]
        if 0 in taps.shape[-4:-2]:  # more phases than taps
            return jnp.zeros((x.shape[0], *shape, kernel.shape[-1]), x.dtype)
        padding = tuple((k - 1, k - 1) for k in taps.shape[-4:-2])
        y = convolve(x, taps, padding=padding, groups=groups)
        missing = (shape[axis] - y.shape[axis + 1] for axis in (0, 1))
        return jnp.pad(y, ((0, 0), *((0, n) for n in missing), (0, 0)))

    rows = [interleave([phase(i, j) for j in first], 2) for i in first]
    return interleave(rows, 1)[:, : sizes[0], : sizes[1]]


def _convolve_each(x: jax.Array, kernel: jax.Array, stride: int, padding: Sides) -> jax.Array:
    x = jax.lax.pad(
        x,
        jnp.zeros((), x.dtype),
        ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)),
    )
    height, width = (
        (n - k) // stride + 1 for n, k in zip(x.shape[1:3], kernel.shape[1:3], strict=True)
    )

    def term(i: int, j: int) -> jax.Array:
        rows = slice(i, i + stride * (height - 1) + 1, stride)
        columns = slice(j, j + stride * (width - 1) + 1, stride)
        return pointwise(x[:, rows, columns], kernel[:, i, j])

    return sum(term(i, j) for i in range(kernel.shape[1]) for j in range(kernel.shape[2]))
