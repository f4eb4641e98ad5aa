"""A run's folder as one HTML page that needs no other file and no network.

Curves are SVG, drawn here; pictures are data: addresses; the one script moves the slider. A policy
in the page's head forbids everything else, so that a browser would refuse a request by mistake.
"""

import base64
import html
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from jaxgen.errors import UserError
from jaxgen.evaluation.protocols import KINDS, parse

POINTS = 400  # of a curve: more would not be seen
BYTES = 16 << 20  # of all pictures as PNG; beyond they become JPEG
WIDTH, HEIGHT, LEFT, BELOW = 420, 200, 58, 22
COLOURS = ('#1f6fb4', '#d9541e', '#2b8a3e', '#8e44ad', '#b7950b', '#444444')
# The policy lets in what stands in the page, and nothing from elsewhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;
vertical-align:top;border-bottom:1px solid #eee}td.n{font-variant-numeric:tabular-nums}
figure{display:inline-block;margin:.5rem 1rem .5rem 0}figcaption{font-size:.85rem}
svg{background:#fafafa}text{font:11px system-ui,sans-serif;fill:#555}
#shown{max-width:100%;min-width:256px;image-rendering:pixelated}
input[type=range]{width:min(100%,30rem)}.key{display:inline-block;width:.8em;height:.8em}
"""
SCRIPT = """
const grids = JSON.parse(document.getElementById('grids').textContent);
const slider = document.getElementById('slider');
function show() {
  const grid = grids[Number(slider.value)];
  document.getElementById('shown').src = grid.image;
  document.getElementById('step').textContent = 'step ' + grid.step;
}
slider.addEventListener('input', show);
show();
"""


def make(folder: pathlib.Path, at: pathlib.Path, *, most: int = 60) -> str:
    """The page of the run in `folder`, as it lies in the folder `at`.

    Args:
      most: sample grids, evenly spread over the run.

    Raises:
      UserError: no run.
    """
    config = folder / 'config.json'
    if not config.is_file():
        raise UserError(f'workdir {str(folder)!r} holds no run: config.json is missing')
    try:
        settings = json.loads(config.read_text())
    except ValueError as error:
        raise UserError(f'{config} is not valid JSON: {error}') from error
    lines = _read_lines(folder / 'metrics.jsonl')
    step = max((line['step'] for line in lines), default=0)
    name = folder.absolute().name
    parts = [
        f'<h1>{html.escape(name)}</h1>',
        f'<p>{html.escape(_summary(settings, step))}</p>',
        _samples(folder / 'samples', most),
        _metrics(lines),
        _curves(lines),
        _artefacts(folder, at),
        _config(settings),
    ]
    body = '\n'.join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<link rel="icon" href="data:,">'
        f'<title>{html.escape(name)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n'
        '</body></html>\n'
    )


def _summary(settings: Mapping[str, Any], step: int) -> str:
    task, steps = settings.get('task', 'imported weights'), settings.get('steps')
    return f'{task}, step {step}' + (f' of {steps}' if steps else '')


def _samples(folder: pathlib.Path, most: int) -> str:
    files = sorted(path for path in folder.glob('*.png') if path.stem.isdecimal())
    if not files:
        return ''
    if len(files) > most:
        last = len(files) - 1
        files = [files[round(i * last / max(most - 1, 1))] for i in range(most)]
    small = sum(path.stat().st_size for path in files) <= BYTES
    grids = [{'step': int(path.stem), 'image': _picture(path, small)} for path in files]
    data = json.dumps(grids).replace('</', '<\\/')
    last = len(grids) - 1
    return (
        '<h2>Samples</h2>'
        f'<p><input type="range" id="slider" min="0" max="{last}" value="{last}" '
        f'aria-label="step"> <output id="step">step {grids[-1]["step"]}</output></p>'
        f'<img id="shown" alt="sample grid" src="{grids[-1]["image"]}">'
        f'<script type="application/json" id="grids">{data}</script><script>{SCRIPT}</script>'
    )


def _picture(path: pathlib.Path, whole: bool) -> str:
    if whole:
        return _data_address('png', path.read_bytes())
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert('RGB').save(buffer, 'JPEG', quality=85)
    return _data_address('jpeg', buffer.getvalue())


def _data_address(kind: str, data: bytes) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def _metrics(lines: Sequence[Mapping[str, Any]]) -> str:
    """What was evaluated: newest and best value of each, and its protocol."""
    found: dict[str, list[tuple[int, float, str]]] = {}
    for line in lines:
        told = line.get('protocol', {})
        for name, value in _numbers(line).items():
            if told or name.startswith(('swd', 'bits_per_dim/held_out', *_spellings())):
                found.setdefault(name, []).append((line['step'], value, told.get('is', '')))
    if not found:
        return ''
    rows = []
    for name, values in sorted(found.items()):
        best = (max if _higher(name) else min)(values, key=lambda row: row[1])
        cells = [name, f'{values[-1][1]:.5g}', values[-1][0], f'{best[1]:.5g}', best[0]]
        cells.append(values[-1][2])
        rows.append(_row(cells))
    head = _row(['metric', 'newest', 'at step', 'best', 'at step', 'protocol'], 'th')
    return f'<h2>Metrics</h2><table>{head}{"".join(rows)}</table>'


def _spellings() -> list[str]:
    return [kind.spelling.partition('{}')[0] for kind in KINDS.values()]


def _higher(name: str) -> bool:
    for end in ('', '_mean', '_precision', '_recall'):
        if name.endswith(end):
            try:
                return parse(name.removesuffix(end))[0].higher
            except UserError:
                continue
    return False


def _row(cells: Sequence[Any], tag: str = 'td') -> str:
    return '<tr>' + ''.join(f'<{tag}>{html.escape(str(c))}</{tag}>' for c in cells) + '</tr>'


def _curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """A chart for each group of metrics: what stands before the slash."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in _numbers(line).items():
            curves.setdefault(name, []).append((line['step'], value))
    # A single value is in the table.
    curves = {name: points for name, points in curves.items() if points[0][0] < points[-1][0]}
    groups: dict[str, list[str]] = {}
    for name in curves:
        groups.setdefault(name.partition('/')[0], []).append(name)
    charts = []
    for names in groups.values():
        for start in range(0, len(names), len(COLOURS)):
            charts.append(_chart({n: curves[n] for n in names[start : start + len(COLOURS)]}))
    return f'<h2>Curves</h2>{"".join(charts)}' if charts else ''


def _chart(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    steps = [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points]
    first, last, low, high = min(steps), max(steps), min(values), max(values)

    def place(step: int, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 8) * (step - first) / ((last - first) or 1)
        y = 8 + (HEIGHT - BELOW - 8) * (high - value) / ((high - low) or 1)
        return f'{x:.1f},{y:.1f}'

    shapes, keys = [], []
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        kept = points[:: math.ceil(len(points) / POINTS)]
        if kept[-1] != points[-1]:
            kept = [*kept, points[-1]]
        title = f'<title>{html.escape(name)}</title>'
        path = ' '.join(place(*point) for point in kept)
        shapes.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}">'
            f'{title}</polyline>'
        )
        keys.append(
            f'<span class="key" style="background:{colour}"></span> {html.escape(name)} '
            f'{points[-1][1]:.4g}'
        )
    texts = [
        (LEFT - 6, 14, 'end', f'{high:.4g}'),
        (LEFT - 6, HEIGHT - BELOW, 'end', f'{low:.4g}'),
        (LEFT, HEIGHT - 6, 'start', f'step {first}'),
        (WIDTH - 8, HEIGHT - 6, 'end', f'{last}'),
    ]
    labels = ''.join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
        for x, y, anchor, text in texts
    )
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" role="img">{"".join(shapes)}{labels}</svg>'
        f'<figcaption>{" &nbsp; ".join(keys)}</figcaption></figure>'
    )


