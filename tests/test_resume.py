"""Interrupted runs end with bitwise the state of one that was never interrupted.

Of each kind of objective; the full number of kills falls on the one with the larger state.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import tiny
from tests.fork_server import ROOT

# Few kills of a kind may all fall on the same moment.
KILLS = {'cips': 20, 'pixelcnn': 4}
STEPS, EVERY = 100, 2


@pytest.fixture(scope='module', params=KILLS)
def kind(request):
    return request.param


@pytest.fixture(scope='module')
def arguments(tiny_data, kind):
    """Everything about the run but its folder."""
    return tiny.flags(
        tiny_data,
        kind,
        steps=STEPS,
        log_every=1,
        checkpoint_every=EVERY,
        checkpoints_to_keep=2,
        checkpoint_keep_period=50,
    )


@pytest.fixture(scope='module')
def train(commands, arguments):
    """Starts the run in a folder; `wait=False` does not wait for its end."""

    def start(folder, *more, wait=True, config=None):
        run = commands.run if wait else commands.start
        return run('jaxgen.train', *arguments, f'--workdir={folder}', *more, config=config)

    return start


@pytest.fixture(scope='module')
def reference(train, tmp_path_factory):
    """The folder of a run that was never interrupted, compiled without the compilation cache."""
    folder = tmp_path_factory.mktemp('resume') / 'reference'
    child = train(folder, config={'jax_enable_compilation_cache': False})
    assert child.code == 0, child.err
    return folder


def finished(folder):
    """The steps that have a whole checkpoint, ascending."""
    names = os.listdir(folder / 'checkpoints') if (folder / 'checkpoints').exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def unfinished(folder):
    """Names of checkpoints that are being written, or were when the run died."""
    names = os.listdir(folder / 'checkpoints') if (folder / 'checkpoints').exists() else []
    return [name for name in names if 'tmp' in name]


def whole_state(folder, step=STEPS):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / 'checkpoints' / str(step) / 'state')


def assert_same_run(folder, reference):
    """Bitwise the same final state, and the same metrics, each step once and in order."""
    expected, found = (jax.tree.leaves_with_path(whole_state(path)) for path in (reference, folder))
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert len(found) > 20
    for (path, a), (_, b) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=str(path))
    assert metrics(folder) == metrics(reference)


def metrics(folder):
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    for line in lines:
        del line['time'], line['images_per_second']
    assert [line['step'] for line in lines] == list(range(1, STEPS + 1))
    return lines


class Killer:
    """Kills a run at random moments of three kinds, and keeps count of what it hit."""

    def __init__(self, folder, seed):
        self.folder, self.random, self.start_up = folder, random.Random(seed), 0.0
        self.hit = dict.fromkeys(('before a new checkpoint', 'while saving', 'after saving'), 0)

    def kill(self, child, kind):
        """Waits for the moment, kills, and says what was hit."""
        before, began = finished(self.folder), time.monotonic()
        leftovers = set(unfinished(self.folder))
        if kind == 'start':
            # Anywhere in importing, restoring, compiling and the first steps.
            time.sleep(self.random.uniform(0, self.start_up))
        elif kind == 'save':
            assert child.wait_until(lambda: set(unfinished(self.folder)) - leftovers)
            self.start_up = time.monotonic() - began
            time.sleep(self.random.uniform(0, 0.005))
        else:
            assert child.wait_until(lambda: finished(self.folder)[-1:] > before[-1:])
            time.sleep(self.random.uniform(0, 0.05))
        assert not child.ended(), f'over before it was killed:\n{child.out}\n{child.err}'
        child.kill()
        assert child.wait() == -9
        if set(unfinished(self.folder)) - leftovers:
            self.hit['while saving'] += 1
        elif finished(self.folder)[-1:] > before[-1:]:
            self.hit['after saving'] += 1
        else:
            self.hit['before a new checkpoint'] += 1


def test_a_run_killed_many_times_ends_as_if_it_had_not_been(kind, train, reference, tmp_path):
    folder = tmp_path / 'killed'
    killer = Killer(folder, seed=0)
    for i in range(KILLS[kind]):
        killer.kill(train(folder, wait=False), ('save', 'start', 'step', 'save')[i % 4])
    assert sum(killer.hit.values()) == KILLS[kind]
    if KILLS[kind] >= 20:
        # Not 'after saving': on a busy machine the next save has always begun by then.
        assert killer.hit['while saving'] > 0, killer.hit
        assert killer.hit['before a new checkpoint'] > 0, killer.hit
    last = train(folder)
    assert last.code == 0, last.err
    assert 'going on from the checkpoint of step' in last.out
    assert 'damaged' not in last.out
    assert_same_run(folder, reference)


def test_sigterm_saves_and_says_how_to_go_on_and_the_real_command_does(
    train, arguments, reference, tmp_path
):
    folder = tmp_path / 'stopped'
    child = train(folder, wait=False)
    assert child.wait_until(lambda: len(finished(folder)) > 0)
    child.kill(15)
    assert child.wait() == 0, child.err
    step = finished(folder)[-1]
    assert f'stopped on request at step {step}; everything is saved' in child.out
    assert 'The same command goes on from there' in child.out
    assert step < STEPS
    # Going on is left to the real command, which is killed once more on its way.
    command = [sys.executable, '-m', 'jaxgen.train', *arguments, f'--workdir={folder}']
    options = dict(cwd=ROOT, env=os.environ | {'JAX_NUM_CPU_DEVICES': '1'}, text=True)
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    while finished(folder)[-1] == step and killed.poll() is None:
        time.sleep(0.001)
    killed.kill()
    assert killed.wait() == -9
    done = subprocess.run(command, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    assert 'going on from the checkpoint of step' in done.stdout
    assert_same_run(folder, reference)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    train, reference, tmp_path
):
    folder = tmp_path / 'damaged'
    shutil.copytree(reference, folder)
    newest, before = folder / 'checkpoints' / str(STEPS), STEPS - EVERY
    shutil.rmtree(newest / 'state' / 'd')
    child = train(folder)
    assert child.code == 0, child.err
    assert f'checkpoint {newest} is damaged and was moved to {folder}' in child.out
    assert f'going on from the checkpoint of step {before}' in child.out
    assert (folder / 'checkpoints-damaged' / str(STEPS)).is_dir()
    assert_same_run(folder, reference)


def test_a_finished_run_has_nothing_to_do(train, reference):
    child = train(reference)
    assert child.code == 0, child.err
    assert 'compiling' not in child.out
    assert 'done: ' in child.out
    metrics(reference)


def test_another_config_is_taken_up_and_its_differences_are_printed(
    kind, train, reference, tmp_path
):
    folder = tmp_path / 'changed'
    shutil.copytree(reference, folder)
    rate = tiny.config(kind).optimizer.learning_rate
    more = ('--config.steps=101', '--config.optimizer.learning_rate=0.005', '--config.seed=4')
    child = train(folder, *more)
    assert child.code == 0, child.err
    lines = [line for line in child.out.splitlines() if 'the config differs' in line]
    differences = [line.rpartition(f'{folder}: ')[2] for line in lines]
    assert differences == [
        f'optimizer.learning_rate: {rate} before, 0.005 now',
        'seed: 0 before, 4 now',
        'steps: 100 before, 101 now',
    ]
    assert json.loads((folder / 'config.json').read_text())['steps'] == 101
    assert finished(folder)[-1] == 101


def test_a_run_of_another_model_is_refused_and_left_alone(train, reference):
    before = (reference / 'config.json').read_text(), finished(reference)
    child = train(reference, '--config.model.features=8')
    assert child.code == 2
    (line,) = child.err.splitlines()
    assert 'model.features: 4 before, 8 now' in line
    assert ((reference / 'config.json').read_text(), finished(reference)) == before


@pytest.mark.parametrize(
    ('fields', 'good'),
    [
        # Everything is infinite after the first update, before anything was saved.
        (('--config.optimizer.learning_rate=inf',), 'there is no checkpoint yet'),
        # Too fast from the fourth step on, when there is one.
        (('--config.optimizer.learning_rate=1e30',), 'checkpoint'),
    ],
)
def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_last_good_checkpoint(
    train, tmp_path, fields, good
):
    child = train(tmp_path / 'run', *fields)
    assert child.code == 1
    (line,) = [line for line in child.err.splitlines() if not line.startswith('W')]
    assert 'is not finite at step ' in line
    assert good in line
    for step in finished(tmp_path / 'run'):
        leaves = jax.tree.leaves(whole_state(tmp_path / 'run', step))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
