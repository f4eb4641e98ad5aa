"""Joining the processes of a run that was launched on several hosts."""

import importlib.util
import os
import pathlib

import jax

from jaxgen.errors import UserError


def launched_on_several_hosts() -> bool:
    """Whether the environment says that this process is one of several.

    Known launchers: JAX's own variables, SLURM, Open MPI, TPU pods on GKE and on Cloud TPU VMs.
    """
    environment = os.environ
    if (variables := _variables()) is not None:
        return variables[1] > 1
    if int(environment.get('SLURM_NTASKS', '1')) > 1 and 'SLURM_PROCID' in environment:
        return True
    if int(environment.get('OMPI_COMM_WORLD_SIZE', '1')) > 1:
        return True
    if 'TPU_WORKER_HOSTNAMES' in environment:
        return ',' in environment['TPU_WORKER_HOSTNAMES']
    has_chips = any(pathlib.Path('/dev').glob('accel[0-9]*'))
    return has_chips and importlib.util.find_spec('libtpu') is not None


def initialize() -> None:
    """Calls `jax.distributed.initialize` where the run has several hosts; before any jax operation.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say it where no launcher does.

    Raises:
      UserError: the first of these without the others.
    """
    if not launched_on_several_hosts():
        return
    variables = _variables()
    if variables is None:
        jax.distributed.initialize()
        return
    if jax.config.jax_platforms == 'cpu':
        jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(*variables)


def _variables() -> tuple[str, int, int] | None:
    """Coordinator, number of processes and this one's index, where JAX's variables give them."""
    address = os.environ.get('JAX_COORDINATOR_ADDRESS')
    if address is None:
        return None
    numbers = [os.environ.get(name, '') for name in ('JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')]
    if not all(number.isdecimal() for number in numbers) or int(numbers[1]) >= int(numbers[0]):
        raise UserError(
            'with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (from 0) must be '
            f'set too, got {numbers[0]!r} and {numbers[1]!r}'
        )
    return address, int(numbers[0]), int(numbers[1])
