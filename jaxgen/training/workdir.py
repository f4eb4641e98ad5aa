"""A run's folder: its config, its metrics, its pictures.

config.json   metrics.jsonl (one object a line)   samples/STEP.png   checkpoints/   tensorboard/
"""

import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.errors import UserError

# A run that differs in one of these is another model: its checkpoints do not fit.
MODEL_FIELDS = ('task', 'model.', 'discriminator.')
# Not of the model but of how it is computed.
COMPUTATION_FIELDS = ('.dtype', '.remat')
# Fields that older runs of CIPS, the only network then, lack, with what they did without them.
LATER_FIELDS = {
    'model.network': 'cips',
    'init_from': '',
    'data.size': 0,
    'data.patch': 0,
    'model.cylindrical': False,
    'evaluate.metrics': '',
    'evaluate.metrics_every': 0,
    'evaluate.best': '',
}


def create(workdir: str) -> pathlib.Path:
    """Makes the folder; UserError where that or writing in it can't be."""
    path = pathlib.Path(workdir).expanduser()
    try:
        make_writable(path)
    except OSError as error:
        raise UserError(f'workdir {workdir!r} is not writable: {error.strerror}') from error
    return path


def make_writable(folder: pathlib.Path) -> None:
    """Makes the folder and tries it; OSError where that can't be."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f'.write-test-{os.getpid()}'
    probe.touch()
    probe.unlink()


def flatten(config: ConfigDict | Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """{'model.size': 256, …}, as JSON would give it back."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f'{prefix}{name}.')
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def read_config(workdir: str | pathlib.Path) -> ConfigDict:
    """The config that the run in `workdir` was started with."""
    path = pathlib.Path(workdir).expanduser() / 'config.json'
    if not path.is_file():
        raise UserError(f'workdir {str(workdir)!r} holds no run: {path.name} is missing')
    try:
        config = ConfigDict(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f'{path} is not valid JSON: {error}') from error
    # A run, and not converted weights.
    if 'steps' in config and config.get('task') == 'adversarial':
        known = flatten(config)
        if known.get('model.network', 'cips') == 'cips':
            config.update_from_flattened_dict(
                {name: value for name, value in LATER_FIELDS.items() if name not in known}
            )
    return config.lock()


def adopt_config(workdir: pathlib.Path, config: ConfigDict) -> list[str]:
    """Saves `config` beside the run. Returns what differs from the run that is already there.

    Raises:
      UserError: the folder holds a run of another model.
    """
    path = workdir / 'config.json'
    differences: list[str] = []
    if path.exists():
        old, new = flatten(read_config(workdir)), flatten(config)
        missing = '(not set)'
        changed = [
            name
            for name in sorted(old.keys() | new.keys())
            if old.get(name, missing) != new.get(name, missing)
        ]
        lines = {
            name: f'{name}: {old.get(name, missing)} before, {new.get(name, missing)} now'
            for name in changed
        }
        differences = list(lines.values())
        other = [
            line
            for name, line in lines.items()
            if name.startswith(MODEL_FIELDS) and not name.endswith(COMPUTATION_FIELDS)
        ]
        if 'task' in lines:  # Then hardly a field is the same.
            other = [lines['task']]
        if other:
            raise UserError(
                f'workdir {str(workdir)!r} holds a run of another model ({"; ".join(other)}): '
                'choose another workdir'
            )
    if jax.process_index() == 0:
        temporary = path.with_suffix('.tmp')
        temporary.write_text(config.to_json_best_effort(indent=2) + '\n')
        temporary.replace(path)
    return differences


def drop_metrics_after(workdir: pathlib.Path, step: int) -> None:
    """Removes the lines that an interrupted run wrote after the checkpoint it goes on from."""
    path = workdir / 'metrics.jsonl'
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)['step'] <= step:
                kept.append(line + '\n')
        except (ValueError, KeyError):
            # The last line of a process killed while it wrote.
            continue
    temporary = path.with_suffix('.tmp')
    temporary.write_text(''.join(kept))
    temporary.replace(path)


class Recorder:
    """Writes scalars and pictures of a run, on the first process only."""

    def __init__(self, workdir: pathlib.Path) -> None:
        from tensorboardX import SummaryWriter

        self._path = workdir
        (workdir / 'samples').mkdir(exist_ok=True)
        self._metrics = (workdir / 'metrics.jsonl').open('a')
        self._board = SummaryWriter(str(workdir / 'tensorboard'))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, and TensorBoard."""
        line = {'step': step, 'time': time.time()} | dict(values)
        self._metrics.write(json.dumps(line) + '\n')
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, images: np.ndarray) -> None:
        """samples/STEP.png: a grid of images `[N, H, W, C]` in [-1, 1], and TensorBoard."""
        grid = tile_images(images)
        save_png(self._path / 'samples' / f'{step:08d}.png', grid)
        self._board.add_image('samples', grid, step, dataformats='HWC')

    def close(self) -> None:
        """Writes what is left."""
        self._metrics.close()
        self._board.close()


def to_uint8(images: np.ndarray) -> np.ndarray:
    """[-1, 1] to 0…255, rounded."""
    return np.clip(np.rint(images * 127.5 + 127.5), 0, 255).astype(np.uint8)


def tile_images(images: np.ndarray) -> np.ndarray:
    """Images `[N, H, W, C]` in [-1, 1] as one uint8 picture, near square, row by row."""
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    blank = np.full((rows * columns - count, height, width, channels), -1.0, images.dtype)
    tiles = to_uint8(np.concatenate([images, blank])).reshape(rows, columns, height, width, -1)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def save_png(path: str | pathlib.Path, picture: np.ndarray) -> None:
    """Writes `[H, W, 1 or 3]` uint8, in the format that the file's name says."""
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(path)
