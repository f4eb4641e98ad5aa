"""Equivariance of finished StyleGAN3 generators; see README.md and experiments.stylegan_runs.

--only=t256,r1024 chooses rows; --weights is not needed: convert published weights into
RUNS/stylegan3-ROW with jaxgen.interop.convert, and they are taken as they are.
"""

from experiments import runs, stylegan_runs

# EQ-T and EQ-R; only those at 1024² are published for FFHQ.
PUBLISHED = {
    't1024': (61.21, '', 13.82),
    'r1024': (64.76, '', 46.62),
    't256': ('', '', ''),
    'r256': ('', '', ''),
}
METRICS = {'EQ-T': 'eqt50k_int', 'EQ-T frac': 'eqt50k_frac', 'EQ-R': 'eqr50k'}


def main(argv=None):
    experiment = runs.parse(__file__, argv, rows=list(PUBLISHED))
    count = '4' if experiment.smoke else '50k'
    columns = {name: metric.replace('50k', count) for name, metric in METRICS.items()}
    folders = {}
    for row in experiment.rows:
        folders[row] = stylegan_runs.trained(experiment, f'stylegan3:{row}')
        experiment.evaluate(folders[row], ','.join(columns.values()))
    stylegan_runs.write_table(experiment, columns, PUBLISHED, folders)


if __name__ == '__main__':
    main()
