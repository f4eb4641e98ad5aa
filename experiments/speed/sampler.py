"""The cached sampler of the PixelCNN family beside the naive one, in one run.

    python experiments/speed/sampler.py [--json] [--quick] [--repetitions=3] [--only=16²]

One image: Gated PixelCNN, 48 features × 6 blocks, 256 levels, RGB, at 16² and 32²; PixelCNN++ with
48 features and 2 blocks a resolution at 32². The naive sampler takes a pass over the whole image
for each sub-pixel (for PixelCNN++ each pixel), all of them inside one compiled program; it is
measured once where that takes minutes. Both draw from the same noise; the share of equal
sub-pixels is printed, which float rounding near ties can leave a little below 1.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timing
from flax import linen as nn

from jaxgen.models import GatedPixelCNN, PixelCNNpp
from jaxgen.objectives.autoregressive_sampling import sample_cached, sample_naive

# Name, network, side, and the ratio that is aimed at.
CASES = {
    'Gated PixelCNN, 16²': (dict(features=48, blocks=6, head=96), 16, 150),
    'Gated PixelCNN, 32²': (dict(features=48, blocks=6, head=96), 32, 350),
    'PixelCNN++, 32²': (dict(features=48, resnets=2, components=10), 32, 100),
}
QUICK = {'Gated PixelCNN, 4²': (dict(features=6, blocks=1, head=6, levels=4), 4, 1)}


def compiled(model: nn.Module, side: int, sampler: Callable[..., Any]) -> Callable[[], Any]:
    """A call of the sampler for one image, compiled."""
    pixels = jnp.zeros((1, side, side, model.colours), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), pixels)
    keys = jax.random.split(jax.random.key(1), 1)
    draw = jax.jit(lambda v, k: sampler(model, v, k, (side, side)).pixels)
    program = draw.lower(variables, keys).compile()
    return lambda: np.asarray(program(variables, keys))


def measure(name: str, fields: dict, side: int, aim: float, options: Any) -> dict[str, Any]:
    """One row: milliseconds an image."""
    network = PixelCNNpp if 'resnets' in fields else GatedPixelCNN
    model = network(**fields)
    calls = {s: compiled(model, side, s) for s in (sample_naive, sample_cached)}
    now = timing.CLOCKS[options.clock]
    # The naive one is long enough to need no warming up.
    drawn, ratios, own = {}, [], []
    calls[sample_cached]()
    for _ in range(options.repetitions):
        seconds = {}
        for sampler, call in calls.items():
            time.sleep(timing.PAUSE)
            began = now()
            drawn[sampler] = call()
            seconds[sampler] = now() - began
        ratios.append(seconds[sample_naive] / seconds[sample_cached])
        own.append(seconds[sample_cached])
    return {
        'measured': f'{name}: ms an image',
        'jaxgen': 1e3 * float(np.median(own)),
        'other': 1e3 * float(np.median(ratios) * np.median(own)),
        'ratio': float(np.median(ratios)),
        'aim': aim,
        'equal': float((drawn[sample_naive] == drawn[sample_cached]).mean()),
    }


def main() -> None:
    """Measures and prints."""
    parser = timing.parser(__doc__)
    parser.add_argument('--repetitions', type=int, default=1, help='of each pair')
    parser.add_argument('--only', default='', help='cases whose name holds this, e.g. 16²')
    options = parser.parse_args()
    cases = QUICK if options.quick else CASES
    cases = {name: case for name, case in cases.items() if options.only in name}
    timing.report([measure(name, *case, options) for name, case in cases.items()], options.json)


if __name__ == '__main__':
    main()
