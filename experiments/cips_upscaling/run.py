"""A denser grid than the trained one, beside Lanczos; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('ffhq256')
    # Four times a side, as from 256 to 1024.
    size = 128 if experiment.smoke else 1024
    for image in range(1 if experiment.smoke else 4):
        comparison = experiment.out / f'{image}-lanczos.png'
        flags = (f'--size={size}', f'--image={image}', f'--compare={comparison}')
        experiment.app('gigapixel', run, f'{image}.tif', *flags)


if __name__ == '__main__':
    main()
