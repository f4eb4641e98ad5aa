"""The regions that the activations cut pictures into; see README.md and experiments.runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.run('ffhq256')
    size = ['--size=64'] if experiment.smoke else []
    for image in range(1 if experiment.smoke else 4):
        experiment.app('analyse', run, str(image), '--only=partition', f'--image={image}', *size)


if __name__ == '__main__':
    main()
