"""Closed rings from windows of ordinary photographs; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('panorama')
    for image in range(1 if experiment.smoke else 4):
        flags = [f'--image={image}', f'--video={experiment.out / f"{image}.gif"}']
        if experiment.smoke:
            flags += ['--size=128x32', '--seconds=0.2']
        experiment.app('panorama', run, f'{image}.png', *flags)


if __name__ == '__main__':
    main()
