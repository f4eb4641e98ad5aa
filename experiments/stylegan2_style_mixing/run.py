"""Style mixing and interpolation; see README.md and experiments.stylegan_runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('ffhq256', config='stylegan2')
    small = ['--rows=0', '--columns=1,2'] if experiment.smoke else []
    experiment.app('style_mixing', run, 'table.png', *small)
    steps = ['--num=2', '--steps=2'] if experiment.smoke else []
    experiment.app('interpolate', run, 'loop.gif', '--smooth', *steps)


if __name__ == '__main__':
    main()
