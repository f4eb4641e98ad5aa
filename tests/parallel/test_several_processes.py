"""Two processes of two devices each train in step with one process of four."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.parallel import distributed
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training import workdir
from jaxgen.training.checkpoint import Checkpoints
from tests import tiny
from tests.fork_server import ROOT

STEPS = 3


@pytest.fixture(scope='module')
def train(tiny_data):
    """Starts the real command on one of the processes of a run."""
    arguments = tiny.flags(
        tiny_data,
        steps=STEPS,
        batch_size=8,
        discriminator__minibatch_std_group=2,
        model__noise='random',
        log_every=1,
        sample_every=2,
        checkpoint_every=2,
        # tests/parallel/test_mesh_plans.py has R1 on several devices.
        loss__r1_every=0,
        # With an ε this large Adam is proportional to the gradient, as SGD is.
        optimizer__eps=1.0,
        optimizer__learning_rate=0.1,
    )

    def start(folder, devices, plan='jit', pixel=1, **environment):
        return subprocess.Popen(
            [
                *(sys.executable, '-m', 'jaxgen.train', *arguments),
                *(f'--config.plan={plan}', f'--config.mesh.pixel={pixel}', f'--workdir={folder}'),
            ],
            cwd=ROOT,
            env=os.environ | {'JAX_NUM_CPU_DEVICES': str(devices)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def said(process):
    """What a process printed, once it has ended well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope='module')
def one(train, tmp_path_factory):
    """The run of one process with four devices."""
    folder = tmp_path_factory.mktemp('processes') / 'one'
    said(train(folder, 4))
    return folder


@pytest.fixture(
    scope='module',
    params=[('jit', 2), ('pmap', 1)],
    ids=lambda each: '-'.join(map(str, each)),
)
def two(train, request, tmp_path_factory):
    """The run of two processes with two devices each."""
    folder = tmp_path_factory.mktemp('processes') / 'two'
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    common = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES='2')
    processes = [
        train(folder, 2, *request.param, JAX_PROCESS_ID=str(index), **common) for index in range(2)
    ]
    # The first process speaks for all.
    assert ['done: ' in said(process) for process in processes] == [True, False]
    return folder


def state(folder, step):
    """A checkpoint, restored on the devices of this process, whichever wrote it."""
    objective = tasks.make_objective(workdir.read_config(folder))
    checkpoints = Checkpoints(folder / 'checkpoints')
    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    restored = checkpoints.restore(step, shapes, JitPlan(make_mesh()).state_sharding())
    checkpoints.close()
    return jax.device_get(restored)


def test_the_states_are_equal(one, two):
    expected, found = (jax.tree.leaves_with_path(state(folder, STEPS)) for folder in (one, two))
    for (path, a), (_, b) in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, err_msg=str(path))


def test_training_moved_the_state(two):
    first, last = (jax.tree.leaves(state(two, step)) for step in (2, STEPS))
    assert sum(np.abs(a - b).max() > 1e-4 for a, b in zip(first, last, strict=True)) > 10


def test_the_metrics_are_equal_and_written_once(one, two):
    expected, found = (
        [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
        for folder in (one, two)
    )
    assert [line['step'] for line in found] == [line['step'] for line in expected] == [1, 2, 3]
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {'time', 'images_per_second'}:
            assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-5)


def test_the_sample_grids_are_equal(one, two):
    for name in ('00000002.png', '00000003.png'):
        a, b = (np.asarray(Image.open(f / 'samples' / name), np.int32) for f in (one, two))
        assert np.abs(a - b).max() <= 1


LAUNCHERS = ('JAX_', 'SLURM_', 'OMPI_', 'TPU_')


@pytest.fixture
def environment(monkeypatch):
    """Sets only the given variables of those that launchers set."""

    def only(variables):
        for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return only


JAX = dict(JAX_COORDINATOR_ADDRESS='a:1')


@pytest.mark.parametrize(
    ('variables', 'several'),
    [
        (JAX | dict(JAX_NUM_PROCESSES='2', JAX_PROCESS_ID='1'), True),
        (JAX | dict(JAX_NUM_PROCESSES='1', JAX_PROCESS_ID='0'), False),
        (dict(SLURM_NTASKS='4', SLURM_PROCID='0'), True),
        # A shell within an allocation, not a task of it.
        (dict(SLURM_NTASKS='4'), False),
        (dict(SLURM_NTASKS='1', SLURM_PROCID='0'), False),
        (dict(OMPI_COMM_WORLD_SIZE='2'), True),
        (dict(TPU_WORKER_HOSTNAMES='a,b'), True),
        (dict(TPU_WORKER_HOSTNAMES='localhost'), False),
    ],
)
def test_several_hosts_are_told_from_the_launcher(environment, variables, several):
    environment(variables)
    assert distributed.launched_on_several_hosts() == several


@pytest.mark.parametrize(
    'variables',
    [{}, dict(JAX_NUM_PROCESSES='2'), dict(JAX_NUM_PROCESSES='2', JAX_PROCESS_ID='2')],
)
def test_an_address_without_the_rest_is_an_error_and_not_a_run_of_one(environment, variables):
    environment(JAX | variables)
    with pytest.raises(UserError, match='JAX_NUM_PROCESSES and JAX_PROCESS_ID'):
        distributed.initialize()
