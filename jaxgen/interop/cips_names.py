"""The released CIPS's parameter names and layouts against jaxgen's, name by name.

    1x1 and dense weights   (..., out, in, 1, 1)   ->   [in, out]
    3x3 weights             (out, in, 3, 3)        ->   [3, 3, in, out]
    first dense layer of D  (out, C·H·W)           ->   [H·W·C, out]
    coordinate embedding    (1, C, H, W)           ->   [H, W, C]

Every rule is a bijection, so weights, and gradients too, go both ways.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

PyTree = Any

# (pattern of the published name, path in our tree, layout)
GENERATOR = (
    (r'(?:lff\.)?ffm\.conv\.weight', 'fourier/kernel', 'dense'),
    (r'(?:lff\.)?ffm\.conv\.bias', 'fourier/bias', 'vector'),
    (r'emb\.input', 'embedding/table', 'table'),
    (r'style\.(\d+)\.weight', 'mapping/layer_{0:-1}/kernel', 'dense'),
    (r'style\.(\d+)\.bias', 'mapping/layer_{0:-1}/bias', 'vector'),
    (r'linears\.(\d+)\.skip\.0\.weight', 'block_{0:-1}/skip/kernel', 'dense'),
    (r'(.+)\.conv\.weight', '{0}/kernel', 'dense'),
    (r'(.+)\.conv\.modulation\.weight', '{0}/affine/kernel', 'dense'),
    (r'(.+)\.conv\.modulation\.bias', '{0}/affine/bias', 'vector'),
    (r'(.+)\.noise\.weight', '{0}/noise_scale', 'scalar'),
    (r'(.+)\.activate\.bias', '{0}/bias', 'vector'),
    (r'(.+)\.bias', '{0}/bias', 'row'),
)
DISCRIMINATOR = (
    (r'convs\.0\.0\.weight', 'from_rgb/kernel', 'conv'),
    (r'convs\.0\.1\.bias', 'from_rgb/bias', 'vector'),
    (r'convs\.(\d+)\.0\.weight', 'first_{0:-1}/kernel', 'conv'),
    (r'convs\.(\d+)\.1\.bias', 'first_{0:-1}/bias', 'vector'),
    (r'convs\.(\d+)\.conv1\.0\.weight', '{0:side}/conv0/kernel', 'conv'),
    (r'convs\.(\d+)\.conv1\.1\.bias', '{0:side}/conv0/bias', 'vector'),
    (r'convs\.(\d+)\.conv2\.1\.weight', '{0:side}/conv1/kernel', 'conv'),
    (r'convs\.(\d+)\.conv2\.2\.bias', '{0:side}/conv1/bias', 'vector'),
    (r'convs\.(\d+)\.skip\.1\.weight', '{0:side}/skip/kernel', 'conv'),
    (r'final_conv\.0\.weight', 'final_conv/kernel', 'conv'),
    (r'final_conv\.1\.bias', 'final_conv/bias', 'vector'),
    (r'final_linear\.0\.weight', 'final_dense/kernel', 'flattened'),
    (r'final_linear\.0\.bias', 'final_dense/bias', 'vector'),
    (r'final_linear\.1\.weight', 'score/kernel', 'dense'),
    (r'final_linear\.1\.bias', 'score/bias', 'vector'),
)
LAST_SIDE = 4  # of the square map that D flattens


def layer_name(module: str, residual: bool) -> str:
    """Path of a published styled layer or ToRGB: 'linears.3' -> 'block_1/layer_1'.

    Raises:
      KeyError: there is no such module.
    """
    if module == 'conv1' or (residual and module == 'linears.0'):
        return 'input'
    if module == 'to_rgb_last':
        return 'to_rgb'
    family, index, *inner = module.split('.')
    if family == 'to_rgbs':
        return f'block_{int(index)}/to_rgb'
    if family != 'linears':
        raise KeyError(module)
    if residual:
        return f'block_{int(index) - 1}/layer_{int(inner[0].removeprefix("conv")) - 1}'
    return f'block_{int(index) // 2}/layer_{int(index) % 2}'


def noise_modules(blocks: int, residual: bool) -> list[str]:
    """The published names of the styled layers, in the order of our noise maps and styles."""
    if residual:
        inner = [f'linears.{i}.conv{j}' for i in range(1, blocks + 1) for j in (1, 2)]
        return ['linears.0', *inner]
    return ['conv1', *(f'linears.{i}' for i in range(2 * blocks))]


class Names:
    """Translates one network.

    Args:
      rules: (pattern of the published name, path in our tree, layout), the first match counts.
      resolve: `(group, how)` to what stands for `{0}` or `{0:how}` in the path.
      drop: patterns of published names that have no place in our tree.
    """

    def __init__(
        self,
        rules: Sequence[tuple[str, str, str]],
        resolve: Callable[[str, str | None], str],
        drop: Sequence[str] = (),
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._drop = drop

    def dropped(self, name: str) -> bool:
        """Whether a published name has no place in our tree."""
        return any(re.fullmatch(pattern, name) for pattern in self._drop)

    def place(self, name: str) -> tuple[tuple[str, ...], str]:
        """(path as a tuple of keys, layout) of a published name; KeyError if there is none."""
        for pattern, path, layout in self._rules:
            if match := re.fullmatch(pattern, name):
                index = match[1] if match.groups() else ''
                path = re.sub(
                    r'\{0(?::([^}]+))?\}', lambda m, index=index: self._resolve(index, m[1]), path
                )
                return tuple(path.split('/')), layout
        raise KeyError(name)

    def to_tree(self, named: Mapping[str, np.ndarray]) -> PyTree:
        """Published `{name: array}` to our nested dictionary.

        Raises:
          KeyError: a name has no place. ValueError: two have the same.
        """
        tree: PyTree = {}
        for name, array in named.items():
            if self.dropped(name):
                continue
            (*parents, leaf), layout = self.place(name)
            node = tree
            for key in parents:
                node = node.setdefault(key, {})
            if leaf in node:
                raise ValueError(f'{name} has the place of another')
            node[leaf] = _to_ours(np.asarray(array), layout)
        return tree

    def to_published(self, tree: PyTree, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Our tree to published `{name: array}`, with the names and shapes of the arrays in `like`.

        A name without a place in our tree reads as zeros, which is its gradient.
        """
        named = {}
        for name, array in like.items():
            if self.dropped(name):
                named[name] = np.zeros(array.shape)
                continue
            path, layout = self.place(name)
            leaf = tree
            for key in path:
                leaf = leaf[key]
            named[name] = _to_published(np.asarray(leaf), layout).reshape(array.shape)
        return named


