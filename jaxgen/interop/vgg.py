"""The published VGG16 (torchvision's vgg16-397923af.pth) to `metrics.vgg.VGG16Features`.

features.N.weight, .bias        convolutions
classifier.0, classifier.3      fully connected; the first reads `[512, 7, 7]`, ours `[7, 7, 512]`
classifier.6                    ImageNet's classes, left out
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.interop import state_dicts
from jaxgen.interop.state_dicts import Entry
from jaxgen.metrics import vgg

PyTree = Any

# Where the convolutions stand in torchvision's `features`.
LAYERS: Mapping[str, int] = dict(
    zip(
        (f'conv{i + 1}_{j + 1}' for i, (_, n) in enumerate(vgg.BLOCKS) for j in range(n)),
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        strict=True,
    )
)
CLASSES = 'classifier.6.'
DENSE: Mapping[str, int] = {'fc6': 0, 'fc7': 3}


def features_from_torch(state_dict: Mapping[str, np.ndarray]) -> tuple[vgg.VGG16Features, PyTree]:
    """The network of precision and recall, and its variables {'params'} in float32.

    Raises:
      UserError: names that are missing or left over, other shapes, values that aren't finite.
    """
    model = vgg.VGG16Features()
    tree = state_dicts.leaves(model, (1, vgg.SIDE, vgg.SIDE, 3))
    entries = {}
    for path, leaf in tree.items():
        if path[0] == 'trunk':
            place = f'features.{LAYERS[path[1]]}'
        else:
            place = f'classifier.{DENSE[path[0]]}'
        entries[path] = state_dicts.torch_layer(place, path[-1], leaf.shape)
    side = vgg.SIDE // 2 ** len(vgg.BLOCKS)
    name, shape, *_ = entries['fc6', 'kernel']
    # Flattened channel by channel there, pixel by pixel here.
    entries['fc6', 'kernel'] = Entry(
        name, shape, (2, 3, 1, 0), (vgg.FEATURES, vgg.WIDTHS[-1], side, side)
    )
    used = {name: array for name, array in state_dict.items() if not str(name).startswith(CLASSES)}
    return model, {'params': state_dicts.to_tree('VGG16', used, entries, tree)}
