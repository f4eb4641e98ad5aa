"""Two processes of two devices each, every process with its own rows, give one set's moments."""

import os
import socket
import subprocess
import sys

import numpy as np

from jaxgen.metrics import stats
from tests.fork_server import ROOT

BODY = """
import sys, jax, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxgen.metrics import stats

address, index, target = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(address, 2, index)
mesh = Mesh(np.array(jax.devices()), 'data')
rows = np.load(target + '.npy')
sums = stats.start(rows.shape[1], mesh=mesh)
for batch in np.split(rows, 3):
    mine = np.split(batch, 2)[index]
    batch = multihost_utils.host_local_array_to_global_array(mine, mesh, PartitionSpec('data'))
    sums = stats.add(sums, batch, mesh=mesh)
found = stats.finish(sums, mesh=mesh)
np.savez(f'{target}.{index}.npz', **found._asdict())
"""


def test_every_process_gets_the_moments_of_all_rows(tmp_path):
    rows = np.random.default_rng(0).normal(3, size=(48, 8)).astype(np.float32)
    target = str(tmp_path / 'rows')
    np.save(target, rows)
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', BODY, address, str(index), target],
            cwd=ROOT,
            env=os.environ | {'JAX_NUM_CPU_DEVICES': '2', 'PYTHONPATH': str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    expected = stats.moments_of(rows)
    for index in range(2):
        with np.load(f'{target}.{index}.npz') as found:
            assert found['count'] == 48
            np.testing.assert_allclose(found['mean'], expected.mean, rtol=1e-6)
            scale = expected.scatter.diagonal().max()
            np.testing.assert_allclose(found['scatter'], expected.scatter, atol=1e-6 * scale)
