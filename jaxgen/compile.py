"""Compiles a run's whole training step for a TPU slice that need not be there, and reports on it.

    python -m jaxgen.compile --config=configs/cips.py --topology=v5e:4x4 [--json]

No data set and no TPU are needed, only libtpu (`make pod-check`); `--topology=cpu:8` needs neither.
The exit code is 2 where the step does not fit into a device's memory.
"""

import json
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxgen import cli

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The run: a file of configs/.')
_TOPOLOGY = flags.DEFINE_string('topology', 'v5e:4x4', 'Chip and slice, as in v5e:4x4, or cpu:8.')
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object on stdout, the rest on stderr.')


def main() -> None:
    """Puts the pieces together; see `jaxgen.parallel.roofline` for what the figures mean."""
    cli.require(config=_CONFIG.value)
    config = _CONFIG.value
    from jaxgen import tasks
    from jaxgen.parallel import flops, roofline
    from jaxgen.parallel.topology import open_topology

    tasks.check(config)
    topology = open_topology(_TOPOLOGY.value)
    plan = tasks.make_plan(config, list(topology.devices))
    plain = config.copy_and_resolve_references()
    networks = {name: config[name] for name in ('model', 'discriminator') if name in config}
    for name, fields in networks.items():
        if 'remat' in fields:
            plain[name].remat = False
    whole = _shapes(config)
    split = _shapes(config, plan.mesh.size) if config.plan == 'pmap' else whole
    objectives = [tasks.make_objective(config, plan.layout)]
    objectives += [tasks.make_objective(fields) for fields in (config, plain)]
    phases = []
    for placed, alone, model in zip(*(each.phases() for each in objectives), strict=True):
        note = f'compiling {placed.name!r} for a mesh of {dict(plan.mesh.shape)}: minutes if large'
        print(note, file=sys.stderr if _JSON.value else sys.stdout, flush=True)
        phase = roofline.compile_phase(
            placed.name,
            placed.every,
            plan.compile_step(placed.update).lower(*split),
            plan.mesh.shape,
            model_macs=flops.count_macs(model.update, *whole),
            executed_macs=flops.count_macs(alone.update, *whole, platform=topology.platform),
            options=topology.options,
        )
        phases.append(phase)
        if phase.shortage:
            break
    fields = roofline.Fields(config.batch_size, config.mesh.pixel, networks)
    report = roofline.Report(topology, tuple(phases), fields)
    print(json.dumps(report.to_dict()) if _JSON.value else report.render(), flush=True)
    report.require_fit()


def _shapes(config: ConfigDict, pmap: int = 0) -> tuple[Any, dict[str, Any], Any]:
    """(state, batch, key) of a step without their values; `pmap`: on how many devices, if so."""
    import jax

    from jaxgen import tasks

    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(tasks.make_objective(config).init_state, key)
    lead = (pmap, config.batch_size // pmap) if pmap else (config.batch_size,)
    return state, tasks.batch_shapes(config, lead), key


if __name__ == '__main__':
    sys.exit(cli.run(main))
