"""The notebooks run from the first cell to the last, at smoke size."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

from tests.fork_server import ROOT

NOTEBOOKS = sorted(pathlib.Path(ROOT, 'colab').glob('*.ipynb'))


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Few steps, in folders of its own, on one device."""
    monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '1')
    monkeypatch.setenv('JAXGEN_DATA_DIR', str(tmp_path / 'data'))
    monkeypatch.setenv('JAXGEN_NOTEBOOK_STEPS', '2')
    monkeypatch.setenv('JAXGEN_NOTEBOOK_VARIANT', 'smoke')
    # The regularisers take longest to compile.
    fields = ('r1_every', 'path_length_every')
    flags = ' '.join(f'--config.loss.{field}=0' for field in fields)
    monkeypatch.setenv('JAXGEN_NOTEBOOK_FLAGS', flags)
    monkeypatch.setenv('JAXGEN_NOTEBOOK_WORKDIR', str(tmp_path / 'run'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path, environment):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get('outputs') for cell in notebook.cells), 'committed without outputs'
    client = NotebookClient(
        notebook, timeout=600, kernel_name='python3', resources={'metadata': {'path': path.parent}}
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', {})
    ]
    assert len(pictures) >= 5


def test_there_are_notebooks():
    assert NOTEBOOKS
