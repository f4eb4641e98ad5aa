"""The scripts of experiments/speed print what they promise. No test looks at a time."""

import json
import math
import pathlib
import runpy

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'experiments' / 'speed'


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script at toy size, in this process; returns what it printed."""

    def run_script(name, *arguments):
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.setattr('sys.argv', [name, '--quick', *arguments])
        runpy.run_path(str(FOLDER / name), run_name='__main__')
        return capsys.readouterr().out

    return run_script


@pytest.mark.parametrize(
    'script',
    [
        'forward.py',
        'train_step.py',
        'loop.py',
        'startup.py',
        'sampler.py',
        'pixelcnn_step.py',
        'stylegan.py --networks=stylegan2',
        'filters.py --networks=t --layers=3',
    ],
)
def test_every_row_is_a_json_object_with_a_positive_figure(run, script):
    rows = [json.loads(line) for line in run(*script.split(), '--json').splitlines()]
    assert rows
    for row in rows:
        assert {'measured', 'jaxgen', 'other', 'ratio', 'machine'} <= set(row)
        assert math.isfinite(row['jaxgen'])
        assert row['jaxgen'] > 0
        if row['other'] is not None:
            assert row['ratio'] > 0


def test_the_table_has_a_header_a_line_for_each_row_and_the_machine(run):
    header, *rows, machine = run('paper_cost.py').splitlines()
    assert header.split() == ['measured', 'jaxgen', 'other', 'ratio']
    assert [row.split('  ')[0] for row in rows[:2]] == ['uniform: parameters', 'uniform: GMAC']
    assert machine.startswith('machine: ')


def test_parameters_and_macs_are_the_published_ones(run):
    rows = [json.loads(line) for line in run('paper_cost.py', '--json').splitlines()]
    published = {row['measured']: row for row in rows if row['other'] is not None}
    assert published['uniform: parameters']['jaxgen'] == 45_911_076
    assert published['uniform: GMAC']['jaxgen'] == 275.6
    assert all(row['jaxgen'] == row['other'] for row in published.values())
