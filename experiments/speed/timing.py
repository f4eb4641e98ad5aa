"""How the scripts of this folder measure and report.

Absolute times mean little on a machine that others use too. Whatever is compared is therefore run
in turns within one process, and a ratio is the median of the ratios of neighbours. Where other jobs
keep the processors busy, `taskset -c 0 … --clock=cpu` still compares fairly: one core, and only the
processor time that is spent (eager PyTorch's threads wait for each other by spinning, so elapsed
times would then flatter whatever stands beside it).
"""

import argparse
import json
import pathlib
import runpy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

ROOT = pathlib.Path(__file__).parents[2]
PEAK_SIDE = 2048
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
# Threads of one library may spin for a while after its call; the next call should not pay for it.
PAUSE = 0.005


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument('--json', action='store_true', help='one JSON object per row')
    options.add_argument(
        '--clock', choices=CLOCKS, default='wall', help='elapsed or processor time'
    )
    options.add_argument('--quick', action='store_true', help='toy sizes: shows that it runs')
    return options


def get_config(variant: str) -> ConfigDict:
    """A variant of configs/cips.py, unlocked."""
    config = runpy.run_path(str(ROOT / 'configs' / 'cips.py'))['get_config'](variant)
    return config.unlock()


def in_turns(
    functions: Mapping[Any, Callable[[], Any]], repetitions: int, clock: str = 'wall'
) -> dict[Any, np.ndarray]:
    """Seconds `[repetitions]` of each function, after one call of each that does not count.

    A function that returns JAX arrays is timed until they are there.
    """
    for function in functions.values():
        jax.block_until_ready(function())
    now = CLOCKS[clock]
    seconds: dict[Any, list[float]] = {name: [] for name in functions}
    for turn in range(repetitions):
        print(f'turn {turn + 1} of {repetitions}', file=sys.stderr, flush=True)
        for name, function in functions.items():
            time.sleep(PAUSE)
            began = now()
            jax.block_until_ready(function())
            seconds[name].append(now() - began)
    return {name: np.array(values) for name, values in seconds.items()}


def matmul(quick: bool) -> tuple[Callable[[], jax.Array], float]:
    """A large square float32 product, and its GFLOP: the machine's matmul peak."""
    side = 64 if quick else PEAK_SIDE
    square = jax.random.normal(jax.random.key(0), (side, side))
    product = jax.jit(lambda x: jnp.matmul(x, x, precision='highest'))
    return lambda: product(square), 2e-9 * side**3


def machine() -> str:
    """What the figures belong to."""
    devices = jax.devices()
    return f'{len(devices)} × {devices[0].device_kind}'


def report(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Prints the rows: aligned columns, or one JSON object a line. None prints as '-'."""
    if as_json:
        for row in rows:
            print(json.dumps({**row, 'machine': machine()}))
        return
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print(
            '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print(f'machine: {machine()}')


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
