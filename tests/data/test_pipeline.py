"""A batch is a pure function of (seed, step); an epoch has every example once."""

import threading

import numpy as np
import pytest

from jaxgen.data import pipeline
from jaxgen.data.pipeline import Pipeline, real_images
from jaxgen.errors import UserError


class Numbered:
    """`count` examples; the first pixel tells which one an image is, the first column a mirror."""

    name, image_shape = 'numbered', (4, 5, 3)

    def __init__(self, count=50, num_classes=3):
        self.num_classes = num_classes
        self._images = np.random.default_rng(7).integers(
            0, 256, (count, *self.image_shape), np.uint8
        )
        self._images[:, 0, [0, -1], 0] = np.arange(count, dtype=np.uint8)[:, None]
        self._images[:, 1, 0], self._images[:, 1, -1] = 0, 255

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        example = {'image': self._images[index].copy()}
        if self.num_classes:
            example['label'] = index % self.num_classes
        return example


def _uint8(batch):
    return np.rint((batch['image'] + 1) * 127.5).astype(np.uint8)


def _numbers(batch):
    return _uint8(batch)[:, 0, 0, 0].tolist()


def _mirrored(batch):
    return _uint8(batch)[:, 1, 0, 0] == 255


def _assert_equal(a, b):
    assert sorted(a) == sorted(b)
    for key in a:
        assert a[key].dtype == b[key].dtype
        np.testing.assert_array_equal(a[key], b[key])


def test_a_batch_has_the_promised_arrays():
    batch = Pipeline(Numbered(), batch_size=8, seed=0, label=True).at(3)
    assert sorted(batch) == ['image', 'label', 'slot']
    assert batch['image'].shape == (8, 4, 5, 3)
    assert batch['image'].dtype == np.float32
    assert batch['label'].dtype == batch['slot'].dtype == np.int32
    np.testing.assert_array_equal(batch['slot'], np.arange(8))
    assert batch['label'].tolist() == [n % 3 for n in _numbers(batch)]
    assert sorted(Pipeline(Numbered(), batch_size=8, seed=0).at(3)) == ['image', 'slot']


def test_images_are_normalised_exactly():
    source = Numbered()
    batch = Pipeline(source, batch_size=8, seed=0).at(0)
    for image, number in zip(batch['image'], _numbers(batch), strict=True):
        wanted = source[number]['image'].astype(np.float32) / np.float32(127.5) - np.float32(1)
        np.testing.assert_array_equal(image, wanted)
    assert (batch['image'].min(), batch['image'].max()) == (-1, 1)


@pytest.mark.parametrize('step', [0, 1, 17, 1_000_000])
def test_a_batch_depends_on_seed_and_step_only(step):
    first = Pipeline(Numbered(), batch_size=8, seed=5, flip=True, label=True)
    for other_step in (3, 0, 40):
        first.at(other_step)
    second = Pipeline(Numbered(), batch_size=8, seed=5, flip=True, label=True)
    _assert_equal(first.at(step), second.at(step))
    other_seed = Pipeline(Numbered(), batch_size=8, seed=6, flip=True, label=True)
    assert _numbers(first.at(step)) != _numbers(other_seed.at(step))


def test_each_epoch_has_every_example_once_in_a_new_order():
    data = Pipeline(Numbered(50), batch_size=8, seed=1)  # 8 doesn't divide 50
    numbers = [n for step in range(19) for n in _numbers(data.at(step))][:150]
    epochs = [numbers[:50], numbers[50:100], numbers[100:]]
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(50))
    assert data.steps_per_epoch == 6


@pytest.mark.parametrize('count', [2, 4, 8])
@pytest.mark.parametrize('step', [0, 6, 1_000_000])
def test_the_slices_of_the_processes_make_up_the_global_batch(count, step):
    def make(index, count):
        return Pipeline(
            Numbered(), batch_size=8, seed=2, flip=True, label=True,
            process_index=index, process_count=count,
        )  # fmt: skip

    slices = [make(index, count).at(step) for index in range(count)]
    joined = {key: np.concatenate([s[key] for s in slices]) for key in slices[0]}
    _assert_equal(joined, make(0, 1).at(step))


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_iterating_gives_the_same_batches_in_order(threads):
    data = Pipeline(
        Numbered(), batch_size=8, seed=3, flip=True, label=True, process_index=1, process_count=2
    )
    batches = data.iterate(11, threads=threads)
    for step in range(11, 40):
        _assert_equal(next(batches), data.at(step))
    batches.close()