def _artefacts(folder: pathlib.Path, at: pathlib.Path) -> str:
    """Links to files and folders of the run, from where the page lies."""
    items = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.') or path.suffix in ('.tmp', '.html'):
            continue
        address = pathlib.Path(os.path.relpath(path.absolute(), at.absolute())).as_posix()
        kind = f'{len(list(path.iterdir()))} entries' if path.is_dir() else _size(path)
        items.append(
            f'<li><a href="{html.escape(address)}">{html.escape(path.name)}</a> ({kind})</li>'
        )
    return f'<h2>In the folder</h2><ul>{"".join(items)}</ul>'


def _size(path: pathlib.Path) -> str:
    return f'{path.stat().st_size / 1e3:,.0f} kB'


def _config(settings: Mapping[str, Any]) -> str:
    rows = [_row([name, json.dumps(value)]) for name, value in _flat(settings)]
    return f'<h2>Config</h2><table>{"".join(rows)}</table>'


def _flat(settings: Mapping[str, Any], prefix: str = '') -> list[tuple[str, Any]]:
    found = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f'{prefix}{name}.')
        else:
            found.append((prefix + name, value))
    return found


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite figures of a line."""
    return {
        name: float(value)
        for name, value in line.items()
        if name not in ('step', 'time') and isinstance(value, int | float) and math.isfinite(value)
    }


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:  # the last line of a process that was killed
            continue
        if isinstance(line, dict) and isinstance(line.get('step'), int):
            lines.append(line)
    return sorted(lines, key=lambda line: line['step'])
