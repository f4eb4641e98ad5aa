"""FID of 2,000 images against an independent PyTorch implementation, where torch is installed."""

import importlib.util
import sys

import jax
import pytest

from experiments.fid_against_torch import run as against_torch
from jaxgen.evaluation import networks

COUNT = 1000  # of each set
SIDE = 75  # the least that the network takes: a fifteenth of the work at 299


@pytest.fixture
def small_inception(monkeypatch):
    """The network of the file, which sees images of SIDE pixels as they are; well compiled."""

    def make(flag, metric, mesh):
        found = networks.find('inception', flag, metric)

        def see(variables, images):
            return {'pool': found.module.apply(variables, (images - 128) / 128).pool}

        network = networks.make_network('Inception', found.variables, see, mesh)
        quick = jax.jit(network.see, compiler_options={'xla_backend_optimization_level': 3})
        return network._replace(see=quick)

    monkeypatch.setattr(networks, 'inception', make)


@pytest.mark.skipif(
    importlib.util.find_spec('torch') is None,
    reason='torch is not installed; .ci/run installs it',
)
def test_fid_of_2000_images_is_that_of_pytorch(small_inception, tmp_path):
    case = against_torch.write_case(tmp_path, COUNT, SIDE)
    _, ours = against_torch.by_jaxgen(case, COUNT, tmp_path / 'cache', batch=200, progress=False)
    theirs, _ = against_torch.by_torch(case, sys.executable, SIDE)
    assert ours == pytest.approx(theirs, rel=1e-3)
