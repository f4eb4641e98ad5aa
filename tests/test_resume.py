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
KILLS = {'cips': 20, 'pixelcnn': 4, 'stylegan2': 1, 'autoencoder': 1}
STEPS = {'cips': 100, 'pixelcnn': 60, 'stylegan2': 20, 'autoencoder': 10}
EVERY = 2
# Whose going on is left to the real command, without a fork, that is.
REAL = 'pixelcnn'
# Compiles longest: its reference fills the cache, in place of doing without.
COSTLY = 'stylegan2'
# The others stand for them in all that does not depend on what the state holds.
KILLED_ONLY = ('stylegan2', 'autoencoder')
IMAGES = {
    'autoencoder': dict(
        data__name='tiny8', data__size=8, data__eval_split='test', model__colours=3,
        model__blocks=1,
    )
}  # fmt: skip


@pytest.fixture(scope='module', params=[kind for kind in KILLS if kind not in KILLED_ONLY])
def kind(request):
    return request.param


def arguments_of(kind, tiny_data):
    """Everything about a run but its folder."""
    return tiny.flags(
        tiny_data,
        kind,
        steps=STEPS[kind],
        log_every=1,
        checkpoint_every=EVERY,
        checkpoints_to_keep=2,
        checkpoint_keep_period=20,
        **IMAGES.get(kind, {}),
    )


@pytest.fixture(scope='module')
def arguments(tiny_data, kind):
    return arguments_of(kind, tiny_data)


@pytest.fixture(scope='module')
def train(commands, arguments):
    """Starts the run in a folder; `wait=False` does not wait for its end."""

    def start(folder, *more, wait=True, config=None):
        run = commands.run if wait else commands.start
        return run('jaxgen.train', *arguments, f'--workdir={folder}', *more, config=config)

    return start


@pytest.fixture(scope='module')
def reference(kind, train, tmp_path_factory):
    """The folder of a run that was never interrupted, compiled without the compilation cache."""
    folder = tmp_path_factory.mktemp('resume') / 'reference'
    child = train(folder, config={'jax_enable_compilation_cache': kind == COSTLY})
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


def whole_state(folder, step=None):
    step = step or finished(folder)[-1]
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / 'checkpoints' / str(step) / 'state')


def assert_same_run(folder, reference):
    """Bitwise the same final state, and the same metrics, each step once and in order."""
    expected, found = (jax.tree.leaves_with_path(whole_state(path)) for path in (reference, folder))
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert len(found) > 20
    assert finished(folder)[-1] == finished(reference)[-1]
    for (path, a), (_, b) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=str(path))
    assert metrics(folder) == metrics(reference)


def metrics(folder):
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    for line in lines:
        del line['time'], line['images_per_second']
    assert [line['step'] for line in lines] == list(range(1, finished(folder)[-1] + 1))
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


@pytest.mark.parametrize('kind', KILLS, indirect=True)
def test_a_run_killed_many_times_ends_as_if_it_had_not_been(kind, train, reference, tmp_path):
    folder = tmp_path / 'killed'
    killer = Killer(folder, seed=0)
    for i in range(KILLS[kind]):
        # First behind a checkpoint: then there is one to go on from, however few kills there are.
        killer.kill(train(folder, wait=False), ('step', 'save', 'start', 'save')[i % 4])
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


def test_sigterm_saves_and_says_how_to_go_on_and_that_does(
    kind, train, arguments, reference, tmp_path
):
    folder = tmp_path / 'stopped'
    child = train(folder, wait=False)
    assert child.wait_until(lambda: len(finished(folder)) > 0)
    child.kill(15)
    assert child.wait() == 0, child.err
    step = finished(folder)[-1]
    assert f'stopped on request at step {step}; everything is saved' in child.out
    assert 'The same command goes on from there' in child.out
    assert step < STEPS[kind]
    if kind == REAL:
        out = kill_once_and_finish(arguments, folder)
    else:
        done = train(folder)
        assert done.code == 0, done.err
        out = done.out
    assert 'going on from the checkpoint of step' in out
    assert_same_run(folder, reference)


def kill_once_and_finish(arguments, folder):
    """What the real command says that goes on, killed once on its way, at the second attempt."""
    step = finished(folder)[-1]
    command = [sys.executable, '-m', 'jaxgen.train', *arguments, f'--workdir={folder}']
    options = dict(cwd=ROOT, env=os.environ | {'JAX_NUM_CPU_DEVICES': '1'}, text=True)
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    while finished(folder)[-1] == step and killed.poll() is None:
        time.sleep(0.001)
    killed.kill()
    assert killed.wait() == -9
    done = subprocess.run(command, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    kind, train, reference, tmp_path
):
    folder = tmp_path / 'damaged'
    shutil.copytree(reference, folder)
    last = STEPS[kind]
    newest, before = folder / 'checkpoints' / str(last), last - EVERY
    shutil.rmtree(newest / 'state' / 'd')
    child = train(folder)
    assert child.code == 0, child.err
    assert f'checkpoint {newest} is damaged and was moved to {folder}' in child.out
    assert f'going on from the checkpoint of step {before}' in child.out
    assert (folder / 'checkpoints-damaged' / str(last)).is_dir()
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
    steps = STEPS[kind]
    # None of them is part of what is compiled.
    more = (f'--config.steps={steps + 1}', '--config.checkpoints_to_keep=3', '--config.seed=4')
    child = train(folder, *more)
    assert child.code == 0, child.err
    lines = [line for line in child.out.splitlines() if 'the config differs' in line]
    differences = [line.rpartition(f'{folder}: ')[2] for line in lines]
    assert differences == [
        'checkpoints_to_keep: 2 before, 3 now',
        'seed: 0 before, 4 now',
        f'steps: {steps} before, {steps + 1} now',
    ]
    assert json.loads((folder / 'config.json').read_text())['steps'] == steps + 1
    assert finished(folder)[-3:] == [steps - EVERY, steps, steps + 1]


def test_a_run_of_another_model_is_refused_and_left_alone(train, reference):
    before = (reference / 'config.json').read_text(), finished(reference)
    child = train(reference, '--config.model.features=8')
    assert child.code == 2
    (line,) = child.err.splitlines()
    assert 'model.features: 4 before, 8 now' in line
    assert ((reference / 'config.json').read_text(), finished(reference)) == before


# Everything is infinite after the first update, before anything was saved; or too fast from the
# fourth step on, when there is a checkpoint.
AT_ONCE, LATER = ('inf', 'there is no checkpoint yet'), ('1e30', 'checkpoint')


@pytest.mark.parametrize(('which', 'case'), [('cips', AT_ONCE), ('pixelcnn', LATER)])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_last_good_checkpoint(
    commands, tiny_data, tmp_path, which, case
):
    (rate, good), folder = case, tmp_path / 'run'
    child = commands.run(
        'jaxgen.train',
        *arguments_of(which, tiny_data),
        f'--workdir={folder}',
        f'--config.optimizer.learning_rate={rate}',
    )
    assert child.code == 1
    (line,) = [line for line in child.err.splitlines() if not line.startswith('W')]
    assert 'is not finite at step ' in line
    assert good in line
    for step in finished(folder):
        leaves = jax.tree.leaves(whole_state(folder, step))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
