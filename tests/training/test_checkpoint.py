"""Checkpoints: what is kept, and what happens to damaged ones."""

import shutil

import jax
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training.checkpoint import Checkpoints, newest_state

SHARDING = JitPlan(make_mesh()).state_sharding()

PARAMS = {'a': (64, 32), 'b': (5,)}


def state(step):
    """Random numbers, which do not compress, as weights don't."""
    rng = np.random.default_rng(step)
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in PARAMS.items()}
    return {'step': np.int32(step), 'params': params}


SHAPES = jax.eval_shape(lambda: state(0))


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A folder with the checkpoints of steps 1, 2 and 3."""
    folder = tmp_path_factory.mktemp('written') / 'checkpoints'
    checkpoints = Checkpoints(folder)
    for step in (1, 2, 3):
        checkpoints.save(step, jax.device_put(state(step), SHARDING), {'note': step})
    checkpoints.close()
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / 'checkpoints')


def restore(folder):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore_latest(SHAPES, SHARDING)
    finally:
        checkpoints.close()


def assert_is(found, step):
    assert found[0] == step
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(state(step)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.sharding == SHARDING


def files(folder):
    """The files of a checkpoint's state."""
    return sorted(path for path in (folder / 'state').rglob('*') if path.is_file())


def truncate(folder):
    for path in files(folder / '3'):
        if path.parent.name == 'd':
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill_with_garbage(folder):
    for path in files(folder / '3'):
        if path.parent.name == 'd':
            path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def delete_data(folder):
    shutil.rmtree(folder / '3' / 'state' / 'd')


def delete_metadata(folder):
    for name in ('_METADATA', '_sharding', 'manifest.ocdbt'):
        (folder / '3' / 'state' / name).unlink()


def delete_state(folder):
    shutil.rmtree(folder / '3' / 'state')


def empty_every_file(folder):
    for path in files(folder / '3'):
        path.write_bytes(b'')


DAMAGES = (
    truncate,
    fill_with_garbage,
    delete_data,
    delete_metadata,
    delete_state,
    empty_every_file,
)


@pytest.mark.parametrize('damage', DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_set_aside_and_the_one_before_it_used(
    folder, capsys, damage
):
    damage(folder)
    assert_is(restore(folder), 2)
    (line,) = capsys.readouterr().out.splitlines()
    said = f'checkpoint {folder / "3"} is damaged and was moved to {folder}-damaged'
    assert line.startswith(said)
    assert not (folder / '3').exists()
    assert (folder.with_name('checkpoints-damaged') / '3').is_dir()
    assert_is(restore(folder), 2)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('damage', DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_that_was_asked_for_is_one_line_and_stays(folder, damage):
    damage(folder)
    with pytest.raises(UserError, match=r'checkpoints/3 is damaged.*\[1, 2, 3\]') as error:
        newest_state(folder.parent, SHAPES, SHARDING, step=3)
    assert '\n' not in str(error.value)
    assert_is(newest_state(folder.parent, SHAPES, SHARDING, step=2), 2)
    assert (folder / '3').is_dir()


def test_whichever_file_is_cut_short_no_wrong_number_is_restored(written, tmp_path):
    names = [path.relative_to(written) for path in files(written / '3')]
    assert len(names) > 5
    restored = []
    for i, name in enumerate(names):
        folder = shutil.copytree(written, tmp_path / str(i) / 'checkpoints')
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
        found = restore(folder)
        assert_is(found, found[0])
        restored.append(found[0])
    # Not every file is needed, but some are.
    assert set(restored) >= {2}


def test_after_a_damaged_checkpoint_its_step_can_be_saved_again(folder):
    truncate(folder)
    checkpoints = Checkpoints(folder)
    checkpoints.restore_latest(SHAPES, SHARDING)
    checkpoints.save(3, jax.device_put(state(3), SHARDING), {})
    checkpoints.close()
    assert_is(restore(folder), 3)


def test_a_step_that_is_damaged_twice_is_set_aside_twice(folder, written):
    for _ in range(2):
        truncate(folder)
        assert_is(restore(folder), 2)
        shutil.copytree(written / '3', folder / '3')
    assert len(list(folder.with_name('checkpoints-damaged').iterdir())) == 2


def test_where_none_can_be_read_nothing_starts_anew_in_silence(folder):
    for step in (1, 2, 3):
        shutil.rmtree(folder / str(step) / 'state')
    with pytest.raises(UserError, match=r'none of the checkpoints \[1, 2, 3\] of .* can be read'):
        restore(folder)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert restore(tmp_path / 'new') is None


def test_what_a_killed_process_left_half_written_is_not_a_checkpoint(folder):
    (folder / '3').rename(folder / '3.orbax-checkpoint-tmp')
    assert_is(restore(folder), 2)


def test_a_checkpoint_of_another_model_is_an_error_and_is_left_alone(folder):
    checkpoints = Checkpoints(folder)
    for name, size, message in (
        ('c', 2, r'another model: params/c is absent there and \(2,\) here'),
        ('b', 6, r'another model: params/b is \(5,\) there and \(6,\) here'),
    ):
        params = SHAPES['params'] | {name: jax.ShapeDtypeStruct((size,), np.float32)}
        with pytest.raises(UserError, match=message):
            checkpoints.restore_latest({**SHAPES, 'params': params}, SHARDING)
    assert checkpoints.steps() == [1, 2, 3]
    checkpoints.close()
    assert_is(restore(folder), 3)


def test_the_newest_few_and_every_nth_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, keep_period=4)
    for step in range(1, 8):
        checkpoints.save(step, jax.device_put(state(step), SHARDING), {})
    checkpoints.wait()
    assert checkpoints.steps() == [4, 6, 7]
    checkpoints.close()


def test_a_step_is_saved_once(folder):
    checkpoints = Checkpoints(folder)
    checkpoints.save(3, jax.device_put(state(99), SHARDING), {})
    checkpoints.close()
    assert_is(restore(folder), 3)


def test_whichever_byte_of_the_data_is_flipped_no_wrong_number_is_restored(written, tmp_path):
    data = [path for path in files(written / '3') if path.parent.name == 'd']
    rng, found = np.random.default_rng(0), set()
    for i in range(24):
        folder = shutil.copytree(written, tmp_path / str(i) / 'checkpoints')
        path = folder / data[i % len(data)].relative_to(written)
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(content))
        step, restored = restore(folder)
        assert_is((step, restored), step)
        found.add(step)
    assert 2 in found
