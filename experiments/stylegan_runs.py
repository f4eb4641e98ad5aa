"""What the experiments on StyleGAN2 and StyleGAN3 share; flags and commands are those of
`runs`.

    python -m experiments.stylegan3_ladder.run --smoke

A row of a table is CONFIG:VARIANT, the config that is trained: stylegan3:config_t is
configs/stylegan3.py:config_t. Figures of ours are those that the run's log ends with.
"""

from collections.abc import Mapping, Sequence

from experiments import runs


def trained(experiment: runs.Experiment, row: str) -> str:
    """The folder of a finished run of a row, trained if it is not there."""
    config, _, variant = row.partition(':')
    return experiment.trained(variant, config=config)


def write_table(
    experiment: runs.Experiment,
    columns: Mapping[str, str],
    published: Mapping[str, Sequence[object]],
    folders: Mapping[str, str],
) -> None:
    """Writes and prints out/table.md.

    Args:
      columns: from the name of a figure to that of its metric in the log, in the order of
        `published`.
      published: the figures of each row.
      folders: from the row to the folder of its run.
    """
    header = [
        'run',
        'steps',
        *(f'{name}, {of}' for name in columns for of in ('published', 'ours')),
    ]
    lines = [header, ['---'] * len(header)]
    for row, folder in folders.items():
        metrics = runs.last_metrics(folder)
        cells = [row, str(metrics.get('step', ''))]
        for theirs, metric in zip(published[row], columns.values(), strict=True):
            cells += [str(theirs), f'{metrics[metric]:.4g}' if metric in metrics else '']
        lines.append(cells)
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    experiment.out.mkdir(parents=True, exist_ok=True)
    (experiment.out / 'table.md').write_text(text)
    print(text)
