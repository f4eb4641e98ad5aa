"""Writes a run's generator for PyTorch.

    python -m jaxgen.export --workdir=runs/stylegan2-demo --out=g_ema.pt

A file that `torch.load` reads, with the names, layouts and constructor's arguments of the published
code (jaxgen.interop.published says which); no PyTorch is needed to write it. StyleGAN2 also goes
into the layout of rosinality/stylegan2-pytorch: --layout=rosinality. Back again:
python -m jaxgen.interop.convert.
"""

import sys

from absl import flags

from jaxgen import cli

_FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Folder of a run, trained or converted.', flag_values=_FLAGS
)
_OUT = flags.DEFINE_string('out', 'g_ema.pt', 'The file (.pt).', flag_values=_FLAGS)
_LAYOUT = flags.DEFINE_enum(
    'layout', 'official', ['official', 'rosinality'], 'Of the names.', flag_values=_FLAGS
)
_EMA = flags.DEFINE_bool('ema', True, 'Averaged parameters.', flag_values=_FLAGS)
_CHECKPOINT = flags.DEFINE_string(
    'checkpoint', 'newest', 'newest, best, or a step.', flag_values=_FLAGS
)


def main() -> None:
    """Restores a checkpoint and writes the file."""
    cli.require(workdir=_WORKDIR.value)
    from jaxgen.apps.output import check_target, replacing
    from jaxgen.interop import torch_writer
    from jaxgen.interop.published import published
    from jaxgen.training.restore import restore

    target = check_target(_OUT.value, ('.pt', '.pth'))
    run = restore(_WORKDIR.value, ema=_EMA.value, checkpoint=_CHECKPOINT.value)
    data = published(run.generator, run.variables, layout=_LAYOUT.value)
    with replacing(target) as path:
        torch_writer.write(path, data)
    (network, *others), of = data, '' if run.step is None else f' of step {run.step}'
    arrays = data[network].values()
    print(
        f'{target}: {type(run.generator).__name__}{of}, {network} with {len(arrays)} arrays, '
        f'{sum(array.size for array in arrays):,} numbers'
        + (f'; {", ".join(others)}' if others else '')
    )


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
