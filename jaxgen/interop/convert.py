"""Converts a file of published weights into a folder that `jaxgen.sample` and every app take.

    python -m jaxgen.interop.convert --source=churches.pt --out=runs/churches

Takes what the released CIPS saves: a state dict, or a training dictionary. Nothing in the file is
executed; see `jaxgen.interop.torch_reader`. The FFHQ-1024 weights want --size=1024.
"""

import sys

from absl import flags

from jaxgen import cli

_FLAGS = flags.FlagValues()
_SOURCE = flags.DEFINE_string('source', None, 'The file.', flag_values=_FLAGS)
_OUT = flags.DEFINE_string('out', None, 'The folder to make.', flag_values=_FLAGS)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'WIDTHxHEIGHT or SIDE of the images; default: the grid that the weights have.',
    flag_values=_FLAGS,
)
_LOOKUP = flags.DEFINE_enum(
    'lookup',
    'reference',
    ['reference', 'exact'],
    'How the embedding is interpolated: as the released code does, or without its shift.',
    flag_values=_FLAGS,
)
_ACTIVATION = flags.DEFINE_enum(
    'activation',
    None,
    ['lrelu', 'sin', 'sinrelu'],
    'Default: what the names tell, where sinrelu looks like sin.',
    flag_values=_FLAGS,
)
_NOISE = flags.DEFINE_enum(
    'noise',
    None,
    ['none', 'const', 'random'],
    'Default: random, as the released code draws it, or none if its strengths are zero.',
    flag_values=_FLAGS,
)


def main() -> None:
    """Reads, says what it found, and writes."""
    cli.require(source=_SOURCE.value, out=_OUT.value)
    frame = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    from jaxgen.interop import imported

    found = imported.read_published(
        _SOURCE.value,
        lookup=_LOOKUP.value,
        activation=_ACTIVATION.value,
        noise=_NOISE.value,
        frame=frame,
    )
    print('\n'.join(describe(found)))
    imported.save(_OUT.value, found)
    print(f'written to {_OUT.value}: python -m jaxgen.sample --workdir={_OUT.value}')


def describe(found: 'Imported') -> list[str]:  # noqa: F821
    """Lines about the networks: architecture, parameters, what was left out."""
    import jax

    g = found.generator
    height, width = found.frame or g.frame
    name = 'CIPSres' if g.residual else 'CIPSskip'
    noise = {
        'none': 'none (a pixel is a function of latent and coordinate)',
        'const': 'const (one fixed map)',
        'random': 'random (new for every image, as in the released code)',
    }
    lines = [
        f'{name}: grid {g.frame[1]}×{g.frame[0]}, images {width}×{height}, {g.num_layers} layers '
        f'of width {g.first_width}, {", ".join(map(str, g.block_widths))}, {g.activation}',
        f'latent {g.latent}, style {g.style}, {g.mapping_layers} mapping layers; lookup {g.lookup}',
        f'noise: {noise[g.noise]}',
    ]
    for network, variables in found.networks.items():
        count = sum(array.size for array in jax.tree.leaves(variables['params']))
        lines.append(f'{network}: {count:,} parameters')
    if dropped := found.provenance['dropped']:
        lines.append(f'left out: {", ".join(dropped)}')
    return lines


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
