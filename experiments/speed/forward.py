"""CIPS forward, 15 layers: images a second and share of the matmul peak, beside eager PyTorch.

    python experiments/speed/forward.py [--json] [--quick] [--clock=cpu]

Aim at width 512: at least 80 % of the float32 matmul peak that the same run measures, and at least
1.5 times PyTorch (the faster of its two formulations of the modulated layers). Images are 64×64:
the cost of a pixel does not depend on how many there are, and 256×256 would take 16 times as long.
"""

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import timing

from jaxgen.models import CIPSGenerator
from jaxgen.ops.coords import points
from jaxgen.parallel.flops import count_macs

SIDE = 64
# Images at a time, by width: every row takes about as long.
BATCH = {64: 16, 128: 8, 256: 4, 512: 2}


def torch_calls(params: Any, z: jax.Array, side: int) -> dict[str, Callable[[], Any]]:
    """The generator in PyTorch, by formulation; empty without torch."""
    if not importlib.util.find_spec('torch'):
        return {}
    import torch
    import torch_peer

    p, latent = torch_peer.from_numpy(params), torch.from_numpy(np.array(z))
    coords = torch.from_numpy(np.array(points(side, side)))

    def call(form: str) -> Any:
        with torch.inference_mode():
            return torch_peer.generate(p, latent, coords, form)

    return {form: lambda form=form: call(form) for form in torch_peer.FORMS}


def measure(width: int, batch: int, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    model = CIPSGenerator(size=side, features=width, first_width=width, block_widths=(width,) * 7)
    z = jax.random.normal(jax.random.key(1), (batch, model.latent))
    variables = jax.jit(
        lambda key: model.init(key, z[:1], coords=jax.numpy.zeros((1, 1, 1, 2)), method='generate')
    )(jax.random.key(0))

    def generate(variables: Any, z: jax.Array) -> jax.Array:
        return model.apply(variables, z, method='generate')

    gflop = 2e-9 * count_macs(generate, variables, z)
    compiled = jax.jit(generate).lower(variables, z).compile()
    others = torch_calls(variables['params'], z, side)
    for call in others.values():
        own, other = np.array(compiled(variables, z)), call().permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(other, own, atol=1e-3, err_msg='not the same formula')
    product, product_gflop = timing.matmul(options.quick)
    seconds = timing.in_turns(
        {'jaxgen': lambda: compiled(variables, z), **others, 'matmul': product},
        2 if options.quick else 9,
        options.clock,
    )
    own = seconds['jaxgen']
    other = min((seconds[name] for name in others), key=np.median, default=None)
    peak_share = gflop / own * seconds['matmul'] / product_gflop
    return {
        'measured': f'forward {side}², width {width}, img/s',
        'jaxgen': float(batch / np.median(own)),
        'other': None if other is None else float(batch / np.median(other)),
        'ratio': None if other is None else float(np.median(other / own)),
        'gflop': gflop / batch,
        'share of matmul peak': float(np.median(peak_share)),
    }


def main() -> None:
    """Measures and prints."""
    options = timing.parser(__doc__).parse_args()
    if options.quick:
        rows = [measure(8, 2, 8, options)]
    else:
        rows = [measure(width, batch, SIDE, options) for width, batch in BATCH.items()]
    timing.report(rows, options.json)


if __name__ == '__main__':
    main()
