"""What each resolution contributes over training; see README.md and experiments.stylegan_runs."""

from experiments import runs


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    num = [f'--num={16 if experiment.smoke else 1_024}']
    for variant in (
        ('paper_config_f',) if experiment.smoke else ('paper_config_e', 'paper_config_f')
    ):
        run = experiment.run(variant, config='stylegan2')
        name = 'usage.png' if experiment.workdir else f'{variant}.png'
        experiment.app('resolution_usage', run, name, *num)
        if experiment.workdir:
            break


if __name__ == '__main__':
    main()
