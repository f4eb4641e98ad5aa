"""Published weights, converted: read from the publisher's file, kept as a run's folder.

    config.json    {"task": "adversarial", "model": the generator's fields, "imported": where from}
    weights.npz    'NETWORK/COLLECTION/path/of/a/parameter' to array; NETWORK as in `Imported`

Such a folder is for sampling and the apps. It has no optimiser states to train on from.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxgen.errors import UserError
from jaxgen.interop import (
    cips,
    rosinality,
    stylegan2,
    stylegan3,
    stylegan_pickle,
    torch_reader,
)
from jaxgen.interop.abstract import abstract_variables
from jaxgen.interop.unpickle import quoted
from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator

PyTree = Any

WEIGHTS = 'weights.npz'
KINDS: Mapping[str, type[nn.Module]] = {
    'cips': CIPSGenerator, 'stylegan2': StyleGAN2Generator, 'stylegan3': StyleGAN3Generator,
}  # fmt: skip
# What training scripts save, by our name: those of CIPS and rosinality, and the official ones.
NETWORKS = {'g_ema': 'ema', 'g': 'generator', 'd': 'discriminator'}
SNAPSHOT = {'G_ema': 'ema', 'G': 'generator', 'D': 'discriminator'}
ACCEPTED = (
    "a state dict of the released CIPS or of rosinality's StyleGAN2, a training dictionary of "
    'either with g_ema, or a pickled snapshot of the official StyleGAN2 or StyleGAN3'
)
# The kind of a generator by a name in its state dict.
KEYS = {'emb.input': 'cips', 'lff.ffm.conv.weight': 'cips', 'input.input': 'stylegan2'}
SNAPSHOT_KEYS = {'synthesis.b4.const': 'stylegan2', 'synthesis.input.freqs': 'stylegan3'}
CLASSES = {'ema': 'Generator', 'generator': 'Generator', 'discriminator': 'Discriminator'}
# What training dictionaries have besides networks; see `Record`.
ARGUMENTS = ('argparse.Namespace',)


@dataclasses.dataclass(frozen=True)
class Imported:
    """Networks of published weights.

    Attributes:
      kind: of the model: one of `KINDS`.
      generator: the module.
      networks: variables by network: 'ema' (averaged), and where the file has them 'generator'
        (as of the last step) and 'discriminator'.
      discriminator: its module, where there is one.
      frame: (height, width) of the published images where it is not that of the generator.
      provenance: the file's name and SHA-256, its format, what was left out.
    """

    kind: str
    generator: nn.Module
    networks: Mapping[str, PyTree]
    discriminator: nn.Module | None = None
    frame: tuple[int, int] | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def variables(self, *, ema: bool = True) -> PyTree:
        """{'params', 'stats'} of the generator.

        Raises:
          UserError: `ema=False`, but there are averaged parameters only.
        """
        name = 'ema' if ema else 'generator'
        if name not in self.networks:
            raise UserError(
                f'{self.provenance.get("file", "the file")!r} has averaged parameters only: '
                'leave out --noema'
            )
        return self.networks[name]


def read_published(
    path: str | pathlib.Path,
    *,
    lookup: str | None = None,
    activation: str | None = None,
    noise: str | None = None,
    frame: tuple[int, int] | None = None,
) -> Imported:
    """The networks of a file of published weights.

    Args:
      lookup, activation: see `jaxgen.interop.cips`, which alone has them; None: its default.
      noise: see `jaxgen.interop.cips` and `jaxgen.interop.stylegan2`.
      frame: see `Imported`. The released FFHQ-1024 weights of CIPS have a grid of 256², and are
        rendered at (1024, 1024).

    Raises:
      UserError: no such file, or one of something else; it says what it found.
    """
    snapshot = stylegan_pickle.is_snapshot(path)
    data = stylegan_pickle.read(path) if snapshot else torch_reader.read(path, records=ARGUMENTS)
    options = dict(lookup=lookup, activation=activation, noise=noise, size=frame)
    try:
        found = _from_snapshot(*data, options) if snapshot else _from_torch(data, options)
        modules = [
            module for name, (module, _) in found.networks.items() if name != 'discriminator'
        ]
        if any(module != modules[0] for module in modules):
            raise UserError('g and g_ema are not the same network')
    except UserError as error:
        raise UserError(f'{str(path)!r}: {error}') from error
    discriminator, _ = found.networks.get('discriminator', (None, None))
    provenance = {
        'file': pathlib.Path(path).name,
        'sha256': _sha256(path),
        'format': found.form,
        'dropped': found.dropped,
    }
    networks = {name: variables for name, (_, variables) in found.networks.items()}
    return Imported(found.kind, modules[0], networks, discriminator, frame, provenance)


def save(folder: str | pathlib.Path, imported: Imported) -> None:
    """Writes the folder. config.json comes last: without it, a folder holds no run.

    Raises:
      UserError: it holds a run already, or can't be written.
    """
    path = pathlib.Path(folder).expanduser()
    taken = [name for name in ('config.json', 'checkpoints') if (path / name).exists()]
    if taken:
        raise UserError(f'{str(folder)!r} already holds a run ({taken[0]}): choose another folder')
    config = {
        'task': 'adversarial',
        'model': _fields(imported.generator),
        'imported': {
            'kind': imported.kind,
            'frame': imported.frame,
            'networks': sorted(imported.networks),
            'discriminator': imported.discriminator and _fields(imported.discriminator),
            'provenance': dict(imported.provenance),
        },
    }
    arrays = traverse_util.flatten_dict(dict(imported.networks), sep='/')
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _replacing(path / WEIGHTS) as file:
            np.savez(file, **arrays)
        with _replacing(path / 'config.json') as file:
            file.write(json.dumps(config, indent=2).encode() + b'\n')
    except OSError as error:
        raise UserError(f'{str(folder)!r} is not writable: {error.strerror or error}') from error


def load(folder: str | pathlib.Path) -> Imported:
    """What `save` wrote.

    Raises:
      UserError: the folder holds no converted weights, or they are damaged.
    """
    path = pathlib.Path(folder).expanduser()
    try:
        config = json.loads((path / 'config.json').read_text())
        entry = config['imported']
        if (kind := entry['kind']) not in KINDS:
            raise ValueError(f'imported.kind must be one of {list(KINDS)}, got {kind!r}')
        generator = _module(KINDS[kind], config['model'])
        discriminator = entry['discriminator'] and _module(Discriminator, entry['discriminator'])
        frame = entry['frame'] and (int(entry['frame'][0]), int(entry['frame'][1]))
        if frame and min(frame) < 1:
            raise ValueError(f'imported.frame must be positive, got {frame}')
        provenance = dict(entry['provenance'])
        shapes = {
            name: abstract_variables(discriminator if name == 'discriminator' else generator)
            for name in entry['networks']
        }
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(
            f'{str(path / "config.json")!r} is not that of converted weights: {reason}'
        ) from error
    arrays = _read_arrays(path / WEIGHTS, traverse_util.flatten_dict(shapes, sep='/'))
    trees = traverse_util.unflatten_dict(arrays, sep='/')
    return Imported(kind, generator, trees, discriminator, frame, provenance)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a file has: modules with their variables by our name, its form, what is left out."""

    kind: str
    networks: Mapping[str, tuple[nn.Module, PyTree]]
    form: str
    dropped: list[str]


