"""Tries an installation: imports everything, trains the smoke config and samples from it.

`make smoke-pythons` runs it with each Python that is supported, in environments without the extras,
so a dependency that only a test brings along shows as an ImportError here. It is a plain script
because pytest is not installed there. Prints one line, exits 1 where something is missing.
"""

import importlib
import os
import pathlib
import pkgutil
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def import_everything():
    """Imports each module of jaxgen and returns how many there are."""
    from absl import flags

    import jaxgen

    names = [module.name for module in pkgutil.walk_packages(jaxgen.__path__, 'jaxgen.')]
    for name in names:
        known = set(flags.FLAGS)
        importlib.import_module(name)
        for flag in set(flags.FLAGS) - known:  # the next command line may define it too
            delattr(flags.FLAGS, flag)
    return len(names)


def run(module, *flags, folder):
    """Runs a command line of jaxgen; its output is shown only where it fails."""
    done = subprocess.run(
        [sys.executable, '-m', module, *flags],
        cwd=ROOT,
        env={**os.environ, 'JAXGEN_DATA_DIR': f'{folder}/data', 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f'{module} {" ".join(flags)} exited {done.returncode}\n{done.stdout}{done.stderr}')


def main():
    """Imports, trains, samples."""
    modules = import_everything()
    with tempfile.TemporaryDirectory() as folder:
        work, grid = pathlib.Path(folder, 'run'), pathlib.Path(folder, 'grid.png')
        run(
            'jaxgen.train', '--config=configs/cips.py:smoke', f'--workdir={work}', folder=folder
        )  # tfds, array_record, grain, jit and a checkpoint
        run('jaxgen.sample', f'--workdir={work}', '--num=2', f'--out={grid}', folder=folder)
        missing = [str(path) for path in (work / 'metrics.jsonl', grid) if not path.is_file()]
    if missing:
        sys.exit(f'the run left no {", ".join(missing)}')
    print(f'Python {platform.python_version()}: {modules} modules import, the smoke run samples')


if __name__ == '__main__':
    main()
