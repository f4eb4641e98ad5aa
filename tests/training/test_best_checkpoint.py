"""The checkpoint with the best value of a metric stays, through restarts too."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.evaluation import during
from jaxgen.evaluation.during import check_best, make_measure
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.training.checkpoint import BestCheckpoint, newest_state, saved_steps
from tests import tiny


def offer(best, values):
    for step, value in values.items():
        best.offer(step, {'x': jnp.full((2,), float(step))}, {'fid': value, 'other': -step})


def test_the_best_stays_and_nothing_else(tmp_path):
    offer(BestCheckpoint(tmp_path, 'fid', {}), {1: 5.0, 2: 3.0, 3: float('nan'), 4: 4.0})
    assert saved_steps(tmp_path, best=True) == [2]
    offer(BestCheckpoint(tmp_path, 'fid', {}), {5: 3.5, 6: 3.0})
    assert saved_steps(tmp_path, best=True) == [2]
    offer(BestCheckpoint(tmp_path, 'fid', {}), {7: 2.5})
    shapes = {'x': np.zeros((2,), np.float32)}
    step, state = newest_state(tmp_path, shapes, JitPlan(make_mesh()).state_sharding(), best=True)
    assert step == 7
    np.testing.assert_array_equal(state['x'], [7, 7])


def test_more_is_better_where_it_is_said_so(tmp_path):
    offer(BestCheckpoint(tmp_path, '+fid', {}), {1: 5.0, 2: 6.0, 3: 4.0})
    assert saved_steps(tmp_path, best=True) == [2]


def test_without_a_metric_nothing_is_kept(tmp_path):
    offer(BestCheckpoint(tmp_path, '', {}), {1: 5.0})
    offer(BestCheckpoint(tmp_path, 'none such', {}), {1: 5.0})
    assert list(tmp_path.iterdir()) == []


def test_metrics_to_choose_by_must_be_measured():
    check_best('', [])
    check_best('swd', [])
    check_best('+is2k_mean', ['is2k'])
    for best, names in (('fid2k_full', []), ('nonsense', ['is2k'])):
        with pytest.raises(UserError, match=r'evaluate\.best'):
            check_best(best, names)


@pytest.mark.parametrize(('names', 'every'), [('spectrum8', 0), ('', 5), ('spectrum8', -1)])
def test_names_and_interval_go_together(names, every):
    config = tiny.config(evaluate__metrics=names, evaluate__metrics_every=every)
    with pytest.raises(UserError, match='go together'):
        make_measure(config, None, None, None, None)


def test_metrics_of_a_state_in_training_are_those_of_its_checkpoint(
    tmp_path, tiny_data, monkeypatch
):
    from jaxgen import tasks
    from jaxgen.evaluation import protocols, runs

    monkeypatch.setenv('JAXGEN_DATA_DIR', str(tmp_path / 'cache'))
    fields = dict(
        data__dir=str(tiny_data), evaluate__metrics='spectrum8', evaluate__metrics_every=1
    )
    folder = tiny.make_run(tmp_path / 'run', **fields)
    config = tiny.config(**fields)
    plan, data = tasks.make_plan(config), tasks.open_data(config)
    objective = tasks.make_objective(config, plan.layout)
    import jax

    shapes = jax.eval_shape(objective.init_state, jax.random.key(0))
    step, state = newest_state(folder, shapes, plan.state_sharding())
    measure = during.make_measure(config, objective, plan, data, folder)
    options = runs.Options(seed=config.seed, out=str(tmp_path / 'out.jsonl'), progress=False)
    (known,) = runs.evaluate_run(str(folder), protocols.parse('spectrum8'), 'newest', options)
    for _ in range(2):
        assert measure(step, state) == pytest.approx(known.values, rel=1e-5)
