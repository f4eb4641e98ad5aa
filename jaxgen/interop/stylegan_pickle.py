"""Reads the network snapshots that the official StyleGAN2-ADA and StyleGAN3 code pickles.

    read('ffhq.pkl') -> {'G': Network, 'D': Network, 'G_ema': Network}

Every network, and every module in it, is stored as a call of the publisher's persistence function
with one dictionary: the source text of the class, which would be executed there, and the object's
attributes, among them the arguments of its constructor. Here the call is a record. The text is
never looked at; parameters and buffers are collected from the attributes. What a snapshot may
refer to is `torch_reader.ALLOWED` and the few names here; anything else is refused by name.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxgen.interop.torch_reader import (
    ALLOWED,
    MAX_SHARING,
    MAX_STREAM,
    Storage,
    opened,
    read_stream,
)
from jaxgen.interop.unpickle import Constructor, Malformed, Record, Unpickler, quoted

PERSISTENT = 'torch_utils.persistence._reconstruct_persistent_obj'
NETWORKS = ('G', 'D', 'G_ema')
MAX_MODULES = 10_000  # and arrays

# Attributes of modules that are numbers and arrays of NumPy. Nothing needs them.
_NUMPY = (
    'numpy.dtype', 'numpy.ndarray',
    'numpy.core.multiarray._reconstruct', 'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct', 'numpy._core.multiarray.scalar',
)  # fmt: skip
# The arguments that are given by position where any are; by class.
_POSITIONS = {
    'Generator': ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels'),
    'Discriminator': ('c_dim', 'img_resolution', 'img_channels'),
}
_UNKNOWN = object()


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a snapshot.

    Attributes:
      class_name: in the publisher's source: 'Generator' or 'Discriminator'.
      init_kwargs: the arguments of its constructor; with a clamp, where the class's default had
        given one to the layers.
      state_dict: published name to array.
    """

    class_name: str
    init_kwargs: Mapping[str, Any]
    state_dict: Mapping[str, np.ndarray]


def is_snapshot(path: str | pathlib.Path) -> bool:
    """Whether a file begins as a pickle, but not as one of `torch.save`, which begin with a number.

    A file that can't be read is none.
    """
    try:
        with pathlib.Path(path).expanduser().open('rb') as file:
            head = file.read(3)
    except OSError:
        return False
    return len(head) == 3 and head[:1] == b'\x80' and head[2:] != b'\x8a'


def read(path: str | pathlib.Path) -> tuple[dict[str, Network], list[str]]:
    """The networks of a snapshot, and the names of what else is in it.

    A network that is pickled alone counts as 'G_ema'.

    Raises:
      UserError: there is no such file, it is not one, it is damaged, or it refers to something
        that is not allowed; one line.
    """
    with opened(path) as file:
        size = file.seek(0, 2)
        if size > MAX_STREAM:
            raise Malformed(f'it has {size} bytes, at most {MAX_STREAM} are read')
        file.seek(0)
        data = file.read()
        # Records are filled in as the file says, so every reading has its own.
        allowed = {
            **ALLOWED,
            **{name: Record(name) for name in (PERSISTENT, *_NUMPY)},
            'torch.storage._load_from_bytes': Constructor(_storages(size)),
            'dnnlib.util.EasyDict': Constructor(_empty_dictionary),
            'builtins.set': Constructor(_listed),
        }
        machine = Unpickler(data, allowed, sets=True)
        value = machine.load()
        if machine.position != size:
            raise Malformed(f'it goes on for {size - machine.position} bytes after its end')
        return _networks(value, size)


def _networks(value: Any, size: int) -> tuple[dict[str, Network], list[str]]:
    if isinstance(value, Record):
        value = {'G_ema': value}
    if type(value) is not dict or not isinstance(value.get('G_ema'), Record):
        raise Malformed('it is a pickle, but neither a snapshot with a G_ema nor one of torch.save')
    found = {}
    for name in NETWORKS:
        if value.get(name) is not None:
            found[name] = _network(value[name])
    arrays = [array for network in found.values() for array in network.state_dict.values()]
    if (total := sum(array.nbytes for array in arrays)) > MAX_SHARING * size:
        raise Malformed(f'it has arrays of {total} bytes in a file of {size}')
    rest = [quoted(str(key))[1:-1] for key in value if key not in found]
    return found, rest


