"""The loop inside one process: what is compiled, what is written, how it stops."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import monitoring
from PIL import Image

from jaxgen.data.pipeline import Pipeline
from jaxgen.errors import NonFiniteLoss
from jaxgen.evaluation.evaluators import make_sample
from jaxgen.parallel.mesh import make_mesh
from jaxgen.parallel.plan import JitPlan
from jaxgen.tasks import Data
from jaxgen.training.loop import train
from tests import tiny

COMPILED = '/jax/core/compile/backend_compile_duration'


class Images(list):
    """A data set in memory."""

    name, image_shape, num_classes = 'images', (4, 4, 3), 0


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    images = Images({'image': rng.integers(0, 256, (4, 4, 3), np.uint8)} for _ in range(32))
    return Data(images, images, Pipeline(images, batch_size=8, seed=0))


def objective(plan, **fields):
    return tiny.objective(
        plan.layout,
        model=tiny.generator(size=4),
        score=tiny.discriminator(size=4, channels={4: 4}, minibatch_std_group=1),
        **fields,
    )


def run(
    folder, data, plan=None, steps=6, evaluate=lambda state: {}, problem=None, sample=None, **fields
):
    plan = plan or JitPlan(make_mesh())
    often = dict(log_every=2, sample_every=3, checkpoint_every=2, samples=8)
    config = tiny.config(steps=steps, **often | fields)
    problem = problem or objective(plan)
    sample = sample or make_sample(config, problem, plan)
    folder.mkdir(exist_ok=True)
    return train(config, folder, problem, plan, data, sample, evaluate)


def test_nothing_is_compiled_after_everything_ran_once(tmp_path, data):
    count, history = [0], []

    def listen(event, duration, **_):
        count[0] += event == COMPILED

    def evaluate(state):
        # Called after steps 2, 4, 6, …: each time before a checkpoint is written.
        history.append(count[0])
        return {'swd': float(jax.tree.leaves(state)[0])}

    monitoring.register_event_duration_secs_listener(listen)
    try:
        run(tmp_path, data, steps=12, evaluate=evaluate, evaluate_every=2)
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert history[0] > 0
    # By step 6 each phase, a sample grid and a checkpoint have been made once.
    assert history[2:] == [history[2]] * 4
    assert count[0] == history[2]


@pytest.fixture(scope='module')
def finished(tmp_path_factory, data):
    """The folder of a run of six steps that logs every other."""
    folder = tmp_path_factory.mktemp('loop') / 'finished'
    run(folder, data)
    return folder


def metrics(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_everything_that_a_run_leaves_is_in_its_folder(finished):
    lines = metrics(finished)
    assert [line['step'] for line in lines] == [2, 4, 6]
    assert {'loss/generator', 'loss/discriminator', 'images_per_second'} < lines[0].keys()
    assert all('loss/r1' in line for line in lines)
    pictures = sorted((finished / 'samples').iterdir())
    assert [path.name for path in pictures] == ['00000003.png', '00000006.png']
    assert Image.open(pictures[0]).size == (12, 12)
    steps = {path.name for path in (finished / 'checkpoints').iterdir() if path.name.isdigit()}
    assert steps == {'2', '4', '6'}
    assert list((finished / 'tensorboard').glob('events*'))


def test_a_logged_metric_is_the_mean_over_the_steps_since_the_last_line(
    finished, tmp_path, data, capsys
):
    run(tmp_path, data, log_every=1)
    assert f'done: {tmp_path}/samples' in capsys.readouterr().out
    each, both = ([line['loss/generator'] for line in metrics(f)] for f in (tmp_path, finished))
    np.testing.assert_allclose(both, np.reshape(each, (3, 2)).mean(1), rtol=1e-5)


def test_a_signal_stops_after_the_step_and_its_old_meaning_comes_back(tmp_path, data, capsys):
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    plan = JitPlan(make_mesh())

    def evaluate(state):
        signal.raise_signal(signal.SIGTERM)
        return {}

    state = run(tmp_path, data, plan, evaluate=evaluate, evaluate_every=1)
    # Raised during the evaluation of step 1, noticed after step 2.
    assert int(state.step) == 2
    assert 'stopped on request at step 2; everything is saved' in capsys.readouterr().out
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_stylegan_goes_on_bitwise_with_its_path_lengths_and_its_augmentation(tmp_path):
    rng = np.random.default_rng(0)
    images = Images({'image': rng.integers(0, 256, (16, 16, 3), np.uint8)} for _ in range(16))
    images.image_shape = (16, 16, 3)
    data = Data(images, images, Pipeline(images, batch_size=8, seed=0))
    plan = JitPlan(make_mesh(devices=jax.devices()[:1]))
    problem = tiny.stylegan(plan.layout, batch_size=8, blur_sigma=0.0)
    options = dict(problem=problem, sample=lambda state: np.zeros((4, 16, 16, 3)))
    whole = run(tmp_path / 'whole', data, plan, 5, **options)
    at_three = run(tmp_path / 'stopped', data, plan, 3, **options)
    assert float(at_three.path_length_mean) > 0
    assert float(at_three.augment_p) != 0.5
    assert float(at_three.augment_signs.count) > 0
    continued = run(tmp_path / 'stopped', data, plan, 5, **options)
    for (path, a), (_, b) in zip(*map(jax.tree.leaves_with_path, (whole, continued)), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def test_a_nan_in_the_data_stops_with_its_step_and_the_last_good_checkpoint(tmp_path, data):
    class Broken:
        at = data.batches.at

        def iterate(self, start, threads):
            for step, batch in enumerate(data.batches.iterate(start, threads)):
                yield {**batch, 'image': batch['image'] * (np.nan if step == 4 else 1)}

    broken = Data(data.train, data.held_out, Broken())
    message = f'is not finite at step 5; the last good checkpoint is {tmp_path}/checkpoints/4$'
    with pytest.raises(NonFiniteLoss, match=message):
        run(tmp_path, broken)


def test_a_state_that_became_infinite_after_the_last_loss_is_never_saved(tmp_path, data):
    plan = JitPlan(make_mesh())

    # Only the generator's last update of step 2 is infinite: no loss has seen it.
    def rate(count):
        return jnp.where(count == 1, jnp.inf, 0.05)

    problem = objective(plan, generator_optimizer=optax.sgd(rate))
    with pytest.raises(NonFiniteLoss, match='the state is not finite at step 2; there is no'):
        run(tmp_path, data, plan, problem=problem)
