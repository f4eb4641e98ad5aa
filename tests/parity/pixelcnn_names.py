"""The stored PixelCNN parameter names against jaxgen's: the same tree, other words.

    block0/v/w            ->   block_0/v/kernel
    head1/w  (p, F)       ->   head/first/kernel  [1, 1, p, F]

Entries keep their order, so a shape is changed by `reshape`.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

RENAMED = (
    (r'(block|layer)(\d+)', r'\1_\2'),
    (r'head1', 'head/first'),
    (r'head2', 'head/second'),
    (r'l_is', 'lstm/left_input'),
    (r'l_ss', 'lstm/left_state'),
    (r'r_is', 'lstm/right_input'),
    (r'r_ss', 'lstm/right_state'),
    (r'is', 'lstm/input'),
    (r'ss', 'lstm/state'),
    (r'w', 'kernel'),
    (r'b', 'bias'),
)


def path_of(name):
    """Our path, a tuple of keys, of a stored name."""
    parts = []
    for part in name.split('/'):
        for pattern, ours in RENAMED:
            if re.fullmatch(pattern, part):
                part = re.sub(pattern, ours, part)
                break
        parts += part.split('/')
    return tuple(parts)


def parameters(case, prefix, model, image, **condition):
    """The stored parameters under `prefix` as a tree of `model`; they must be all of it."""
    like = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros(image, jnp.int32), **condition), jax.random.key(0)
    )['params']
    return fill(case, prefix, like)


def fill(case, prefix, like):
    """The stored arrays under `prefix` in the tree and the shapes of `like`."""
    shapes = {path: leaf.shape for path, leaf in flat(like).items()}
    tree = {}
    for key in case.keys(re.escape(prefix) + '/.+'):
        path = path_of(key.removeprefix(prefix + '/'))
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = case[key].reshape(shapes.pop(path))
    assert not shapes, f'{prefix}: not stored: {sorted(shapes)}'
    return tree


def flat(tree, path=()):
    """`{path: leaf}` of nested dictionaries."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {k: v for name, part in tree.items() for k, v in flat(part, (*path, name)).items()}


def check_gradients(case, prefix, tree):
    """Compares a tree of gradients with all stored arrays under `prefix`."""
    ours = flat(tree)
    keys = case.keys(re.escape(prefix) + '/.+')
    assert {path_of(key.removeprefix(prefix + '/')) for key in keys} == set(ours)
    for key in keys:
        gradient = np.asarray(ours[path_of(key.removeprefix(prefix + '/'))])
        case.check(key, gradient.reshape(case[key].shape))


def check_masks(case, prefix, model, params):
    """The stored mask of every layer under `prefix` is that of the model's layer."""
    bound = model.bind({'params': params})
    for key in case.keys(re.escape(prefix) + '/.+'):
        layer = bound
        for part in path_of(key.removeprefix(prefix + '/') + '/w')[:-1]:
            numbered = re.fullmatch(r'(?:block|layer)_(\d+)', part)
            if numbered:
                layer = layer.stack[int(numbered[1])]
            else:
                layer = layer.head_layers if part == 'head' else getattr(layer, part)
        case.check(key, layer.mask.reshape(case[key].shape))
