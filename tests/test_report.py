"""A run's page: what stands on it, and that a real browser shows it."""

import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from jaxgen.evaluation import page
from tests import browser, tiny
from tests.test_bad_input import assert_one_line

# .ci/run installs a browser and says so; elsewhere there may be none.
needs_browser = pytest.mark.skipif(
    not browser.find() and not os.environ.get('JAXGEN_BROWSER'),
    reason='needs Chromium (Debian: apt-get install chromium)',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A run with three grids, a loss, a metric, and markup where a name should be."""
    folder = tiny.make_run(tmp_path_factory.mktemp('run') / 'a <b> run')
    (folder / 'samples').mkdir()
    rng = np.random.default_rng(0)
    for step in (1, 2, 3):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'samples' / f'{step:08}.png')
    lines = [{'step': s, 'time': s, 'loss/generator': 1 / s, 'swd': s} for s in (1, 2, 3)]
    lines[1]['loss/generator'] = float('nan')
    told = {'metric': 'fid8_full', 'is': 'this <protocol>'}
    lines += [{'step': s, 'time': 9, 'fid8_full': 7.25 + s, 'protocol': told} for s in (2, 3)]
    text = '\n'.join(map(json.dumps, lines)) + '\n{"step": 4, "ti'
    (folder / 'metrics.jsonl').write_text(text)
    return folder


def test_the_page_has_it_all_and_asks_for_nothing_else(folder):
    text = page.make(folder, folder)
    for words in ('a &lt;b&gt; run', 'this &lt;protocol&gt;', 'loss/generator', 'model.features'):
        assert words in text
    assert re.search(r'fid8_full</td><td>10.25</td><td>3</td><td>9.25</td><td>2<', text)
    assert text.count('data:image/png') == 4  # three grids, the last one shown
    assert 'href="checkpoints"' in text
    assert 'http' not in text.replace('http-equiv', '')
    assert page.make(folder, folder, most=2).count('data:image/png') == 3


def test_links_lead_to_the_run_from_wherever_the_page_lies(folder, tmp_path):
    (address,) = re.findall(r'href="([^"]*metrics.jsonl)"', page.make(folder, tmp_path))
    address = address.replace('&lt;', '<').replace('&gt;', '>')
    assert (tmp_path / address).resolve() == (folder / 'metrics.jsonl').resolve()


def test_the_command_writes_the_page_or_says_why_not(commands, folder, tmp_path):
    done = commands.run('jaxgen.report', f'--workdir={folder}', f'--out={tmp_path}/a.html')
    assert done.code == 0, done.err
    assert (tmp_path / 'a.html').read_text() == page.make(folder, tmp_path)
    for words, *flags in (
        (('--workdir is missing',),),
        (('holds no run',), f'--workdir={tmp_path}'),
        (('must end in .html',), f'--workdir={folder}', '--out=a.pdf'),
        (('not writable',), f'--workdir={folder}', f'--out={tmp_path}/none/a.html'),
    ):
        done = commands.run('jaxgen.report', *flags)
        assert_one_line(done.code, done.err, words)


@needs_browser
def test_a_browser_shows_it_without_errors_and_the_slider_moves(folder, tmp_path):
    target = tmp_path / 'page.html'
    target.write_text(page.make(folder, tmp_path))
    shown = 'document.getElementById("shown")'
    window = browser.Browser(tmp_path / 'profile')
    try:
        window.open(target.as_uri())
        assert window.value('document.getElementById("step").textContent') == 'step 3'
        last = window.value(f'{shown}.src')
        assert window.value(f'{shown}.naturalWidth') == 24
        window.value('document.getElementById("slider").focus()')
        window.press('ArrowLeft', 37)
        assert window.value('document.getElementById("step").textContent') == 'step 2'
        assert window.value(f'{shown}.src') != last
        picture = np.asarray(Image.open(io.BytesIO(window.screenshot())).convert('RGB'))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
        assert window.value('document.querySelectorAll("polyline").length') == 3
        assert window.errors() == []
    finally:
        window.close()
