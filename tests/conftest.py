"""Eight simulated CPU devices, no silent broadcasting, quick compilation; set before jax starts."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parent.parent

# Subprocesses that tests start inherit all of this.
os.environ.update(
    JAX_PLATFORMS='cpu',
    JAX_NUM_CPU_DEVICES='8',
    # Eight simulated devices on two cores deadlock with fewer threads than this.
    NPROC='16',
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
