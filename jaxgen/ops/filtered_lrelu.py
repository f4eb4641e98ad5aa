"""The filtered nonlinearity of StyleGAN3 (section 3.2): leaky ReLU at a higher sampling rate.

A pointwise nonlinearity makes frequencies that the sampling rate cannot hold. So the signal is
upsampled, rectified, and low-pass filtered on the way back.
"""

import jax

from jaxgen.ops.activations import SQRT2, bias_act
from jaxgen.ops.upfirdn2d import Filter, Padding, pair, upfirdn2d


def filtered_lrelu(
    x: jax.Array,
    up_filter: Filter = None,
    down_filter: Filter = None,
    bias: jax.Array | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    gain: float = SQRT2,
    slope: float = 0.2,
    limit: float | None = None,
    flip: bool = False,
    remat: bool = True,
) -> jax.Array:
    """Adds the bias, upsamples, rectifies, clamps, filters and downsamples.

    Args:
      x: `[B, H, W, C]`. bias: `[C]`; what is padded gets none.
      up_filter, down_filter: see `ops.upfirdn2d`.
      padding: of the upsampled image, for both filters together.
      gain, slope: of the leaky ReLU. limit: of its result's magnitude.
      flip: correlations with the filters instead of convolutions.
      remat: computes the upsampled image again in the backward pass instead of keeping it, which
        would take up to `up²` times the memory of x.

    Returns:
      `[B, H', W', C]` with H' = (H·up + top + bottom - up taps + 1 - down taps) // down + 1.
    """

    def run(x: jax.Array, bias: jax.Array | None) -> jax.Array:
        y = bias_act(x, bias)
        y = upfirdn2d(y, up_filter, up=up, padding=padding, gain=pair(up)[0] ** 2, flip=flip)
        y = bias_act(y, kind='lrelu', slope=slope, gain=gain, limit=limit)
        return upfirdn2d(y, down_filter, down=down, flip=flip)

    return (jax.checkpoint(run) if remat else run)(x, bias)
