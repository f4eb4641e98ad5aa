"""A run that starts from the weights of another."""

import jax
import numpy as np
import pytest

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.interop import imported
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training import warm_start
from jaxgen.training.restore import restore
from tests import tiny
from tests.fork_server import ROOT
from tests.test_bad_input import assert_one_line

LARGE = dict(data__size=8, data__patch=4)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A run at 4² whose state is random."""
    return tiny.make_run(tmp_path_factory.mktemp('start') / 'small')


@pytest.fixture(scope='module')
def plan():
    return JitPlan(make_mesh())


def started(plan, folder, **fields):
    """(state before, state after, line) of a run that starts from `folder`."""
    config = tiny.config(init_from=str(folder), **fields)
    objective = tasks.make_objective(config, plan.layout)
    state = plan.compile_init(objective.init_state)(jax.random.key(0))
    before = jax.device_get(state)
    state, line = warm_start.warm_start(state, config, plan)
    return before, state, line


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_larger_images_keep_the_embedding_and_draw_the_smaller_picture(plan, small):
    before, state, line = started(plan, small, **LARGE)
    count = len(jax.tree.leaves(state.discriminator.params))
    assert line.endswith(f'the generator, {count} of {count} arrays of the discriminator')
    assert state.step == 0
    average, current = restore(small), restore(small, ema=False)
    assert_equal(state.ema, average.variables['params'])
    assert_equal(state.generator.params, current.variables['params'])
    assert_equal(state.generator.stats, current.variables['stats'])
    assert_equal(state.generator.optimizer, before.generator.optimizer)
    assert_equal(state.discriminator.optimizer, before.discriminator.optimizer)
    # No buffer stands twice in the state: a step could not reuse it otherwise.
    pointers = [
        x.addressable_shards[0].data.unsafe_buffer_pointer() for x in jax.tree.leaves(state)
    ]
    assert len(set(pointers)) == len(pointers)


def test_blocks_that_larger_images_need_are_new(plan, small):
    before, state, line = started(plan, small, data__size=8, discriminator__channels=(4, 4))
    taken = jax.tree.map(
        lambda x, y: bool(np.array_equal(x, y)),
        state.discriminator.params,
        before.discriminator.params,
    )
    flat = {
        jax.tree_util.keystr(p, simple=True, separator='/'): v
        for p, v in jax.tree_util.tree_leaves_with_path(taken)
    }
    new = {name for name, same in flat.items() if same}
    assert new == {name for name in flat if name.startswith('block_8')}
    assert f'{len(flat) - len(new)} of {len(flat)} arrays' in line


def test_an_embedding_on_another_grid_is_interpolated(plan, small):
    _, state, _ = started(plan, small, model__size=7, discriminator__channels=(4,), data__size=4)
    old = restore(small).variables['params']['embedding']['table']
    new = state.ema['embedding']['table']
    assert new.shape == (7, 7, 4)
    # Both grids have their ends at -1 and 1, so every other entry lies on one of the old.
    np.testing.assert_allclose(new[::2, ::2], old, atol=1e-6)
    np.testing.assert_allclose(new[::2, 1], (new[::2, 0] + new[::2, 2]) / 2, atol=1e-6)


def test_converted_weights_are_a_start_too(plan, tmp_path):
    published = imported.read_published(ROOT / 'tests/golden/cips/pt/train_skip8.pt')
    imported.save(tmp_path, published)
    own = ('size', 'features', 'first_width', 'block_widths', 'latent', 'style', 'mapping_layers')
    fields = {f'model__{name}': getattr(published.generator, name) for name in own}
    fields |= dict(model__noise='random', discriminator__channels=(4, 4))
    _, state, line = started(plan, tmp_path, **fields)
    assert 'starting from' in line
    assert_equal(state.ema, published.variables()['params'])
    assert_equal(state.generator.params, published.variables(ema=False)['params'])
    assert_equal(state.generator.stats, published.variables()['stats'])


def test_a_ring_is_interpolated_around_its_corner():
    table = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    finer = warm_start.resample_table(table, (3, 8), ring=True)
    np.testing.assert_allclose(finer[:, ::2], table, atol=1e-6)
    np.testing.assert_allclose(finer[:, 7], (table[:, 3] + table[:, 0]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(model__block_widths=(4, 4)), ('block_1/', 'is absent there')),
        (dict(model__features=6), ('embedding/table', r'\(4, 4, 4\) there')),
        (dict(model__fourier=False), ('fourier/', 'absent here')),
    ],
)
def test_another_generator_is_refused_by_the_first_array_that_differs(plan, small, fields, words):
    with pytest.raises(UserError, match='init_from: the generator of') as error:
        started(plan, small, **fields)
    for word in words:
        assert word.replace('\\', '') in str(error.value)


def test_a_run_of_another_task_is_refused(plan, tmp_path):
    with pytest.raises(UserError, match="is a run of the task 'likelihood'"):
        started(plan, tiny.make_run(tmp_path / 'other', 'pixelcnn'))


def test_the_command_starts_from_a_run_and_goes_on_with_its_own(
    commands, tiny_data, small, tmp_path
):
    flags = tiny.flags(tiny_data, init_from=small, steps=2, checkpoint_every=2)
    first = commands.run('jaxgen.train', *flags, f'--workdir={tmp_path / "run"}')
    assert first.code == 0, first.err
    assert 'starting from' in first.out
    flags = tiny.flags(tiny_data, init_from=small, steps=3, checkpoint_every=2)
    second = commands.run('jaxgen.train', *flags, f'--workdir={tmp_path / "run"}')
    assert second.code == 0, second.err
    assert 'starting from' not in second.out
    assert 'going on from the checkpoint of step 2' in second.out


@pytest.mark.parametrize('prepared', [False, True])
def test_a_folder_without_a_run_is_one_line(commands, tiny_data, tmp_path, prepared):
    source = tmp_path / 'none'
    if prepared:
        source.mkdir()
    flags = tiny.flags(tiny_data, init_from=source)
    child = commands.run('jaxgen.train', *flags, f'--workdir={tmp_path / "run"}')
    assert_one_line(child.code, child.err, ('init_from', str(source), 'holds no run'))
