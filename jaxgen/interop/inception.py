"""The published FID Inception network as PyTorch state dicts, to `metrics.inception`.

The file is pt_inception-2015-12-05-6726825d.pth of pytorch-fid, or
weights-inception-2015-12-05-6726825d.pth of torch-fidelity: the same names in both,

    STAGE[.BRANCH].conv.weight, .bn.weight, .bn.bias, .bn.running_mean, .bn.running_var
    fc.weight, fc.bias

A counter .bn.num_batches_tracked may be there and is left out. NVIDIA's file of this network is a
TorchScript program, which the reader refuses.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from jaxgen.errors import UserError
from jaxgen.interop import state_dicts, torch_reader
from jaxgen.metrics.inception import BATCH_NORM_EPS, InceptionV3

PyTree = Any

COUNTER = '.num_batches_tracked'


def read(path: str | pathlib.Path) -> tuple[InceptionV3, PyTree]:
    """The network of a published file, and its variables {'params'}.

    Raises:
      UserError: no such file, or one of something else; it says what it found.
    """
    data = torch_reader.read(path)
    try:
        return from_torch(data)
    except UserError as error:
        raise UserError(f'{str(path)!r}: {error}') from error


def from_torch(state_dict: Mapping[str, np.ndarray]) -> tuple[InceptionV3, PyTree]:
    """The network of a published state dict, and its variables {'params'} in float32.

    Raises:
      UserError: names that are missing or left over, other shapes, values that aren't finite.
    """
    what = 'the FID Inception network'
    if isinstance(state_dict, Mapping):
        state_dict = {
            name: array for name, array in state_dict.items() if not str(name).endswith(COUNTER)
        }
    arrays = state_dicts.floats(what, state_dict)
    state_dicts.compare(what, arrays, shapes())
    params = {('fc_kernel',): arrays['fc.weight'].T, ('fc_bias',): arrays['fc.bias']}
    for path in _tree():
        if path[-1] == 'kernel':
            kernel, bias = _fold('.'.join(path[:-1]), arrays)
            params |= {path: kernel, (*path[:-1], 'bias'): bias}
    return InceptionV3(), {'params': unflatten_dict(params)}


@functools.cache
def shapes() -> dict[str, tuple[int, ...]]:
    """Published name to shape."""
    found: dict[str, tuple[int, ...]] = {}
    for path, leaf in _tree().items():
        if path[-1] == 'kernel':
            name, (height, width, inputs, outputs) = '.'.join(path[:-1]), leaf.shape
            found[f'{name}.conv.weight'] = (outputs, inputs, height, width)
            for part in ('weight', 'bias', 'running_mean', 'running_var'):
                found[f'{name}.bn.{part}'] = (outputs,)
        elif path == ('fc_kernel',):
            found['fc.weight'] = leaf.shape[::-1]
        elif path == ('fc_bias',):
            found['fc.bias'] = leaf.shape
    return found


@functools.cache
def _tree() -> state_dicts.Leaves:
    return state_dicts.leaves(InceptionV3(), (1, 299, 299, 3))


def _fold(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [kh, kw, in, out] and bias of a convolution with its batch normalisation."""
    scale, shift, mean, variance = (
        arrays[f'{name}.bn.{part}'].astype(np.float64)
        for part in ('weight', 'bias', 'running_mean', 'running_var')
    )
    if variance.min() < 0:
        raise UserError(f'{name}.bn.running_var has a negative variance')
    gain = scale / np.sqrt(variance + BATCH_NORM_EPS)
    kernel = arrays[f'{name}.conv.weight'].transpose(2, 3, 1, 0) * gain
    return kernel.astype(np.float32), (shift - mean * gain).astype(np.float32)
