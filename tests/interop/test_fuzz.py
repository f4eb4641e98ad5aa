"""The fuzzer of experiments/fuzz_reader: nothing gets past the reader, and it would tell."""

import pathlib
import runpy

import numpy as np
import pytest

from jaxgen.interop import cips, torch_reader, unpickle

SCRIPT = pathlib.Path(__file__).parents[2] / 'experiments' / 'fuzz_reader' / 'fuzz.py'


@pytest.fixture
def fuzz(monkeypatch):
    # The mean of w is no business of the reader, and costs most of the time.
    monkeypatch.setattr(cips, 'average_w', lambda generator, _: np.zeros(generator.style))
    return runpy.run_path(str(SCRIPT))


def test_damaged_files_are_read_or_refused_with_one_line(fuzz):
    rows, failures, _, _ = fuzz['run'](200, 1)
    assert not failures
    assert sum(rows.values()) == 200
    outcomes = {outcome for _, outcome in rows}
    assert {'read', 'refused'} <= outcomes


def test_an_exception_of_another_kind_would_be_told(fuzz, monkeypatch):
    monkeypatch.setattr(unpickle, '_decode', bytes.decode)
    _, failures, _, _ = fuzz['run'](12, 3)
    assert any('UnicodeDecodeError' in failure for failure in failures)


def test_a_call_out_of_the_file_would_be_told(fuzz, monkeypatch, tmp_path):
    def mkdir(arguments):
        pathlib.Path('marker').mkdir(exist_ok=True)
        return {}

    calls = {**torch_reader.ALLOWED, 'posix.mkdir': unpickle.Constructor(mkdir)}
    monkeypatch.setattr(torch_reader, 'ALLOWED', calls)
    monkeypatch.setitem(fuzz['run'].__globals__, 'SNIPPETS', fuzz['SNIPPETS'][:1])
    _, failures, _, _ = fuzz['run'](36, 3)
    assert any('a call was made' in failure for failure in failures)


def test_the_script_prints_a_table(fuzz, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['fuzz.py', '--count=6'])
    assert fuzz['main']() == 0
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ['mutation', 'read', 'read,', 'not', 'CIPS', 'refused', 'FAILED']
    assert [row.split()[0] for row in rows] == [f.__name__ for f in fuzz['MUTATIONS']]
    assert '6 files of seed 0, 0 failures' in last
