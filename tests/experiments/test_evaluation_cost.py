"""The script of experiments/evaluation_cost prints what it promises."""

import json
import subprocess
import sys

from experiments.evaluation_cost import run
from jaxgen.evaluation import networks
from tests.fork_server import ROOT

TAKE = """
import sys, threading, time
import numpy as np
from experiments.evaluation_cost.run import held, watch
before, stop, seen = held()[0], threading.Event(), [0]
watcher = threading.Thread(target=watch, args=(stop, seen))
watcher.start()
taken = np.ones(int(sys.argv[1]), np.uint8)
while seen[0] < held()[0]:
    time.sleep(0.01)
stop.set()
watcher.join()
print([before, seen[0], held()[1]])
"""


def test_a_row_has_the_metric_and_what_it_cost(monkeypatch, capsys):
    for name in ('inception', 'vgg16'):
        monkeypatch.setattr(networks, name, getattr(networks, name))  # put back at the end
    run.main(['--metric=kid40_full'])
    row = json.loads(capsys.readouterr().out)
    assert row['images'] == '40 + 40'
    assert row['values'].keys() == {'kid40_full'}
    assert run.time_distance(width=8)['distance'] == '8 features'


def test_memory_that_is_taken_is_seen():
    # In a process of its own: this one has memory that it may give back at any time.
    command = [sys.executable, '-c', TAKE, str(2**26)]
    child = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    before, now, most = json.loads(child.stdout)
    assert 0.9 * 2**26 < now - before < 1.5 * 2**26
    assert most >= now
