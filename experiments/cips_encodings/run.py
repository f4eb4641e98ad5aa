"""Spectra and components of the positional encodings; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    experiment.app('analyse', experiment.run('ffhq256'), '', '--only=encodings')


if __name__ == '__main__':
    main()
