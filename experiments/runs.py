"""What all experiments that train share: training a variant unless it is there, running commands.

    python -m experiments.cips_spectra.run --smoke

from the repository's root. Every command is one that a user types: `jaxgen.train`, or an app, and
is printed before it runs. Flags of all experiments:

--smoke         at the size of seconds on a CPU: shows that everything runs
--workdir=RUN   a trained run, or converted weights, to study in place of one trained here
--runs=FOLDER   where runs are looked for, and trained where they are missing (default: runs)
--out=FOLDER    where results go (default: RUNS/experiments/NAME)
--config.x=y    goes to jaxgen.train, e.g. --config.data.dir=FOLDER
"""

import argparse
import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One start of an experiment; the fields are its flags, `rows` those of its table."""

    smoke: bool
    workdir: str | None
    runs: pathlib.Path
    out: pathlib.Path
    training: Sequence[str]
    rows: Sequence[str]

    def run(self, variant: str, *, config: str = 'cips') -> str:
        """The run that is studied: --workdir, or else that of configs/CONFIG.py:VARIANT."""
        return self.workdir or self.trained(variant, config=config)

    def trained(self, variant: str, *flags: str, config: str = 'cips') -> str:
        """The folder of a finished run of configs/CONFIG.py:VARIANT, trained if it is not there."""
        variant += '_smoke' if self.smoke else ''
        folder = self.runs / f'{config}-{variant}'
        if not finished(folder):
            config = f'--config=configs/{config}.py:{variant}'
            command('jaxgen.train', config, f'--workdir={folder}', *flags, *self.training)
        return str(folder)

    def evaluate(self, workdir: str, metrics: str, *flags: str) -> None:
        """Runs jaxgen.evaluate on a run, which adds `metrics` to its log."""
        command('jaxgen.evaluate', f'--workdir={workdir}', f'--metrics={metrics}', *flags)

    def app(self, name: str, workdir: str, out: str, *flags: str) -> None:
        """Runs jaxgen.apps.NAME on a run; `out` is a name in the experiment's folder."""
        command(f'jaxgen.apps.{name}', f'--workdir={workdir}', f'--out={self.out / out}', *flags)


def parse(script: str, argv: Sequence[str] | None = None, rows: Sequence[str] = ()) -> Experiment:
    """Reads the flags of `script`, a file experiments/NAME/run.py.

    `rows`: of the experiment's table, if it has one: --only=ROW,ROW chooses some.
    """
    name = pathlib.Path(script).resolve().parent.name
    parser = argparse.ArgumentParser(
        prog=f'python -m experiments.{name}.run',
        description='See the README beside the script.',
        allow_abbrev=False,
    )
    parser.add_argument('--smoke', action='store_true', help='seconds on a CPU')
    parser.add_argument('--runs', type=pathlib.Path, default='runs', help='folder of the runs')
    parser.add_argument('--out', type=pathlib.Path, help='folder of the results')
    if rows:
        parser.add_argument('--only', help=f'some of {",".join(rows)}', default=','.join(rows))
    else:
        parser.add_argument('--workdir', help='a run, or converted weights')
    known, training = parser.parse_known_args(argv)
    chosen = known.only.split(',') if rows else ()
    for flag in training:
        if not flag.startswith('--config.'):
            parser.error(f'unknown argument {flag!r}; training takes --config.FIELD=VALUE')
    for row in chosen:
        if row not in rows:
            parser.error(f'--only must be some of {",".join(rows)}, got {row!r}')
    out = known.out or known.runs / 'experiments' / (name + ('_smoke' if known.smoke else ''))
    workdir = None if rows else known.workdir
    return Experiment(known.smoke, workdir, known.runs, out, training, chosen)


def finished(folder: pathlib.Path) -> bool:
    """Whether the run in `folder` has reached its last step; weights without a run have."""
    try:
        config = json.loads((folder / 'config.json').read_text())
    except OSError:
        return False
    return 'steps' not in config or (folder / 'checkpoints' / str(config['steps'])).is_dir()


def last_metrics(folder: str) -> Mapping[str, float]:
    """The newest value of each metric in metrics.jsonl."""
    newest = {}
    for line in (pathlib.Path(folder) / 'metrics.jsonl').read_text().splitlines():
        newest |= json.loads(line)
    return newest


def table(experiment: Experiment, published: Mapping[str, object], folders: Mapping[str, str]):
    """Writes and prints out/table.md: the published FID of each run, and what its log ends with.

    `folders`: from the row to the folder of its run.
    """
    names = ('fid', 'swd', 'swd_real')
    lines = [
        f'| run | FID, published | steps | {" | ".join(f"{name}, ours" for name in names)} |',
        '|---|---|---|' + '---|' * len(names),
    ]
    for row, folder in folders.items():
        metrics = last_metrics(folder)
        ours = (f'{metrics[name]:.4g}' if name in metrics else '' for name in names)
        lines.append(f'| {row} | {published[row]} | {metrics["step"]} | {" | ".join(ours)} |')
    text = '\n'.join(lines) + '\n'
    experiment.out.mkdir(parents=True, exist_ok=True)
    (experiment.out / 'table.md').write_text(text)
    print(text)


def command(module: str, *flags: str) -> None:
    """Runs `python -m MODULE FLAGS`; a failure ends the experiment with the same exit code."""
    print(f'$ python -m {module} {shlex.join(flags)}', flush=True)
    done = start(module, *flags)
    if done:
        sys.exit(done)


def start(module: str, *flags: str) -> int:
    """The exit code of a command; tests put their own in its place."""
    return subprocess.run([sys.executable, '-m', module, *flags], check=False).returncode
