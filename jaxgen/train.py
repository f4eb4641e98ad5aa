"""Trains the model of a config.

    python -m jaxgen.train --config=configs/cips.py:demo --workdir=runs/cips-demo

Fields of the config are overridden by --config.FIELD=VALUE. The same command goes on with an
interrupted run. On several hosts, start it on each of them.
"""

import sys

from absl import flags
from ml_collections import config_flags

from jaxgen import cli

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The run: a file of configs/.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for checkpoints, metrics, pictures.')


def main() -> None:
    """Puts the pieces together; see `jaxgen.training.loop` for the loop."""
    cli.require(config=_CONFIG.value, workdir=_WORKDIR.value)
    config = _CONFIG.value
    import jax

    from jaxgen import tasks
    from jaxgen.parallel import distributed
    from jaxgen.training import workdir

    distributed.initialize()
    tasks.check(config)
    data = tasks.open_data(config)
    plan = tasks.make_plan(config)
    objective = tasks.make_objective(config, plan.layout)
    folder = workdir.create(_WORKDIR.value)
    for line in workdir.adopt_config(folder, config):
        print(f'the config differs from the run in {folder}: {line}')
    kinds = {device.device_kind for device in jax.devices()}
    accelerator = '' if jax.default_backend() != 'cpu' else ' (no accelerator found)'
    print(
        f'{len(data.train)} images of {data.train.name!r}; {jax.device_count()} × {kinds.pop()}'
        f'{accelerator}, {config.plan}, mesh {dict(plan.mesh.shape)}',
        flush=True,
    )

    from jaxgen.evaluation.during import make_measure
    from jaxgen.evaluation.evaluators import make_evaluate, make_sample
    from jaxgen.training.loop import train

    sample = make_sample(config, objective, plan, data)
    evaluate = make_evaluate(config, objective, plan, data)
    measure = make_measure(config, objective, plan, data, folder)
    train(config, folder, objective, plan, data, sample, evaluate, measure)


if __name__ == '__main__':
    sys.exit(cli.run(main))
