"""Two styles blended over the picture; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('ffhq256')
    size = ['--size=64'] if experiment.smoke else []
    for mask in ('radial',) if experiment.smoke else ('radial', 'linear'):
        for images in ('0,1',) if experiment.smoke else ('0,1', '2,3', '4,5'):
            name = f'{mask}-{images.replace(",", "-")}.png'
            experiment.app('style_mixing', run, name, f'--mask={mask}', f'--images={images}', *size)


if __name__ == '__main__':
    main()
