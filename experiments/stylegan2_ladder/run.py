"""Trains the paper's configurations A to F; see README.md and experiments.stylegan_runs.

--only=config_e,config_f chooses rows.
"""

from experiments import runs, stylegan_runs

# FID and PPL on FFHQ-1024, from memory.
PUBLISHED = {
    'config_a': (4.40, 212),
    'config_b': (4.39, 175),
    'config_c': (4.38, 158),
    'config_d': (4.34, 122.5),
    'config_e': (3.31, 124.5),
    'config_f': (2.84, 145),
}
METRICS = {'FID': 'fid50k_full', 'PPL': 'ppl2_wend'}


def main(argv=None):
    experiment = runs.parse(__file__, argv, rows=list(PUBLISHED))
    folders = {}
    for row in experiment.rows:
        folders[row] = stylegan_runs.trained(experiment, f'stylegan2:paper_{row}')
        if not experiment.smoke:
            experiment.evaluate(folders[row], ','.join(METRICS.values()))
    columns = {'swd': 'swd'} if experiment.smoke else METRICS
    published = {row: PUBLISHED[row] if columns is METRICS else ('',) for row in folders}
    stylegan_runs.write_table(experiment, columns, published, folders)


if __name__ == '__main__':
    main()
