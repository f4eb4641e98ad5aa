"""Spectra of samples against real images; see README.md and experiments.runs.

The run without coordinate embedding stands beside the one that is studied.
"""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    flags = ['--only=spectra', f'--num={64 if experiment.smoke else 5_000}']
    if not experiment.workdir:
        flags.append(f'--compare={experiment.trained("ablation_ne")}')
    experiment.app('analyse', experiment.run('ffhq256'), '', *flags)


if __name__ == '__main__':
    main()