def _network(record: Any) -> Network:
    class_name, state = _attributes(record, 'a network')
    if class_name not in _POSITIONS:
        raise Malformed(
            f'it has a network of the class {quoted(class_name)}, known are {list(_POSITIONS)}'
        )
    kwargs, positions = state.get('_init_kwargs'), state.get('_init_args')
    names = _POSITIONS[class_name]
    if type(kwargs) is not dict or type(positions) is not tuple or len(positions) > len(names):
        raise Malformed('it has a network without the arguments of its constructor')
    given = dict(zip(names, positions, strict=False))
    if both := given.keys() & kwargs.keys():
        raise Malformed(f'it has a network with the arguments {sorted(both)} twice')
    arrays: dict[str, np.ndarray] = {}
    clamps = []
    for count, (prefix, attributes) in enumerate(_modules(state)):
        if count > MAX_MODULES or len(arrays) > MAX_MODULES:
            raise Malformed(f'it has a network of more than {MAX_MODULES:,} modules or arrays')
        _collect(arrays, prefix, attributes)
        if type(clamp := attributes.get('conv_clamp')) in (int, float):
            clamps.append(clamp)
    given |= kwargs
    if 'conv_clamp' not in given and 'synthesis_kwargs' not in given:
        # The default differs between the publisher's two repositories.
        given['conv_clamp'] = clamps[0] if clamps else None
    return Network(class_name, given, arrays)


def _modules(state: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(prefix of its names, attributes) of a module and all below it."""
    yield prefix, state
    for name, module in _table(state, '_modules'):
        if module is not None:
            path = f'{prefix}{name}'
            yield from _modules(_attributes(module, quoted(path))[1], f'{path}.')


def _collect(arrays: dict[str, np.ndarray], prefix: str, state: Mapping[str, Any]) -> None:
    """Adds the parameters and buffers of one module."""
    for kind in ('_parameters', '_buffers'):
        for name, array in _table(state, kind):
            if array is None:
                continue
            name = f'{prefix}{name}'
            if not isinstance(array, np.ndarray) or name in arrays:
                raise Malformed(f'its {quoted(name)} is no tensor, or there twice')
            arrays[name] = array


def _attributes(record: Any, what: str) -> tuple[str, dict[str, Any]]:
    """The class and the attributes of a persistent object."""
    if isinstance(record, Record) and record.name == PERSISTENT:
        match record.arguments:
            case ({'type': 'class', 'class_name': str(name), 'state': dict(state)},):
                return name, state
    raise Malformed(f'{what} in it is no module of the official code')


def _table(state: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    table = state.get(name, _UNKNOWN)
    if type(table) is not dict or any(type(key) is not str for key in table):
        raise Malformed(f'it has a module without {name}')
    yield from table.items()


def _storages(room: int) -> Callable[[tuple], Storage]:
    """Reads storages, each a stream of its own; all together no more than `room` bytes."""

    def load(arguments: tuple) -> Storage:
        nonlocal room
        match arguments:
            case (bytes(data),):
                # The same bytes may be named again and again.
                room -= len(data)
                if room < 0:
                    raise Malformed('its storages are larger than the file')
                elements = read_stream(data, ALLOWED, bare=True)
                if isinstance(elements, np.ndarray) and elements.ndim == 1:
                    return Storage(elements)
        raise Malformed('it has a storage that is none')

    return load


def _empty_dictionary(arguments: tuple) -> dict:
    if arguments:
        raise Malformed('it has an EasyDict with arguments')
    return {}


def _listed(arguments: tuple) -> list:
    match arguments:
        case (list(values),):
            return values
    raise Malformed('it has a set that is not made of a list')
