"""Trains CIPS on each data set of the paper's main table; see README.md and experiments.runs.

--only=ffhq256,churches chooses rows.
"""

from experiments import runs

PUBLISHED = {
    'ffhq256': 4.38,
    'churches': 2.92,
    'landscapes': 3.61,
    'satellite_buildings': 69.67,
    'satellite_landscapes': 48.47,
    'ffhq1024': 10.07,
}


def main(argv=None):
    experiment = runs.parse(__file__, argv, rows=list(PUBLISHED))
    folders = {}
    for row in experiment.rows:
        first = []
        if row == 'ffhq1024':
            # Progressive: from the weights at 256, whose embedding is interpolated.
            first = [f'--config.init_from={experiment.trained("ffhq256")}']
        folders[row] = experiment.trained(row, *first)
    runs.table(experiment, PUBLISHED, folders)


if __name__ == '__main__':
    main()
