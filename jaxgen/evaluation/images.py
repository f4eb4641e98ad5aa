"""Where the images of an evaluation come from: a model, or a data set or folder.

Either way a device makes its own rows of a batch from small arguments, by a pure function, so that
what looks at them can be compiled with it. Values are whole numbers 0…255 in float32, as in a file.
"""

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.data.pipeline import read
from jaxgen.errors import UserError
from jaxgen.evaluation.collect import fingerprint, tree_digest
from jaxgen.objectives.sampling import image_keys, sample_images
from jaxgen.training.restore import LikelihoodRun, Run

PyTree = Any

PIXELS_AT_ONCE = 2**20  # on a device, and at most this many images
IMAGES_AT_ONCE = 16


class Images(NamedTuple):
    """A set of images, or as many as wanted.

    Attributes:
      name: for messages.
      fingerprint: of all that the images are a function of.
      available: how many there are; None: any number.
      shape: (H, W, C).
      constants: what every device has whole.
      arguments: from a start to the arguments of a batch, rows over the mesh.
      make: `(constants, arguments) -> float32 [B, H, W, C]`, whole numbers 0…255.
      mesh, batch: images at a time, over all devices.
    """

    name: str
    fingerprint: str
    available: int | None
    shape: tuple[int, int, int]
    constants: PyTree
    arguments: Callable[[int], PyTree]
    make: Callable[[PyTree, PyTree], jax.Array]
    mesh: Mesh
    batch: int


def of_source(source: Sequence, mesh: Mesh, *, most: int | None = None, batch: int = 0) -> Images:
    """The images of a data set or folder, each once, in its order; of more than `most` some."""
    order = np.arange(len(source))
    if most is not None and len(order) > most:
        order = np.sort(np.random.default_rng(0).permutation(len(order))[:most])
    batch = batch or batch_size(source.image_shape[:2], mesh)
    rows = Rows(source, order, mesh, batch)
    return Images(
        name=source.name,
        fingerprint=source_fingerprint(source),
        available=len(order),
        shape=tuple(source.image_shape),
        constants=(),
        arguments=lambda start: rows.at(start)['image'],
        make=lambda constants, image: image.astype(jnp.float32),
        mesh=mesh,
        batch=batch,
    )


def of_model(
    run: Run | LikelihoodRun, *, seed: int, labels: Sequence | None = None, batch: int = 0
) -> Images:
    """What a model draws: image i of a seed, truncation 1, labels drawn from the data set's.

    Args:
      labels: the data set, for a model with classes; without one each class is as likely.
    """
    height, width = run.frame
    classes = run.generator.num_classes if hasattr(run.generator, 'num_classes') else 0
    window = shown_columns(run)
    generator = with_new_noise(run.generator)
    mesh, batch = run.mesh, batch or batch_size(run.frame, run.mesh)
    chosen = Labels(labels, classes, seed)

    def make(variables: PyTree, arguments: PyTree) -> jax.Array:
        slot, label = arguments
        keys = image_keys(seed, slot)
        if isinstance(run, LikelihoodRun):
            images = run.objective.sample(variables, keys, label)
        else:
            images = sample_images(generator, variables, keys, label, size=run.frame)
        left = (width - window) // 2
        return to_bytes(images[:, :, left : left + window])

    channels = jax.eval_shape(
        make, run.variables, chosen.shapes(jax.ShapeDtypeStruct((1,), np.int32))
    ).shape[-1]
    return Images(
        name=run.source,
        fingerprint=fingerprint(
            tree_digest(run.variables), repr(generator), run.frame, seed, *chosen.parts()
        ),
        available=None,
        shape=(height, window, channels),
        constants=run.variables,
        arguments=lambda start: chosen.arguments(start, batch, mesh),
        make=make,
        mesh=mesh,
        batch=batch,
    )


