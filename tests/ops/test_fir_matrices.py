"""The form for a TPU is the same map as the form for other machines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops import fir_matrices, upfirdn2d
from jaxgen.ops.lowpass import lowpass
from jaxgen.parallel.flops import count_macs

RNG = np.random.default_rng(0)
RADIAL = lowpass(12, 20.0, 16.0, 128.0, radial=True)


@pytest.mark.parametrize(
    ('taps', 'up', 'down', 'before', 'size'),
    [
        (RNG.normal(size=(12, 1)), (2, 1), (1, 1), (3, 0), (19, 7)),
        (RNG.normal(size=(1, 6)), (1, 2), (1, 4), (0, -3), (9, 3)),
        (np.ones((1, 1)), (1, 1), (1, 1), (-2, 1), (5, 9)),
        (RNG.normal(size=(3, 4)), (2, 1), (3, 2), (2, 1), (6, 3)),
        (RADIAL, (1, 1), (2, 2), (5, -1), (6, 2)),
    ],
    ids=['up', 'down', 'crop', 'any', 'radial'],
)
def test_matrices_and_slices_are_the_same_map(taps, up, down, before, size):
    length = (9, 7)
    x = jnp.asarray(RNG.normal(size=(2, *length, 3)), jnp.float32)
    geometry = up, down, before, size, length
    expected = upfirdn2d._sum_of_slices(x, taps, *geometry)
    found = fir_matrices.resample(x, taps, *geometry)
    assert found.shape == (2, *size, 3)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(expected).max() > 0.1


def test_a_radial_filter_is_a_few_outer_products():
    columns, rows = fir_matrices._outer_products(RADIAL)
    assert len(columns) == len(rows) <= 6
    np.testing.assert_allclose(columns.T @ rows, RADIAL, atol=1e-6 * np.abs(RADIAL).max())


def test_a_cpu_multiplies_no_matrix_and_its_program_has_no_branch():
    x, f = jnp.ones((1, 8, 8, 2)), np.array([1.0, 3.0, 3.0, 1.0])
    program = jax.jit(lambda x: upfirdn2d.upfirdn2d(x, f, up=2)).lower(x).compile().as_text()
    assert 'conditional' not in program
    assert ' dot' not in program
    counts = [
        count_macs(lambda x: upfirdn2d.upfirdn2d(x, f, up=2), x, platform=platform)
        for platform in (None, 'cpu', 'tpu')
    ]
    assert counts[:2] == [0, 0]
    assert counts[2] == 2 * (13 * 8 * 8 + 13 * 8 * 13)
