"""Exact multiply-accumulates of a function, counted on its jaxpr.

Only matrix products and convolutions count, as is the custom for model FLOPs: 1 MAC = 2 FLOPs.
A convolution counts the products with real entries of its input, not those with the zeros of
padding or of dilation, so a convolution and each of its two gradients cost the same.
Shapes are global: on several devices, divide by their number where all the work is split.

Nothing is compiled and nothing runs, so arguments may be `jax.ShapeDtypeStruct`s. Dead code is
dropped first. Of a `lax.cond` the costliest branch counts, of `lax.platform_dependent` that of
`platform`. What `jax.checkpoint` computes again
counts again: count a model without rematerialisation for its model FLOPs (MFU), with it for the
hardware's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval


def count_macs(function: Callable, *args: Any, platform: str | None = None) -> int:
    """Multiply-accumulates of one call of `function(*args)`.

    Args:
        function: a pure function of arrays.
        *args: pytrees of arrays or `jax.ShapeDtypeStruct`s.
        platform: whose formulation counts where they differ, e.g. 'tpu'; None: the default one's.

    Raises:
        ValueError: a loop without a known number of rounds (`while_loop`) that holds products.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(live, platform)


def _count(jaxpr: Jaxpr, platform: str | None) -> int:
    return sum(_count_equation(equation, platform) for equation in jaxpr.eqns)


def _count_equation(equation: JaxprEqn, platform: str | None) -> int:
    name = equation.primitive.name
    if name == 'dot_general':
        return _dot_macs(equation)
    if name == 'conv_general_dilated':
        return _convolution_macs(equation)
    if name == 'cond':
        branches = equation.params['branches']
        if platforms := equation.params.get('branches_platforms'):
            # The last is the default, and its place holds None.
            of_platform = [each is None or platform in each for each in platforms]
            return _count(branches[of_platform.index(True)].jaxpr, platform)
        return max(_count(branch.jaxpr, platform) for branch in branches)
    inner = sum(_count(sub, platform) for sub in _inner_jaxprs(equation))
    if name == 'scan':
        return equation.params['length'] * inner
    if name == 'while' and inner:
        raise ValueError('cannot count the products in a while_loop: its rounds are unknown')
    if name == 'shard_map':
        return math.prod(equation.params['mesh'].shape.values()) * inner
    return inner


def _inner_jaxprs(equation: JaxprEqn) -> list[Jaxpr]:
    """The jaxprs that an equation evaluates: of pjit, scan, remat, custom_vjp, shard_map …

    Rules for differentiation (`jvp_jaxpr_fun`, `bwd` …) are callables by now, not jaxprs.
    """
    found = []
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, Jaxpr):
                found.append(item)
    return found


def _dot_macs(equation: JaxprEqn) -> int:
    left, right = (var.aval.shape for var in equation.invars)
    (_, contracted), (_, batch) = equation.params['dimension_numbers']
    free = [size for axis, size in enumerate(right) if axis not in (*contracted, *batch)]
    return math.prod(left) * math.prod(free)


def _convolution_macs(equation: JaxprEqn) -> int:
    params, (data, kernel) = equation.params, (var.aval.shape for var in equation.invars)
    result = equation.outvars[0].aval.shape
    numbers = params['dimension_numbers']
    pairs = 1
    for axis, (low, _) in enumerate(params['padding']):
        pairs *= _real_pairs(
            data[numbers.lhs_spec[2 + axis]],
            kernel[numbers.rhs_spec[2 + axis]],
            result[numbers.out_spec[2 + axis]],
            stride=params['window_strides'][axis],
            low=low,
            data_dilation=params['lhs_dilation'][axis],
            kernel_dilation=params['rhs_dilation'][axis],
        )
    batch = data[numbers.lhs_spec[0]] // params['batch_group_count']
    features_in, features_out = kernel[numbers.rhs_spec[1]], result[numbers.out_spec[1]]
    return batch * features_in * features_out * pairs


def _real_pairs(
    data: int, kernel: int, result: int, *, stride: int, low: int, data_dilation: int,
    kernel_dilation: int,
) -> int:  # fmt: skip
    """How many pairs (output position, kernel tap) of one axis meet a real entry of the input."""
    starts = np.arange(result)[:, None] * stride - low
    positions = starts + np.arange(kernel)[None, :] * kernel_dilation
    inside = (positions >= 0) & (positions <= (data - 1) * data_dilation)
    return int(np.count_nonzero(inside & (positions % data_dilation == 0)))
