"""Batches as a pure function of (seed, step), by grain's random access over a `Source`.

Step k of the run is global batch k: the examples are shuffled anew in each epoch and laid end to
end, so that each epoch has every example exactly once and a batch may cross from one epoch into the
next. There is no state to save: a resumed run asks for the next step.

A batch is a dict of numpy arrays: `image` float32 [B, H, W, C] in [-1, 1], as uint8 / 127.5 - 1;
`slot` int32 [B], the index of the example in the global batch; `label` int32 [B] if asked for;
`coords` float32 [B, H, W, 2] where parts of images are trained on (`data.patches`). With several
processes, process p of n has the contiguous rows p * B / n ... (p + 1) * B / n.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxgen.data.patches import Crop
from jaxgen.errors import UserError

# grain pulls in jax and orbax (two seconds), so it is imported where it is needed.

_CACHE_BYTES = 256 << 20
_BLOCK = 64
_EXAMPLES_OF_A_RUN = 1 << 48  # more than any run sees

Batch = dict[str, np.ndarray]


class Pipeline:
    """The batches of a run over one `Source`, or over any sequence of such examples.

    Args:
      source: `len`, `[i] -> {'image': uint8 [H, W, C], 'label': int}`, `name`, `image_shape`,
        `num_classes`, and optionally `__getitems__`, as `sources.Source` has them.
      batch_size: of the global batch.
      seed: decides order and flips.
      flip: mirror each example left to right with probability one half, anew in each epoch.
      label: whether batches have `label`.
      crop: `(step, slot, image) -> (part, coords)`: trains on parts of images, taken after the
        flip, which leaves coordinates alone.
      process_index, process_count: which rows of each batch are wanted.

    Raises:
      UserError: fewer examples than one batch, a batch that the processes don't divide, or `label`
        of a set without.
    """

    def __init__(
        self,
        source: Sequence,
        *,
        batch_size: int,
        seed: int,
        flip: bool = False,
        label: bool = False,
        crop: Callable[[int, int, np.ndarray], Crop] | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        _check(source, batch_size, label, process_index, process_count)
        import grain

        self.steps_per_epoch = len(source) // batch_size
        rows = batch_size // process_count
        examples = grain.MapDataset.source(_Examples(source, label)).seed(seed).shuffle()
        # Endless `repeat()` has a length that overflows in grain's batch of 1 row.
        examples = examples.repeat(1 + _EXAMPLES_OF_A_RUN // len(source))
        if flip:
            examples = examples.random_map(_flip)
        if crop is not None:
            examples = examples.map_with_index(_Cropped(crop, batch_size))
        self._batches = examples.batch(rows)[process_index::process_count]
        self._slot = process_index * rows + np.arange(rows, dtype=np.int32)

    def at(self, step: int) -> Batch:
        """This process's rows of global batch `step`."""
        return self._finish(self._batches[step])

    def iterate(self, start_step: int = 0, threads: int = 2) -> Iterator[Batch]:
        """The batches `at(start_step)`, `at(start_step + 1)`, …, read ahead in threads.

        Endless. `close()` of the iterator ends the threads, as does dropping it.
        """
        import grain

        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
        batches = iter(self._batches[start_step:].to_iter_dataset(options))
        try:
            for batch in batches:
                yield self._finish(batch)
        finally:
            batches.close()

    def _finish(self, batch: Batch) -> Batch:
        return {**batch, 'image': _normalise(batch['image']), 'slot': self._slot.copy()}


def real_images(source: Sequence, num: int, offset: int = 0, seed: int = 0) -> np.ndarray:
    """`num` images of a source, float32 [num, H, W, C] in [-1, 1], for an evaluation.

    The examples are shuffled by `seed`; `offset` skips that many of them. So two calls with the
    same seed, whose ranges don't overlap, give disjoint sets.

    Raises:
      UserError: the source has fewer than `offset + num` examples.
    """
    if offset + num > len(source):
        raise UserError(
            f"{offset + num} examples of data set '{source.name}' are wanted, it has {len(source)}"
        )
    order = np.random.default_rng(seed).permutation(len(source))[offset : offset + num]
    return _normalise(np.stack([example['image'] for example in read(source, order.tolist())]))


