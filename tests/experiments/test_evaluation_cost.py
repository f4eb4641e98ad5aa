"""The script of experiments/evaluation_cost prints what it promises."""

import json

from experiments.evaluation_cost import run
from jaxgen.evaluation import networks


def test_a_row_has_the_metric_and_what_it_cost(monkeypatch, capsys):
    for name in ('inception', 'vgg16'):
        monkeypatch.setattr(networks, name, getattr(networks, name))  # put back at the end
    run.main(['--metric=kid40_full'])
    row = json.loads(capsys.readouterr().out)
    assert row['images'] == '40 + 40'
    assert row['values'].keys() == {'kid40_full'}
    # None, where earlier tests left enough room.
    assert row['MiB more at most'] >= 0
    assert run.time_distance(width=8)['distance'] == '8 features'