class Labels:
    """Slots, and the label of each: that of an example of the data set drawn at random."""

    def __init__(self, source: Sequence | None, classes: int, seed: int) -> None:
        self._classes, self._seed, self._table = classes, seed, None
        if classes and source is not None:
            if getattr(source, 'num_classes', 0) != classes:
                raise UserError(
                    f'the model has {classes} classes, data set {source.name!r} has '
                    f'{getattr(source, "num_classes", 0)}'
                )
            self._table = np.asarray(source.labels(), np.int32)

    def parts(self) -> tuple[object, ...]:
        """What the labels are a function of."""
        return (self._classes, b'' if self._table is None else self._table.tobytes())

    def at(self, slots: np.ndarray) -> np.ndarray | None:
        """Labels of slots; None for a model without classes."""
        if not self._classes:
            return None
        draws = [np.random.default_rng([self._seed, 1, slot]).random() for slot in slots]
        if self._table is None:
            return np.asarray(np.array(draws) * self._classes, np.int32)
        return self._table[np.asarray(np.array(draws) * len(self._table), np.int64)]

    def arguments(self, start: int, batch: int, mesh: Mesh) -> tuple[jax.Array, jax.Array | None]:
        """(slots, labels) of a batch, over the mesh."""
        slots = np.arange(start, start + batch, dtype=np.int32)
        return place((slots, self.at(slots)), mesh)

    def shapes(self, slots: jax.ShapeDtypeStruct) -> tuple:
        """Shapes of `arguments`."""
        return slots, slots if self._classes else None


class Rows:
    """Batches of a data set in order, the next one read while a device works on this one.

    Each process reads the rows of its own devices. Rows past the end repeat the last example.
    """

    def __init__(
        self, source: Sequence, order: np.ndarray, mesh: Mesh, batch: int, *, label: bool = False
    ) -> None:
        self._source, self._order, self._batch, self._label = source, order, batch, label
        self._rows = rows_over(mesh)
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._ahead: dict[int, concurrent.futures.Future] = {}

    def at(self, start: int) -> dict[str, jax.Array]:
        """uint8 `image [B, H, W, C]` from `start` on, and `label [B]` if asked for."""
        ready = self._ahead.pop(start, None)
        batch = ready.result() if ready else self._read(start)
        if start + self._batch < len(self._order):
            self._ahead = {start + self._batch: self._pool.submit(self._read, start + self._batch)}
        return batch

    def _read(self, start: int) -> dict[str, jax.Array]:
        places = np.minimum(np.arange(start, start + self._batch), len(self._order) - 1)
        numbers = self._order[places]
        known: dict[tuple, list] = {}

        def examples(index: tuple) -> list:
            at = index[0].indices(self._batch)
            if at not in known:
                known[at] = read(self._source, numbers[slice(*at)].tolist())
            return known[at]

        def array(name: str, shape: tuple, dtype: type) -> jax.Array:
            return jax.make_array_from_callback(
                (self._batch, *shape),
                self._rows,
                lambda index: np.stack([np.asarray(e[name], dtype) for e in examples(index)]),
            )

        found = {'image': array('image', tuple(self._source.image_shape), np.uint8)}
        if self._label:
            found['label'] = array('label', (), np.int32)
        return found


def source_fingerprint(source: Sequence) -> str:
    """Of the images of a data set or folder, in their order."""
    parts: Iterator[bytes] = source.fingerprint_parts()
    return fingerprint(parts, tuple(source.image_shape), len(source))


def batch_size(frame: tuple[int, int], mesh: Mesh) -> int:
    """Images at a time over all devices, by their size."""
    height, width = frame
    return mesh.size * max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def with_new_noise(generator: nn.Module) -> nn.Module:
    """The generator as it is measured: a StyleGAN2 with fixed noise draws it anew."""
    if getattr(generator, 'noise', 'none') == 'const' and not hasattr(generator, 'points'):
        return generator.clone(noise='random')
    return generator


def shown_columns(run: Run | LikelihoodRun) -> int:
    """How many of a picture's columns are compared: a ring is wider than the images it learns."""
    if getattr(run.generator, 'cylindrical', False) and run.config is not None:
        return run.config.data.patch or run.frame[1]
    return run.frame[1]


def to_bytes(images: jax.Array) -> jax.Array:
    """[-1, 1] to 0…255, rounded, float32."""
    return jnp.clip(jnp.rint(images.astype(jnp.float32) * 127.5 + 127.5), 0, 255)


def from_bytes(images: jax.Array) -> jax.Array:
    """0…255 to [-1, 1]."""
    return images / 127.5 - 1


def rows_over(mesh: Mesh) -> NamedSharding:
    """Rows over all devices."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def place(arrays: PyTree, mesh: Mesh) -> PyTree:
    """Arrays that every process has whole, their rows over the mesh."""
    rows = rows_over(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, rows, lambda index: x[index]), arrays
    )


def over_rows(function: Callable, mesh: Mesh) -> Callable:
    """`function(constants, arguments)` compiled, each device with its own rows of the arguments."""
    rows = PartitionSpec(mesh.axis_names)
    return jax.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(PartitionSpec(), rows),
            out_specs=rows,
            check_vma=False,
        )
    )
