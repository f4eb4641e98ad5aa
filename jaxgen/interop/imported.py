"""Published weights, converted: read from the publisher's file, kept as a run's folder.

    config.json    {"task": "adversarial", "model": CIPSGenerator's fields, "imported": where from}
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

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxgen.errors import UserError
from jaxgen.interop import cips, torch_reader
from jaxgen.interop.unpickle import quoted
from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator

PyTree = Any

WEIGHTS = 'weights.npz'
KIND = 'cips'
# What the released training script saves, by our name.
NETWORKS = {'g_ema': 'ema', 'g': 'generator', 'd': 'discriminator'}
ACCEPTED = 'a state dict of the released CIPS, or its training dictionary with g_ema'


@dataclasses.dataclass(frozen=True)
class Imported:
    """Networks of published weights.

    Attributes:
      kind: of the model: 'cips'.
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
    lookup: str = 'reference',
    activation: str | None = None,
    noise: str | None = None,
    frame: tuple[int, int] | None = None,
) -> Imported:
    """The networks of a file of published weights.

    Args:
      lookup, activation, noise: see `jaxgen.interop.cips`.
      frame: see `Imported`. The released FFHQ-1024 weights have a grid of 256², and are rendered
        at (1024, 1024).

    Raises:
      UserError: no such file, or one of something else; it says what it found.
    """
    data = torch_reader.read(path)
    options = dict(lookup=lookup, activation=activation)
    try:
        found, dropped = _sort(data)
        names = [name for name in ('ema', 'generator') if name in found]
        generators = [cips.from_torch(found[name], noise=noise, **options) for name in names]
        if {module.noise for module, _ in generators} == {'none', 'random'}:
            # One of them has strengths of zero only: the module is that of the other.
            generators = [cips.from_torch(found[name], noise='random', **options) for name in names]
        modules, trees = zip(*generators, strict=True)
        if any(module != modules[0] for module in modules):
            raise UserError('g and g_ema are not the same network')
        networks = dict(zip(names, trees, strict=True))
        discriminator = None
        if 'discriminator' in found:
            discriminator, networks['discriminator'] = cips.discriminator_from_torch(
                found['discriminator']
            )
    except UserError as error:
        raise UserError(f'{str(path)!r}: {error}') from error
    provenance = {
        'file': pathlib.Path(path).name,
        'sha256': _sha256(path),
        'format': 'state dict' if found.keys() == {'ema'} else 'training dictionary',
        'dropped': dropped,
    }
    return Imported(KIND, modules[0], networks, discriminator, frame, provenance)


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
        if entry['kind'] != KIND:
            raise ValueError(f'imported.kind must be {KIND!r}, got {entry["kind"]!r}')
        generator = _module(CIPSGenerator, config['model'])
        discriminator = entry['discriminator'] and _module(Discriminator, entry['discriminator'])
        frame = entry['frame'] and (int(entry['frame'][0]), int(entry['frame'][1]))
        if frame and min(frame) < 1:
            raise ValueError(f'imported.frame must be positive, got {frame}')
        provenance = dict(entry['provenance'])
        shapes = {
            name: _shapes(discriminator if name == 'discriminator' else generator)
            for name in entry['networks']
        }
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(
            f'{str(path / "config.json")!r} is not that of converted weights: {reason}'
        ) from error
    arrays = _read_arrays(path / WEIGHTS, traverse_util.flatten_dict(shapes, sep='/'))
    trees = traverse_util.unflatten_dict(arrays, sep='/')
    return Imported(KIND, generator, trees, discriminator, frame, provenance)


def _sort(data: Any) -> tuple[dict[str, Mapping[str, np.ndarray]], list[str]]:
    """The state dicts of a file by our names, and the keys that are left out."""
    if isinstance(data, dict) and isinstance(data.get('g_ema'), dict):
        found = {NETWORKS[key]: data[key] for key in NETWORKS if isinstance(data.get(key), dict)}
        for name in found.keys() - {'discriminator'}:
            _check_generator(found[name])
        return found, [quoted(str(key))[1:-1] for key in data if NETWORKS.get(key) not in found]
    _check_generator(data)
    return {'ema': data}, []


def _check_generator(data: Any) -> None:
    """UserError that says what `data` is, if it is not a generator of CIPS."""
    if isinstance(data, dict) and {'emb.input', 'lff.ffm.conv.weight'} & data.keys():
        return
    raise UserError(f'found {_what(data)}; needed is {ACCEPTED}')


def _what(data: Any) -> str:
    if not isinstance(data, dict):
        return f'a {type(data).__name__}'
    keys = data.keys()
    known = {
        'input.input': 'a generator of StyleGAN2',
        'synthesis.b4.const': 'a generator of StyleGAN2',
        'synthesis.input.freqs': 'a generator of StyleGAN3',
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


def _shapes(module: nn.Module) -> PyTree:
    """The variables of a module, without their values."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    place = jnp.zeros((1, 1, 1, 2))
    if isinstance(module, CIPSGenerator):

        def init(key: jax.Array) -> PyTree:
            z, keys = jnp.zeros((1, module.latent)), jax.random.split(key, 1)
            return module.init(key, z, coords=place, noise=keys, method='generate')

    else:

        def init(key: jax.Array) -> PyTree:
            image = jnp.zeros((1, *module.frame, module.image_channels))
            return module.init(key, image, coords=place if module.coordinates else None)

    return jax.eval_shape(init, key)


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