def in_order(
    source: Sequence, batch_size: int, *, label: bool = False
) -> Iterator[tuple[Batch, int]]:
    """Every example of a source once, in its order, for an evaluation: (batch, rows that count).

    A batch has `image`, and `label` if asked for. All have `batch_size` rows: a ragged last one is
    filled up with its first example, which does not count.
    """
    for start in range(0, len(source), batch_size):
        numbers = range(start, min(start + batch_size, len(source)))
        examples = list(read(source, numbers))
        count = len(examples)
        examples += examples[:1] * (batch_size - count)
        batch = {'image': _normalise(np.stack([example['image'] for example in examples]))}
        if label:
            batch['label'] = np.array([example['label'] for example in examples], np.int32)
        yield batch, count


class _Examples:
    """A source's examples as grain batches them; small sets stay decoded in memory.

    The memory fills in blocks, when one of a block is first read: nothing waits for the whole, and
    reading a block costs half of what its examples do one by one. Threads that meet at a block both
    read it, to the same values.
    """

    def __init__(self, source: Sequence, label: bool):
        self._source, self._label = source, label
        self._kept = None
        if len(source) * np.prod(source.image_shape) <= _CACHE_BYTES:
            self._kept = [None] * len(source)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Batch:
        if self._kept is None:
            return self._of_batch(self._source[index])
        if self._kept[index] is None:
            start = index - index % _BLOCK
            block = slice(start, min(start + _BLOCK, len(self)))
            examples = read(self._source, range(block.start, block.stop))
            self._kept[block] = [self._of_batch(example) for example in examples]
        return self._kept[index]

    def _of_batch(self, example: dict) -> Batch:
        kept = {'image': example['image']}
        if self._label:
            kept['label'] = np.int32(example['label'])
        return kept


class _Cropped:
    """Parts of examples; the index in the endless stream tells step and slot."""

    def __init__(self, crop: Callable[[int, int, np.ndarray], Crop], batch_size: int):
        self._crop, self._batch_size = crop, batch_size

    def __call__(self, index: int, example: Batch) -> Batch:
        step, slot = divmod(index, self._batch_size)
        image, coords = self._crop(step, slot, example['image'])
        return {**example, 'image': image, 'coords': coords}


def read(source: Sequence, indices: Sequence[int]) -> Sequence[dict]:
    """Several examples of a source, at once where it can."""
    if hasattr(source, '__getitems__'):
        return source.__getitems__(indices)
    return [source[i] for i in indices]


def _flip(example: Batch, rng: np.random.Generator) -> Batch:
    if rng.random() < 0.5:
        return example
    return {**example, 'image': example['image'][:, ::-1]}


def _normalise(image: np.ndarray) -> np.ndarray:
    # Without the float32 constants numpy would go through float64.
    return image / np.float32(127.5) - np.float32(1)


def _check(source, batch_size, label, process_index, process_count) -> None:
    if batch_size < 1:
        raise UserError(f'batch_size must be 1 or more, got {batch_size}')
    if not 0 <= process_index < process_count:
        raise ValueError(f'process_index must be in [0, {process_count}), got {process_index}')
    if batch_size % process_count:
        raise UserError(
            f'batch_size must be a multiple of the {process_count} processes, got {batch_size}'
        )
    if len(source) < batch_size:
        raise UserError(
            f"batch_size must be at most the {len(source)} examples of data set '{source.name}', "
            f'got {batch_size}'
        )
    if label and not source.num_classes:
        raise UserError(f"data.label must be False for data set '{source.name}': it has no labels")
