"""Spectra and components of the positional encodings; see README.md and experiments.cips_runs."""

from experiments import cips_runs


def main(argv=None):
    experiment = cips_runs.parse(__file__, argv)
    experiment.app('analyse', experiment.run('ffhq256'), '', '--only=encodings')


if __name__ == '__main__':
    main()
