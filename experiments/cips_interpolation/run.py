"""Paths between latents, as a grid and as a video; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('ffhq256')
    num, steps = (2, 2) if experiment.smoke else (6, 8)
    experiment.app('interpolate', run, 'grid.png', f'--num={num}', f'--steps={steps}')
    frames = 2 if experiment.smoke else 45
    experiment.app('interpolate', run, 'loop.gif', f'--num={num}', f'--steps={frames}', '--space=z')


if __name__ == '__main__':
    main()
