"""Eight simulated CPU devices, no silent broadcasting, quick compilation; set before jax starts."""

import os
import pathlib

import pytest

from tests.fork_server import ForkServer

ROOT = pathlib.Path(__file__).parent.parent

# Subprocesses that tests start inherit all of this.
os.environ.update(
    JAX_PLATFORMS='cpu',
    JAX_NUM_CPU_DEVICES='8',
    # Eight simulated devices on two cores deadlock with fewer threads than this.
    NPROC='16',
    # Two workers share two cores: threads of BLAS that wait for a core cost more than they do.
    OPENBLAS_NUM_THREADS='1',
    JAX_NUMPY_RANK_PROMOTION='raise',
    JAX_COMPILATION_CACHE_DIR=str(ROOT / '.pytest_cache' / 'jax'),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.1',
    # Code that runs for milliseconds is not worth optimising.
    XLA_FLAGS='--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false',
    TF_CPP_MIN_LOG_LEVEL='2',
)


def pytest_addoption(parser):
    """`pytest tests/parity --golden=DIR` runs the cases of any folder."""
    parser.addoption(
        '--golden',
        default=str(ROOT / 'tests' / 'golden'),
        help='folder of golden cases for tests/parity',
    )


# Half a minute or more each, and one worker takes a file as a whole: begun last, they would run
# alone. (`make test` tells xdist to keep this order.)
LONGEST = (
    'test_golden.py',
    'test_resume.py',
    'test_notebooks.py',
    'test_mesh_plans.py',
    'test_several_processes.py',
    'test_fid_against_torch.py',
    'test_speed_scripts.py',
    'test_stylegan3.py',
    'test_stylegan_convert.py',
    'test_autoregressive_sampling.py',
    'test_compile_command.py',
)


def pytest_collection_modifyitems(items):
    """The longest files first, in their order; within a file nothing changes."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope='session')
def commands(tmp_path_factory):
    """Starts `jaxgen.train` and `jaxgen.sample` in processes of their own, on one device."""
    with ForkServer(tmp_path_factory.mktemp('commands'), JAX_NUM_CPU_DEVICES='1') as server:
        yield server


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory):
    """A data folder with 'tiny', 36 + 12 images of 4×4 in three classes, and 'plain' without."""
    from tests import tiny

    return tiny.prepare_data(tmp_path_factory.mktemp('data'))
