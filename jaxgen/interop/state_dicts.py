"""Published state dicts: finite floats of the names and shapes that we know, in our layout."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxgen.errors import UserError
from jaxgen.interop.unpickle import quoted

PyTree = Any
Path = tuple[str, ...]
Shapes = Mapping[str, tuple[int, ...]]
Leaves = Mapping[Path, jax.ShapeDtypeStruct]

LISTED = 6  # names in a message


class Entry(NamedTuple):
    """Where a parameter stands in a published file.

    Attributes:
      name, shape: the published ones.
      axes: the order in which the published axes become ours; None as they are.
      view: what the published array is taken for before that; None its shape.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None
    view: tuple[int, ...] | None = None


def floats(what: str, data: Any) -> dict[str, np.ndarray]:
    """The arrays of a state dict in float32.

    Raises:
      UserError: `data` is no dictionary of finite float arrays; `what` says what it should be.
    """
    if not isinstance(data, Mapping):
        raise UserError(f'{what} must be a state dict, got a {type(data).__name__}')
    arrays = {}
    for name, array in data.items():
        if not isinstance(name, str):
            raise UserError(f'{what} must have names as keys, got a {type(name).__name__}')
        if not isinstance(array, np.ndarray) or not jnp.issubdtype(array.dtype, jnp.floating):
            kind = getattr(array, 'dtype', type(array).__name__)
            raise UserError(f'{quoted(name)} of {what} must be an array of floats, got {kind}')
        with np.errstate(over='ignore'):
            arrays[name] = array.astype(np.float32, copy=False)
        if not np.isfinite(arrays[name]).all():
            raise UserError(f'{quoted(name)} of {what} has values that are not finite')
    return arrays


def compare(what: str, arrays: Mapping[str, np.ndarray], shapes: Shapes) -> None:
    """Compares names and shapes.

    Raises:
      UserError: it lists what is missing, unused, or of another shape.
    """
    other = [name for name in shapes if name in arrays and arrays[name].shape != shapes[name]]
    wrong = {
        'missing': [name for name in shapes if name not in arrays],
        'unused': [quoted(name)[1:-1] for name in arrays if name not in shapes],
        'of another shape': [
            f'{name} {arrays[name].shape} instead of {shapes[name]}' for name in other
        ],
    }
    lists = []
    for kind, names in wrong.items():
        if names:
            more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
            lists.append(f'{kind}: {", ".join(names[:LISTED])}{more}')
    if lists:
        raise UserError(f'{what} does not fit: {"; ".join(lists)}')


def torch_layer(place: str, part: str, shape: tuple[int, ...]) -> Entry:
    """PyTorch's convolution or dense layer at a place: its 'kernel' or 'bias' of our `shape`."""
    if part == 'bias':
        return Entry(f'{place}.bias', shape)
    *kernel, inputs, outputs = shape
    axes = (*range(2, len(shape)), 1, 0)
    return Entry(f'{place}.weight', (outputs, inputs, *kernel), axes=axes)


def to_tree(what: str, data: Any, entries: Mapping[Path, Entry], tree: Leaves) -> PyTree:
    """The parameters of a state dict: all `entries`, by their path, and nothing else.

    Raises:
      UserError: as `floats` and `compare`.
    """
    arrays = floats(what, data)
    compare(what, arrays, {entry.name: entry.shape for entry in entries.values()})
    params = {}
    for path, entry in entries.items():
        array = arrays[entry.name].reshape(entry.view or entry.shape)
        if entry.axes is not None:
            array = array.transpose(entry.axes)
        params[path] = array.reshape(tree[path].shape)
    return unflatten_dict(params)


def leaves(module: nn.Module, *shapes: tuple[int, ...]) -> Leaves:
    """A module's parameters by path, without their values, for inputs of these shapes."""
    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    key = jax.eval_shape(lambda: jax.random.key(0))
    return flatten_dict(jax.eval_shape(module.init, key, *inputs)['params'])
