"""Converts a file of published weights into a folder that `jaxgen.sample` and every app take.

    python -m jaxgen.interop.convert --source=churches.pt --out=runs/churches
    python -m jaxgen.interop.convert --kind=inception --source=FILE --out=weights/inception.npz

Takes what the released CIPS and rosinality's StyleGAN2 save (.pt: a state dict, or a training
dictionary), and the snapshots of the official StyleGAN2-ADA and StyleGAN3 (.pkl). Nothing in the
file is executed; see `jaxgen.interop.torch_reader` and `jaxgen.interop.stylegan_pickle`. CIPS's
FFHQ-1024 weights want --size=1024.

--kind=inception, vgg, alexnet or lpips converts a network that `jaxgen.evaluate` looks through into
one file; `jaxgen.interop.feature_networks` lists the published files. The heads of LPIPS come
without their trunk: --trunk=FILE names it.
"""

import sys

from absl import flags

from jaxgen import cli

_FLAGS = flags.FlagValues()
_SOURCE = flags.DEFINE_string('source', None, 'The file.', flag_values=_FLAGS)
_OUT = flags.DEFINE_string('out', None, 'The folder to make.', flag_values=_FLAGS)
_KIND = flags.DEFINE_string(
    'kind',
    'generator',
    'What the file is of: generator, or inception, vgg, alexnet, lpips.',
    flag_values=_FLAGS,
)
_TRUNK = flags.DEFINE_string(
    'trunk', None, "LPIPS: torchvision's file, beside the heads.", flag_values=_FLAGS
)
_SIZE = flags.DEFINE_string(
    'size',
    None,
    'CIPS: WIDTHxHEIGHT or SIDE of the images; default: the grid that the weights have.',
    flag_values=_FLAGS,
)
_LOOKUP = flags.DEFINE_enum(
    'lookup',
    None,
    ['reference', 'exact'],
    'CIPS: how the embedding is interpolated: as the released code does, which is the default, or '
    'without its shift.',
    flag_values=_FLAGS,
)
_ACTIVATION = flags.DEFINE_enum(
    'activation',
    None,
    ['lrelu', 'sin', 'sinrelu'],
    'CIPS; default: what the names tell, where sinrelu looks like sin.',
    flag_values=_FLAGS,
)
_NOISE = flags.DEFINE_enum(
    'noise',
    None,
    ['none', 'const', 'random'],
    'Default: for CIPS random, as the released code draws it, or none if its strengths are zero; '
    'for StyleGAN2 const, the fixed maps in the file.',
    flag_values=_FLAGS,
)


def main() -> None:
    """Reads, says what it found, and writes."""
    cli.require(source=_SOURCE.value, out=_OUT.value)
    frame = cli.parse_size(_SIZE.value) if _SIZE.value is not None else None
    if _KIND.value != 'generator':
        _convert_network()
        return
    from jaxgen.interop import imported

    found = imported.read_published(
        _SOURCE.value,
        lookup=_LOOKUP.value,
        activation=_ACTIVATION.value,
        noise=_NOISE.value,
        frame=frame,
    )
    # First of all: whoever reads the lines may not read them to the end.
    imported.save(_OUT.value, found)
    print('\n'.join(describe(found)))
    print(f'written to {_OUT.value}: python -m jaxgen.sample --workdir={_OUT.value}')


def _convert_network() -> None:
    import jax

    from jaxgen.interop import feature_networks

    found = feature_networks.read_published(_KIND.value, _SOURCE.value, _TRUNK.value)
    count = sum(array.size for array in jax.tree.leaves(found.variables))
    name = f'{found.kind} ({found.network})' if found.network else found.kind
    feature_networks.save(_OUT.value, found)
    print(f'{name}: {count:,} parameters, written to {_OUT.value}')


def describe(found: 'Imported') -> list[str]:  # noqa: F821
    """Lines about the networks: architecture, parameters, what was left out."""
    import jax

    lines = {'cips': _describe_cips}.get(found.kind, _describe_stylegan)(found)
    for network, variables in found.networks.items():
        count = sum(array.size for array in jax.tree.leaves(variables['params']))
        lines.append(f'{network}: {count:,} parameters')
    if dropped := found.provenance['dropped']:
        lines.append(f'left out: {", ".join(dropped)}')
    return lines


def _describe_cips(found: 'Imported') -> list[str]:  # noqa: F821
    g = found.generator
    height, width = found.frame or g.frame
    name = 'CIPSres' if g.residual else 'CIPSskip'
    return [
        f'{name}: grid {g.frame[1]}×{g.frame[0]}, images {width}×{height}, {g.num_layers} layers '
        f'of width {g.first_width}, {", ".join(map(str, g.block_widths))}, {g.activation}',
        f'latent {g.latent}, style {g.style}, {g.mapping_layers} mapping layers; lookup {g.lookup}',
        _noise(g.noise, 'none (a pixel is a function of latent and coordinate)'),
    ]


def _describe_stylegan(found: 'Imported') -> list[str]:  # noqa: F821
    g = found.generator
    lines = [
        f'latent {g.latent}, style {g.style}, {g.mapping_layers} mapping layers, '
        f'{g.num_classes or "no"} classes, channel_base {g.channel_base}, '
        f'channel_max {g.channel_max}, clamp {g.clamp or "none"}'
    ]
    if found.kind == 'stylegan3':
        filters = 'radial' if g.radial else 'separable'
        kernels = f'{g.kernel_size}×{g.kernel_size} convolutions, {filters} filters'
        return [f'StyleGAN3: images {g.size}², {g.num_layers} layers, {kernels}', *lines]
    name = f'StyleGAN2: images {g.size}², architecture {g.architecture}'
    return [name, *lines, _noise(g.noise, 'none')]


def _noise(kind: str, without: str) -> str:
    random = 'random (new for every image, as in the released code)'
    return 'noise: ' + {'none': without, 'const': 'const (one fixed map)', 'random': random}[kind]


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
