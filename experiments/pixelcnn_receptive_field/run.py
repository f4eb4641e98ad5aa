"""Draws receptive fields with and without the blind spot; see README.md."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    experiment.out.mkdir(parents=True, exist_ok=True)
    size = [f'--size={9 if experiment.smoke else 11}']
    runs.command('jaxgen.apps.receptive_field', f'--out={experiment.out / "fields.png"}', *size)


if __name__ == '__main__':
    main()
