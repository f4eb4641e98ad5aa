"""StyleGAN3's filtered nonlinearity for a TPU: banded matrices beside shifted slices, compiled.

    python experiments/speed/filters.py [--topology=v5e:2x2] [--networks=t,r] [--layers=4,9]

Forward and backward pass of one layer's `filtered_lrelu` in bfloat16 at 256², two images a chip,
compiled ahead of time (libtpu, no TPU: `make pod-check` makes an environment with it). `jaxgen` is
the milliseconds that the compiler's own cycles come to for the form that a TPU gets, `other` that
of the slices; then traffic to main memory in GB, matrix units' TFLOP, temporaries in MiB.
"""

import sys
from typing import Any
from unittest import mock

import timing

IMAGES = 2


def compile_layer(spec: Any, topology: Any, slices: bool) -> dict[str, float]:
    """What the compiler says of one layer."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from jaxgen.ops import fir_matrices, upfirdn2d
    from jaxgen.ops.filtered_lrelu import filtered_lrelu
    from jaxgen.parallel.hlo import read_work

    mesh = Mesh(np.array(topology.devices), ('data',))
    split = NamedSharding(mesh, PartitionSpec('data'))
    reach = spec.kernel_size - 1
    sides = (spec.in_size[0] + reach, spec.in_size[1] + reach)
    shape = (IMAGES * len(topology.devices), *sides, spec.out_channels)

    def layer(x: jax.Array) -> jax.Array:
        return filtered_lrelu(
            x,
            spec.up_filter(),
            spec.down_filter(),
            np.zeros(spec.out_channels, np.float32),
            up=spec.up,
            down=spec.down,
            padding=spec.padding,
            limit=256.0,
        )

    def both(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pull_back = jax.vjp(layer, x)
        return y, *pull_back(cotangent)

    form = upfirdn2d._sum_of_slices if slices else fir_matrices.resample
    with mock.patch.object(fir_matrices, 'resample', form):
        x = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=split)
        y = jax.eval_shape(layer, x)
        y = jax.ShapeDtypeStruct(y.shape, y.dtype, sharding=split)
        lowered = jax.jit(both, out_shardings=(split, split)).lower(x, y)
    compiled = lowered.compile(compiler_options=dict(topology.options) or None)
    work = read_work(compiled.as_text())
    clock = topology.device.clock if topology.device else None
    return {
        # A CPU's compiler tells no cycles.
        'time': 1e3 * work.cycles / clock if clock else 1e-9 * work.bytes,
        'traffic': 1e-9 * work.bytes,
        'flops': 1e-12 * compiled.cost_analysis()['flops'],
        'temporaries': compiled.memory_analysis().temp_size_in_bytes / 2**20,
    }


def measure(network: str, layers: list[int], topology: Any, quick: bool) -> list[dict[str, Any]]:
    """A row for each layer of configuration `network`, 't' or 'r'."""
    from jaxgen.models.stylegan3 import StyleGAN3Generator

    wider = 1 + (network == 'r')
    generator = StyleGAN3Generator(
        size=16 if quick else 256,
        channel_base=(16 if quick else 32768) * wider,
        channel_max=(4 if quick else 512) * wider,
        kernel_size=1 if network == 'r' else 3,
        radial=network == 'r',
    )
    rows = []
    for number in layers:
        spec = generator.specs()[1][number]
        own, other = (compile_layer(spec, topology, slices) for slices in (False, True))
        rows.append(
            {
                'measured': f'{network}, layer {number}, {spec.in_size[0]}² × {spec.out_channels}',
                'jaxgen': own['time'],
                'other': other['time'],
                'ratio': other['time'] / own['time'],
                'GB': own['traffic'],
                'other GB': other['traffic'],
                'TFLOP': own['flops'],
                'MiB': own['temporaries'],
                'other MiB': other['temporaries'],
            }
        )
    return rows


def main() -> None:
    """Compiles and prints."""
    parser = timing.parser(__doc__)
    parser.add_argument('--topology', default='v5e:2x2', help='what to compile for')
    parser.add_argument('--networks', default='t,r', help='configurations of StyleGAN3')
    parser.add_argument('--layers', default='4,9', help='their numbers')
    options = parser.parse_args()

    from jaxgen import cli
    from jaxgen.errors import UserError
    from jaxgen.parallel.topology import open_topology

    try:
        topology = open_topology('cpu:1' if options.quick else options.topology)
    except UserError as error:
        sys.exit(cli.complain(error))
    layers = [int(number) for number in options.layers.split(',')]
    rows = [
        row
        for network in options.networks.split(',')
        for row in measure(network, layers, topology, options.quick)
    ]
    timing.report(rows, options.json)


if __name__ == '__main__':
    main()
