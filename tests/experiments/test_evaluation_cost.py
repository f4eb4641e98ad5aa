"""The script of experiments/evaluation_cost prints what it promises."""

import json

import numpy as np

from experiments.evaluation_cost import run
from jaxgen.evaluation import networks


def test_a_row_has_the_metric_and_what_it_cost(monkeypatch, capsys):
    for name in ('inception', 'vgg16'):
        monkeypatch.setattr(networks, name, getattr(networks, name))  # put back at the end
    run.main(['--metric=kid40_full'])
    row = json.loads(capsys.readouterr().out)
    assert row['images'] == '40 + 40'
    assert row['values'].keys() == {'kid40_full'}
    assert run.time_distance(width=8)['distance'] == '8 features'


def test_memory_that_is_taken_is_seen():
    before, _ = run.held()
    taken = np.ones(2**26, np.uint8)
    now, most = run.held()
    assert 0.9 * taken.nbytes < now - before < 1.5 * taken.nbytes
    assert most >= now