def _from_torch(data: Any, options: Mapping[str, Any]) -> _Found:
    """A file of `torch.save`."""
    if isinstance(data, dict) and isinstance(data.get('G_ema'), dict) and 'init_kwargs' in data:
        network = stylegan_pickle.Network('Generator', data['init_kwargs'], data['G_ema'])
        dropped = [key for key in data if key not in ('G_ema', 'init_kwargs')]
        found = _from_snapshot({'G_ema': network}, dropped, options)
        return dataclasses.replace(found, form='state dict with arguments')
    found, dropped = {'ema': data}, []
    if isinstance(data, dict) and isinstance(data.get('g_ema'), dict):
        found = {NETWORKS[key]: data[key] for key in NETWORKS if isinstance(data.get(key), dict)}
        dropped = [key for key in data if NETWORKS.get(key) not in found]
    kinds = [_kind(state_dict) for name, state_dict in found.items() if name != 'discriminator']
    if kinds[0] == 'cips':
        networks = _cips(found, options)
    else:
        _refuse_options('StyleGAN2', options, 'lookup', 'activation', 'size')
        # The mean of w that converted files have belongs to the averaged network.
        means = {'ema': data['latent_avg']} if 'latent_avg' in dropped else {}
        dropped = [key for key in dropped if key != 'latent_avg']
        networks = {}
        for name, state_dict in found.items():
            if name == 'discriminator':
                networks[name] = rosinality.discriminator_from_torch(state_dict)
            else:
                networks[name] = rosinality.from_torch(
                    state_dict, means.get(name), noise=options['noise']
                )
    form = 'state dict' if found.keys() == {'ema'} else 'training dictionary'
    return _Found(kinds[0], networks, form, [quoted(str(key))[1:-1] for key in dropped])


