"""The published names and layouts of StyleGAN2's and StyleGAN3's variables against jaxgen's.

    convolutions        [out, in, k, k]     ->   [k, k, in, out]
    dense               [out, in]           ->   [in, out]
    last dense layer    [out, C·4·4] of D   ->   [4·4·C, out]
    constant            [C, 4, 4]           ->   [4, 4, C]

A name is a module and a leaf. Buffers go to the collection 'stats'; filters and the user transform
have no place with us. Every rule is a bijection, so weights, and gradients too, go both ways.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

PyTree = Any
# (pattern of the published module, ours)
Rules = Sequence[tuple[str, str]]

# Published leaf: collection, our leaf.
LEAVES = {
    'affine.weight': ('params', 'affine/kernel'),
    'affine.bias': ('params', 'affine/bias'),
    'weight': ('params', 'kernel'),
    'bias': ('params', 'bias'),
    'const': ('params', 'constant'),
    'noise_strength': ('params', 'noise_scale'),
    'noise_const': ('stats', 'noise'),
    'magnitude_ema': ('stats', 'magnitude'),
    'w_avg': ('stats', 'w_avg'),
    'freqs': ('stats', 'frequencies'),
    'phases': ('stats', 'phases'),
}
DROPPED = ('resample_filter', 'up_filter', 'down_filter', 'transform')
LAST_SIDE = 4  # of the square map that D flattens

MAPPING: Rules = ((r'embed', 'label'), (r'fc(\d+)', r'layer_\1'))
STYLEGAN2: Rules = (
    (r'mapping', 'mapping'),
    (r'mapping\.embed', 'mapping/label'),
    (r'mapping\.fc(\d+)', r'mapping/layer_\1'),
    (r'(?:synthesis\.)?b4', ''),
    (r'(?:synthesis\.)?b(\d+)\.torgb', r'block_\1/to_rgb'),
    (r'(?:synthesis\.)?b(\d+)\.(conv0|conv1|skip)', r'block_\1/\2'),
)


def stylegan3_modules(num_layers: int) -> Rules:
    """Rules for a generator with so many layers before ToRGB."""
    return (
        *STYLEGAN2[:3],
        (r'(?:synthesis\.)?input', 'input'),
        (rf'(?:synthesis\.)?L{num_layers}_\d+_\d+', 'to_rgb'),
        (r'(?:synthesis\.)?L(\d+)_\d+_\d+', r'layer_\1'),
    )


def discriminator_modules(size: int) -> Rules:
    """Rules for a discriminator of `size`² images."""
    return (
        *STYLEGAN2[:3],
        (r'b4\.conv', 'final_conv'),
        (r'b4\.fc', 'final_dense'),
        (r'b4\.out', 'score'),
        (rf'b{size}\.fromrgb', 'from_rgb'),
        (r'b(\d+)\.fromrgb', r'from_rgb_\1'),
        (r'b(\d+)\.(conv0|conv1|skip)', r'block_\1/\2'),
    )


def is_dropped(name: str) -> bool:
    """Whether the variable has no place with us."""
    return name.rsplit('.', 1)[-1] in DROPPED


def place(name: str, modules: Rules) -> tuple[str, tuple[str, ...]]:
    """(collection, path as a tuple) of a published name; KeyError if there is none."""
    for leaf, (collection, ours) in LEAVES.items():
        if name != leaf and not name.endswith(f'.{leaf}'):
            continue
        module = name.removesuffix(leaf).removesuffix('.')
        if not module:
            return collection, tuple(ours.split('/'))
        for pattern, path in modules:
            if match := re.fullmatch(pattern, module):
                path = match.expand(path)
                return collection, tuple(f'{path}/{ours}'.strip('/').split('/'))
        break
    raise KeyError(name)


def to_variables(named: Mapping[str, np.ndarray], modules: Rules = ()) -> PyTree:
    """Published `{name: array}` as our `{'params': …, 'stats': …}`.

    Raises:
      KeyError: a name has no place. ValueError: two have the same.
    """
    variables: PyTree = {'params': {}, 'stats': {}}
    for name, array in named.items():
        if is_dropped(name):
            continue
        collection, (*parents, leaf) = place(name, modules)
        node = variables[collection]
        for key in parents:
            node = node.setdefault(key, {})
        if leaf in node:
            raise ValueError(f'{name} has the place of another')
        node[leaf] = to_ours(array, name)
    return variables


def to_published(
    variables: PyTree, names: Iterable[str], modules: Rules = ()
) -> dict[str, np.ndarray]:
    """Ours as published `{name: array}`, for those of `names` that have a place with us."""
    out = {}
    for name in names:
        if is_dropped(name):
            continue
        collection, path = place(name, modules)
        leaf = variables[collection]
        for key in path:
            leaf = leaf[key]
        out[name] = _to_theirs(np.asarray(leaf), name)
    return out


def published_names(variables: PyTree, published: Iterable[str], modules: Rules) -> list[str]:
    """The published name of each of our variables, by the names of the modules that have them.

    Raises:
      ValueError: one of ours is in none of these modules.
    """
    ours = {(collection, *path) for collection, tree in variables.items() for path in _paths(tree)}
    names = []
    for module in published:
        for leaf in LEAVES:
            collection, path = place(f'{module}.{leaf}', modules)
            if (collection, *path) in ours:
                ours.remove((collection, *path))
                names.append(f'{module}.{leaf}')
    if ours:
        raise ValueError(f'without a published name: {sorted(ours)}')
    return names


def to_ours(x: np.ndarray, name: str = '') -> np.ndarray:
    """A published array in our layout."""
    x = np.asarray(x)
    if name.endswith('b4.fc.weight'):
        x = x.reshape(x.shape[0], -1, LAST_SIDE, LAST_SIDE)
        return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])
    if name.endswith('const') and x.ndim == 3:
        return x.transpose(1, 2, 0)
    if not name.endswith('weight'):
        return x
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def _to_theirs(x: np.ndarray, name: str) -> np.ndarray:
    if name.endswith('b4.fc.weight'):
        x = x.reshape(LAST_SIDE, LAST_SIDE, -1, x.shape[-1])
        return x.transpose(3, 2, 0, 1).reshape(x.shape[-1], -1)
    if name.endswith('const') and x.ndim == 3:
        return x.transpose(2, 0, 1)
    if not name.endswith('weight'):
        return x
    return x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T


def _paths(tree: PyTree, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, (*path, key))
        else:
            yield (*path, key)
