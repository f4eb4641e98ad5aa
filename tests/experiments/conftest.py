"""Running an experiment at smoke size."""

import importlib

import pytest

from experiments import runs as running


@pytest.fixture
def run_smoke(monkeypatch, commands):
    """Runs an experiment in this process, its commands in forked ones.

    `run_smoke(name, runs, *flags, instead={})` gives (module, *arguments) of each command that was
    started, and the files that came of it by name. `runs`: where runs are looked for. `instead`:
    functions of the arguments, by the module that they stand for.
    """

    def run(name, runs, *flags, instead=None):
        started, instead = [], instead or {}

        def start(module, *arguments):
            started.append((module, *arguments))
            if module in instead:
                instead[module](arguments)
                return 0
            child = commands.run(module, *arguments)
            assert child.code == 0, f'{module}: {child.err}'
            return 0

        monkeypatch.setattr(running, 'start', start)
        module = importlib.import_module(f'experiments.{name}.run')
        module.main(['--smoke', f'--runs={runs}', *flags])
        folder = runs / 'experiments' / f'{name}_smoke'
        return started, {path.name: path for path in folder.rglob('*') if path.is_file()}

    return run