def _cips(
    found: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, tuple[nn.Module, PyTree]]:
    given = dict(lookup=options['lookup'] or 'reference', activation=options['activation'])
    names = [name for name in found if name != 'discriminator']
    networks = {
        name: cips.from_torch(found[name], noise=options['noise'], **given) for name in names
    }
    if {module.noise for module, _ in networks.values()} == {'none', 'random'}:
        # One of them has strengths of zero only: the module is that of the other.
        networks = {name: cips.from_torch(found[name], noise='random', **given) for name in names}
    if 'discriminator' in found:
        networks['discriminator'] = cips.discriminator_from_torch(found['discriminator'])
    return networks


def _from_snapshot(
    stored: Mapping[str, stylegan_pickle.Network], dropped: list[str], options: Mapping[str, Any]
) -> _Found:
    """A snapshot of the official code."""
    kind = _kind(stored['G_ema'].state_dict, SNAPSHOT_KEYS)
    networks = {}
    for key, name in SNAPSHOT.items():
        if key not in stored:
            continue
        network = stored[key]
        arguments = network.state_dict, network.init_kwargs
        if network.class_name != CLASSES[name]:
            raise UserError(f'{key} is a {network.class_name}')
        if name == 'discriminator':
            networks[name] = stylegan2.discriminator_from_torch(*arguments)
        elif kind == 'stylegan2':
            networks[name] = stylegan2.from_torch(*arguments, noise=options['noise'])
        else:
            networks[name] = stylegan3.from_torch(*arguments)
    _refuse_options('StyleGAN2 or StyleGAN3', options, 'lookup', 'activation', 'size')
    if kind == 'stylegan3':
        _refuse_options('StyleGAN3', options, 'noise')
    return _Found(kind, networks, 'snapshot', dropped)


def _refuse_options(model: str, options: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if options[name] is not None:
            raise UserError(f'{name} does not go with weights of {model}: leave out --{name}')


def _kind(data: Any, keys: Mapping[str, str] = KEYS) -> str:
    """The kind of a generator's state dict, by its names; UserError if it is none."""
    for key, kind in keys.items():
        if isinstance(data, dict) and key in data:
            return kind
    raise UserError(f'found {_what(data)}; needed is {ACCEPTED}')


def _what(data: Any) -> str:
    if not isinstance(data, dict):
        return f'a {type(data).__name__}'
    keys = data.keys()
    known = {
        'synthesis.b4.const': 'a generator of StyleGAN2 without its snapshot',
        'synthesis.input.freqs': 'a generator of StyleGAN3 without its snapshot',
        'final_linear.0.weight': 'a discriminator alone',
        'g': 'a training dictionary without g_ema',
    }
    for key, what in known.items():
        if key in keys:
            return f'{what} ({key})'
    listed = ', '.join(quoted(str(key))[1:-1] for key in list(keys)[:4])
    return f'a dictionary of {len(keys)} entries ({listed}{", …" if len(keys) > 4 else ""})'


def _fields(module: nn.Module) -> dict[str, Any]:
    """Fields of the constructor, as JSON takes them."""
    names = [f.name for f in dataclasses.fields(module) if f.name not in ('parent', 'name')]
    fields = {name: getattr(module, name) for name in names}
    if isinstance(fields.get('channels'), Mapping):
        fields['channels'] = {str(side): width for side, width in fields['channels'].items()}
    return fields | {'dtype': 'float32'}


def _module(module: type[nn.Module], fields: Mapping[str, Any]) -> nn.Module:
    fields = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    if fields.pop('dtype') != 'float32':
        raise ValueError("dtype must be 'float32'")
    if isinstance(fields.get('channels'), dict):
        fields['channels'] = {int(side): width for side, width in fields['channels'].items()}
    return module(**fields)


def _read_arrays(path: pathlib.Path, shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise UserError(f'{str(path)!r} cannot be read: {error.strerror or error}') from error
    except Exception as error:  # numpy and zipfile raise more kinds than they document
        raise UserError(f'{str(path)!r} is damaged: {error}') from error
    wrong = sorted(arrays.keys() ^ shapes.keys())
    wrong += [
        name
        for name in arrays.keys() & shapes.keys()
        if (arrays[name].shape, arrays[name].dtype) != (shapes[name].shape, np.float32)
    ]
    if wrong:
        raise UserError(f'{str(path)!r} does not fit its config.json: {", ".join(wrong[:6])}')
    return arrays


@contextlib.contextmanager
def _replacing(target: pathlib.Path) -> Iterator[BinaryIO]:
    """A file that gets `target`'s name if the block ends well."""
    temporary = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        with temporary.open('wb') as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: str | pathlib.Path) -> str:
    with pathlib.Path(path).expanduser().open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
