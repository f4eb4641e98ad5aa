"""Foveated renders of several shares of the pixels; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('ffhq256')
    shares, size = ((0.25,), 64) if experiment.smoke else ((0.05, 0.1, 0.25, 0.5), 1024)
    for share in shares:
        experiment.app(
            'foveated', run, f'share_{share}.png', f'--share={share}', f'--size={size}', '--panels'
        )


if __name__ == '__main__':
    main()
