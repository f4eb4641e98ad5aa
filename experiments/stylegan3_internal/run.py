"""Feature maps under motion; see README.md and experiments.stylegan_runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('r256', config='stylegan3')
    frames = ['--frames=2'] if experiment.smoke else []
    for motion in ('translation',) if experiment.smoke else ('translation', 'rotation', 'walk'):
        experiment.app('feature_maps', run, f'{motion}.png', f'--motion={motion}', *frames)
    if not experiment.workdir:
        second = experiment.trained('ffhq256', config='stylegan2')
        experiment.app('feature_maps', second, 'stylegan2_walk.png', *frames)


if __name__ == '__main__':
    main()
