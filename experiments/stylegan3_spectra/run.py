"""Windowed average spectra of samples and real images; see README.md and
experiments.stylegan_runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    flags = ['--only=windowed', f'--num={16 if experiment.smoke else 10_000}']
    run = experiment.run('t256', config='stylegan3')
    if not experiment.workdir:
        others = [
            experiment.trained('r256', config='stylegan3'),
            experiment.trained('ffhq256', config='stylegan2'),
        ]
        flags.append(f'--compare={",".join(others)}')
    experiment.app('analyse', run, '', *flags)


if __name__ == '__main__':
    main()
