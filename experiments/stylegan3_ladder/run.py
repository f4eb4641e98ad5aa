"""Trains the paper's configurations A (StyleGAN2) to R; see README.md and
experiments.stylegan_runs.

--only=a,t,r chooses rows.
"""

from experiments import runs, stylegan_runs

# FID, EQ-T and EQ-R on FFHQ-U at 256².
PUBLISHED = {
    'a': (5.14, '', ''),
    'b': (4.79, 16.23, 10.81),
    'c': (4.54, 15.81, 10.84),
    'd': (5.21, 19.47, 10.41),
    'e': (6.02, 24.62, 10.97),
    'f': (6.35, 30.60, 10.81),
    'g': (4.78, 43.90, 10.84),
    'h': (4.64, 45.20, 10.61),
    't': (4.62, 63.01, 13.12),
    'r': (4.50, 66.65, 40.48),
}
CONFIGS = {row: f'stylegan3:config_{row}' for row in PUBLISHED}
METRICS = {'FID': 'fid50k_full', 'EQ-T': 'eqt50k_int', 'EQ-R': 'eqr50k'}
SMOKE = {'swd': 'swd', 'EQ-T': 'eqt4_int', 'EQ-R': 'eqr4'}


def main(argv=None):
    experiment = runs.parse(__file__, argv, rows=list(PUBLISHED))
    columns = SMOKE if experiment.smoke else METRICS
    folders = {}
    for row in experiment.rows:
        folders[row] = stylegan_runs.trained(experiment, CONFIGS[row])
        # Only an input that can be moved has equivariance.
        wanted = [name for name in columns.values() if row != 'a' or not name.startswith('eq')]
        if experiment.smoke:
            wanted = [name for name in wanted if name != 'swd']  # its training measures it
        if wanted:
            experiment.evaluate(folders[row], ','.join(wanted))
    stylegan_runs.write_table(experiment, columns, PUBLISHED, folders)


if __name__ == '__main__':
    main()
