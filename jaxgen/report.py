"""Writes a run's page: one HTML file that needs nothing else, for a browser.

    python -m jaxgen.report --workdir=runs/cips-demo

Config, curves, sample grids over time with a slider, metrics, links to what lies in the folder. The
page asks for nothing over the network. It is WORKDIR/report.html unless --out says otherwise;
running the command again brings it up to date.
"""

import pathlib
import sys

from absl import flags

from jaxgen import cli
from jaxgen.errors import UserError

_FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', flag_values=_FLAGS)
_OUT = flags.DEFINE_string(
    'out', None, 'The page (.html); default: report.html in the run.', flag_values=_FLAGS
)
_PICTURES = flags.DEFINE_integer(
    'pictures', 60, 'The most sample grids.', lower_bound=1, flag_values=_FLAGS
)


def main() -> None:
    """Reads the run's folder and writes the page."""
    cli.require(workdir=_WORKDIR.value)
    folder = pathlib.Path(_WORKDIR.value).expanduser()
    target = pathlib.Path(_OUT.value).expanduser() if _OUT.value else folder / 'report.html'
    if target.suffix not in ('.html', '.htm'):
        raise UserError(f'--out must end in .html, got {_OUT.value!r}')
    from jaxgen.evaluation import page

    text = page.make(folder, target.parent, most=_PICTURES.value)
    temporary = target.with_name(f'.{target.name}.part')
    try:
        temporary.write_text(text, encoding='utf-8')
        temporary.replace(target)
    except OSError as error:
        raise UserError(f'{str(target)!r} is not writable: {error.strerror}') from error
    print(f'{target}: {len(text) / 1e6:.1f} MB')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
