"""StyleGAN3 moves, StyleGAN2 sticks; see README.md and experiments.stylegan_runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    frames = [f'--frames={4 if experiment.smoke else 120}']
    run = experiment.run('r256', config='stylegan3')
    beside = []
    if not experiment.workdir:
        # StyleGAN2 with a Fourier input: it can be moved, too.
        beside = [f'--beside={experiment.trained("config_b", config="stylegan3")}']
    for image in range(1 if experiment.smoke else 4):
        for suffix in ('png',) if experiment.smoke else ('png', 'mp4'):
            name = f'{image}.{suffix}'
            experiment.app('transform', run, name, f'--image={image}', *frames, *beside)


if __name__ == '__main__':
    main()
