"""Multiply-accumulates against counting by hand and by slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxgen.parallel.flops import count_macs


def _array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _convolve(x, kernel, stride=1, padding='SAME', **options):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'), **options
    )


def _pairs_by_loop(data, kernel, stride, low, result):
    return sum(
        0 <= position * stride + tap - low < data
        for position in range(result)
        for tap in range(kernel)
    )


def test_a_batched_matrix_product_counts_batch_rows_columns_and_depth():
    count = count_macs(
        lambda a, b: jnp.einsum('bij,bjk->bik', a, b), _array(7, 4, 5), _array(7, 5, 6)
    )
    assert count == 7 * 4 * 5 * 6


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize(('low', 'high'), [(0, 0), (1, 1), (2, 0)])
def test_a_convolution_counts_only_products_with_real_entries(stride, low, high):
    def function(x, k):
        return _convolve(x, k, stride, ((low, high), (low, high)))

    result = (8 + low + high - 3) // stride + 1
    pairs = _pairs_by_loop(8, 3, stride, low, result)
    assert count_macs(function, _array(2, 8, 8, 3), _array(3, 3, 3, 5)) == 2 * 3 * 5 * pairs**2


@pytest.mark.parametrize('options', [{}, {'stride': 2}, {'feature_group_count': 3}])
def test_each_gradient_of_a_convolution_costs_as_much_as_the_convolution(options):
    groups = options.get('feature_group_count', 1)
    arrays = _array(2, 8, 8, 3), _array(3, 3, 3 // groups, 6)

    def loss(x, k):
        return jnp.sum(jnp.sin(_convolve(x, k, **options)))

    forward = count_macs(loss, *arrays)
    assert count_macs(jax.grad(loss, 0), *arrays) == 2 * forward
    assert count_macs(jax.grad(loss, (0, 1)), *arrays) == 3 * forward


def test_dense_gradients_cost_twice_the_forward_pass():
    def loss(a, b):
        return jnp.sum(jnp.sin(a @ b))

    arrays = _array(4, 5), _array(5, 6)
    assert count_macs(jax.grad(loss, (0, 1)), *arrays) == 3 * count_macs(loss, *arrays)


def test_scan_multiplies_by_its_length_also_in_the_gradient():
    def loop(a):
        return jnp.sum(
            lax.scan(lambda carry, _: (jnp.tanh(carry @ carry), None), a, None, length=7)[0]
        )

    assert count_macs(loop, _array(3, 3)) == 7 * 27
    assert count_macs(jax.grad(loop), _array(3, 3)) == 3 * 7 * 27


def test_rematerialisation_counts_what_is_computed_again():
    def block(a, b):
        return jnp.sum(jnp.sin(jnp.sin(a @ b) @ b.T))

    arrays = _array(4, 5), _array(5, 6)
    kept = count_macs(jax.grad(block, (0, 1)), *arrays)
    again = count_macs(jax.grad(jax.checkpoint(block), (0, 1)), *arrays)
    assert kept == again == 3 * 240
    both = count_macs(jax.value_and_grad(jax.checkpoint(block), (0, 1)), *arrays)
    assert both == 4 * 240


def test_jit_and_custom_derivatives_are_looked_into():
    @jax.custom_vjp
    def product(a, b):
        return a @ b

    product.defvjp(lambda a, b: (a @ b, (a, b)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    arrays = _array(4, 5), _array(5, 6)
    assert count_macs(jax.jit(product), *arrays) == 120
    gradient = jax.value_and_grad(lambda a, b: jnp.sum(product(a, b)), (0, 1))
    assert count_macs(gradient, *arrays) == 3 * 120


def test_unused_results_cost_nothing():
    assert count_macs(lambda a: (a @ a, a)[1], _array(3, 3)) == 0


def test_shard_map_counts_all_devices_together():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
    product = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P('data'), P()), out_specs=P('data'))
    rows = 4 * len(jax.devices())
    assert count_macs(product, _array(rows, 5), _array(5, 6)) == rows * 5 * 6


def test_the_costliest_branch_of_a_cond_counts():
    def function(step, a):
        return lax.cond(step == 0, lambda x: x @ x @ x, lambda x: x @ x, a)

    assert count_macs(function, jax.ShapeDtypeStruct((), jnp.int32), _array(3, 3)) == 2 * 27


def test_a_loop_of_unknown_length_with_products_is_refused():
    def loop(a):
        return lax.while_loop(lambda x: jnp.sum(x) < 3, lambda x: x @ x, a)

    with pytest.raises(ValueError, match='while_loop'):
        count_macs(loop, _array(3, 3))
