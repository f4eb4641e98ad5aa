"""Trains the variants of the paper's ablation; see README.md and experiments.runs.

--only=base,ne chooses rows.
"""

from experiments import runs

PUBLISHED = {'base': 6.31, 'ne': 6.71, 'no_fourier': 10.18, 'residual': 6.52, 'sine': '10.0 (?)'}


def main(argv=None):
    experiment = runs.parse(__file__, argv, rows=list(PUBLISHED))
    folders = {row: experiment.trained(f'ablation_{row}') for row in experiment.rows}
    runs.table(experiment, PUBLISHED, folders)


if __name__ == '__main__':
    main()
