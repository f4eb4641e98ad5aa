"""What the experiments on the PixelCNN family share; flags and commands are those of `runs`.

    python -m experiments.pixelcnn_digits.run --smoke

A row of a table is FILE:VARIANT, the config that is trained: pixelcnn:imagenet32 is
configs/pixelcnn.py:imagenet32.
"""

from collections.abc import Mapping, Sequence

from experiments import runs


def trained(experiment: runs.Experiment, row: str, *flags: str) -> str:
    """The folder of a finished run of configs/FILE.py:VARIANT, trained if it is not there."""
    file, _, variant = row.partition(':')
    if experiment.smoke and variant != 'smoke':
        variant = f'{variant.removesuffix("_demo")}_smoke' if variant != 'demo' else 'smoke'
    folder = experiment.runs / f'{file}-{variant}'
    if not runs.finished(folder):
        config = f'--config=configs/{file}.py:{variant}'
        runs.command('jaxgen.train', config, f'--workdir={folder}', *flags, *experiment.training)
    return str(folder)


def write_table(
    experiment: runs.Experiment, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Writes and prints out/table.md."""
    lines = [header, ['---'] * len(header), *rows]
    text = ''.join(f'| {" | ".join(map(_cell, line))} |\n' for line in lines)
    experiment.out.mkdir(parents=True, exist_ok=True)
    (experiment.out / 'table.md').write_text(text)
    print(text)


def held_out(folder: str) -> Mapping[str, float]:
    """The newest figures of a run's log."""
    return runs.last_metrics(folder)


def _cell(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
