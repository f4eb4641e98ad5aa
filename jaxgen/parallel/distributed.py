"""Joining the processes of a run that was launched on several hosts."""

import importlib.util
import os
import pathlib

import jax


def launched_on_several_hosts() -> bool:
    """Whether the environment says that this process is one of several.

    Known launchers: JAX's own variables, SLURM, Open MPI, TPU pods on GKE and on Cloud TPU VMs.
    """
    environment = os.environ
    if 'JAX_COORDINATOR_ADDRESS' in environment:
        return int(environment.get('JAX_NUM_PROCESSES', '1')) > 1
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
    """
    if not launched_on_several_hosts():
        return
    address = os.environ.get('JAX_COORDINATOR_ADDRESS')
    if address is None:
        jax.distributed.initialize()
        return
    if jax.config.jax_platforms == 'cpu':
        jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(
        address, int(os.environ['JAX_NUM_PROCESSES']), int(os.environ['JAX_PROCESS_ID'])
    )