def generator_names(residual: bool, noise: bool = True) -> Names:
    """Names of a generator; without `noise` the strengths of the noise have no place."""

    def resolve(group: str, how: str | None) -> str:
        return str(int(group) - 1) if how == '-1' else layer_name(group, residual)

    return Names(GENERATOR, resolve, () if noise else (r'.+\.noise\.weight',))


def discriminator_names(size: int, first_layers: int) -> Names:
    """Names of a discriminator of `size`² images with `first_layers` extra layers in front."""

    def resolve(group: str, how: str | None) -> str:
        index = int(group) - 1
        return f'block_{size >> (index - first_layers)}' if how == 'side' else str(index)

    return Names(DISCRIMINATOR, resolve, (r'.+\.kernel',))


def _to_ours(x: np.ndarray, layout: str) -> np.ndarray:
    if layout == 'dense':
        x = x.reshape(x.shape[1:] if x.ndim == 5 else x.shape)
        return x.reshape(x.shape[:2]).T
    if layout == 'conv':
        return x.transpose(2, 3, 1, 0)
    if layout == 'flattened':
        x = x.reshape(x.shape[0], -1, LAST_SIDE, LAST_SIDE)
        return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])
    if layout == 'table':
        return x[0].transpose(1, 2, 0)
    return x.reshape(() if layout == 'scalar' else -1)


def _to_published(x: np.ndarray, layout: str) -> np.ndarray:
    """The order of the entries; the caller gives them their shape."""
    if layout == 'dense':
        return x.T
    if layout == 'conv':
        return x.transpose(3, 2, 0, 1)
    if layout == 'flattened':
        return x.reshape(LAST_SIDE, LAST_SIDE, -1, x.shape[-1]).transpose(3, 2, 0, 1)
    return x.transpose(2, 0, 1) if layout == 'table' else x