def test_closing_an_iterator_ends_its_threads():
    before = set(threading.enumerate())
    batches = Pipeline(Numbered(), batch_size=8, seed=0).iterate(0, threads=3)
    next(batches)
    started = set(threading.enumerate()) - before
    assert started
    batches.close()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_flips_mirror_half_of_the_examples_and_change_nothing_else():
    source = Numbered()
    flipped = Pipeline(source, batch_size=10, seed=4, flip=True)
    plain = Pipeline(source, batch_size=10, seed=4)
    mirrored = []
    for step in range(40):
        a, b = flipped.at(step), plain.at(step)
        mirror = _mirrored(a)
        assert not _mirrored(b).any()
        wanted = np.where(mirror[:, None, None, None], b['image'][:, :, ::-1], b['image'])
        np.testing.assert_array_equal(a['image'], wanted)
        mirrored.append(mirror)
    assert 150 < np.sum(mirrored) < 250


def test_an_example_is_mirrored_anew_in_each_epoch():
    data = Pipeline(Numbered(50), batch_size=10, seed=4, flip=True)
    epochs = []
    for epoch in range(2):
        steps = [data.at(step) for step in range(5 * epoch, 5 * epoch + 5)]
        epochs.append({n: m for b in steps for n, m in zip(_numbers(b), _mirrored(b), strict=True)})
    assert epochs[0] != epochs[1]


class Counted(Numbered):
    """Counts how often each example is read."""

    def __init__(self, count):
        super().__init__(count)
        self.reads = np.zeros(count, int)

    def __getitem__(self, index):
        self.reads[index] += 1
        return super().__getitem__(index)


class CountedSeveral(Counted):
    def __getitems__(self, indices):
        return [self[i] for i in indices]


@pytest.mark.parametrize('kind', [Counted, CountedSeveral])
@pytest.mark.parametrize('count', [50, 64, 150])
def test_a_small_set_is_decoded_once_and_stays_the_same(monkeypatch, count, kind):
    source = kind(count)
    kept = Pipeline(source, batch_size=10, seed=5, flip=True, label=True)
    monkeypatch.setattr(pipeline, '_CACHE_BYTES', 0)
    read = Pipeline(Numbered(count), batch_size=10, seed=5, flip=True, label=True)
    for step in range(count // 5):
        _assert_equal(kept.at(step), read.at(step))
    np.testing.assert_array_equal(source.reads, 1)


def test_a_large_set_is_not_kept_in_memory(monkeypatch):
    source = CountedSeveral(50)
    monkeypatch.setattr(pipeline, '_CACHE_BYTES', 50 * 4 * 5 * 3 - 1)
    data = Pipeline(source, batch_size=10, seed=0)
    for step in range(15):
        data.at(step)
    np.testing.assert_array_equal(source.reads, 3)


def test_writing_into_a_batch_changes_no_later_one():
    data = Pipeline(Numbered(), batch_size=8, seed=0, label=True)
    before = data.at(0)
    wanted = {key: value.copy() for key, value in before.items()}
    for value in before.values():
        value[...] = 0
    _assert_equal(data.at(0), wanted)


@pytest.mark.parametrize(
    ('source', 'options', 'message'),
    [
        (Numbered(7), {}, "at most the 7 examples of data set 'numbered', got 8"),
        (Numbered(), {'batch_size': 0}, 'batch_size must be 1 or more, got 0'),
        (Numbered(), {'process_count': 3}, 'a multiple of the 3 processes, got 8'),
        (Numbered(num_classes=0), {'label': True}, "data set 'numbered'.* no labels"),
    ],
)
def test_a_mistake_of_the_users_is_one_line_with_the_value(source, options, message):
    with pytest.raises(UserError, match=message) as error:
        Pipeline(source, **{'batch_size': 8, 'seed': 0} | options)
    assert '\n' not in str(error.value)


def test_real_images_of_ranges_that_do_not_overlap_are_disjoint():
    source = Numbered(50)
    a, b = real_images(source, 20, seed=1), real_images(source, 30, offset=20, seed=1)
    assert a.dtype == np.float32
    assert a.shape == (20, 4, 5, 3)
    assert sorted(_numbers({'image': a}) + _numbers({'image': b})) == list(range(50))
    np.testing.assert_array_equal(a, real_images(source, 20, seed=1))
    assert _numbers({'image': a}) != _numbers({'image': real_images(source, 20, seed=2)})
    for image, number in zip(a, _numbers({'image': a}), strict=True):
        np.testing.assert_array_equal(_uint8({'image': image}), source[number]['image'])


def test_more_real_images_than_there_are_is_a_mistake_of_the_users():
    with pytest.raises(UserError, match="51 examples of data set 'numbered' are wanted, it has 50"):
        real_images(Numbered(50), 31, offset=20)
