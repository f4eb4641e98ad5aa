"""Renders a picture of any size into a tiled BigTIFF, in the memory of a few tiles.

    python -m jaxgen.apps.gigapixel --workdir=runs/cips-demo --size=16384x16384 --out=big.tif

Tiles are spread over all devices. Stopped, by ctrl-C, SIGTERM or SIGKILL, it goes on with the same
command: what is there lies in OUT.part, which refuses to become another picture. --compare=FILE
shows pieces at full resolution beside the native render enlarged by Lanczos. The file is a TIFF
whatever its size (for a small .png: python -m jaxgen.sample --size=…).
"""

import contextlib
import hashlib
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from jaxgen import cli
from jaxgen.apps.command import ModelFlags, axes, define_image
from jaxgen.apps.enlargement import comparison
from jaxgen.apps.output import check_target, save_picture
from jaxgen.apps.tiled_tiff import TiledTiff
from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

_FLAGS = flags.FlagValues()
_MODEL = ModelFlags(_FLAGS)
_IMAGE = define_image(_FLAGS)
_SIZE = flags.DEFINE_string('size', None, 'WIDTHxHEIGHT or SIDE, any.', flag_values=_FLAGS)
_OUT = flags.DEFINE_string('out', 'gigapixel.tif', 'A .tif or .tiff.', flag_values=_FLAGS)
_COMPARE = flags.DEFINE_string(
    'compare', None, 'Picture of pieces beside the native render enlarged.', flag_values=_FLAGS
)
_TILE = flags.DEFINE_integer(
    'tile', 256, 'Side of a tile, a multiple of 16.', lower_bound=16, flag_values=_FLAGS
)
_DEFLATE = flags.DEFINE_integer(
    'deflate',
    6,
    'Effort of the compression, 0 is none.',
    lower_bound=0,
    upper_bound=9,
    flag_values=_FLAGS,
)

# Bounds the memory: as many pixels a device are drawn at a time as one tile of 256 has, or a tile.
PIXELS_AT_ONCE = 65_536


def render_tiff(
    run: 'Run',
    w: 'jax.Array',
    target: pathlib.Path,
    size: tuple[int, int],
    *,
    noise: 'jax.Array | None' = None,
    tile: int = 256,
    deflate: int = 6,
    description: Mapping[str, Any] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Draws style w `[1, W]` at (height, width) = `size` into `target`, or goes on with it.

    Args:
      noise: `[1]` keys, for a generator with noise='random'.
      tile, deflate: see `TiledTiff`.
      description: what distinguishes this picture, in words: it stands in the file, and in the
        refusal to go on with another one. The model and the style are compared in any case.
      stopped: asked after every few tiles.

    Returns:
      Whether the picture is complete.

    Raises:
      UserError: `target` was started as another picture, is being written, or can't be.
    """
    import jax
    from tqdm import tqdm

    description = dict(description or {}) | {
        'model': _fingerprint((repr(run.generator), run.variables)),
        'style': _fingerprint((w, None if noise is None else jax.random.key_data(noise))),
    }
    with TiledTiff(target, size, tile=tile, deflate=deflate, description=description) as tiff:
        draw = _make_draw(run, size, tile)
        at_once = run.mesh.size * max(1, PIXELS_AT_ONCE // tile**2)
        bar = tqdm(total=tiff.tiles, initial=tiff.done, unit='tile', desc=target.name)
        with bar:
            drawn = None
            for first in range(tiff.done, tiff.tiles, at_once):
                if stopped():
                    break
                # The devices draw these while the ones before are compressed and written.
                numbers = np.arange(first, first + at_once)
                ahead = draw(np.minimum(numbers, tiff.tiles - 1), (w, noise))
                if drawn is not None:
                    bar.update(_append(tiff, drawn))
                drawn = ahead
            if drawn is not None:
                bar.update(_append(tiff, drawn))
        if tiff.done < tiff.tiles:
            return False
        tiff.finish()
    return True


def _append(tiff: TiledTiff, drawn: 'jax.Array') -> int:
    tiles = np.asarray(drawn)[: tiff.tiles - tiff.done]
    tiff.append(tiles)
    return len(tiles)


def _make_draw(run: 'Run', size: tuple[int, int], tile: int) -> Callable[..., 'jax.Array']:
    """`draw(numbers [T], styles) -> uint8 [T, tile, tile, 3]` of tiles in raster order.

    Beyond the border the last row and column are repeated.
    """
    import jax
    import jax.numpy as jnp

    from jaxgen.objectives.rendering import make_render

    xs, ys = axes(run, size)
    columns = -(-size[1] // tile)
    render = make_render(run.generator, run.mesh)

    @jax.jit
    def colours(variables: Any, x: jax.Array, y: jax.Array, styles: tuple) -> jax.Array:
        grid = jnp.broadcast_arrays(x[:, None, :], y[:, :, None])
        rgb = render(variables, jnp.stack(grid, axis=-1).reshape(-1, 2), styles)
        levels = jnp.clip(jnp.rint(rgb * 127.5 + 127.5), 0, 255).astype(jnp.uint8)
        return levels.reshape(-1, tile, tile, rgb.shape[-1])

    def draw(numbers: np.ndarray, styles: tuple) -> jax.Array:
        within = np.arange(tile)
        row, column = (tile * number[:, None] + within for number in np.divmod(numbers, columns))
        x, y = xs[np.minimum(column, size[1] - 1)], ys[np.minimum(row, size[0] - 1)]
        return colours(run.variables, x, y, styles)

    return draw


def _fingerprint(tree: Any) -> str:
    """The same for the same numbers, whatever holds them."""
    import jax

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(leaf.encode() if isinstance(leaf, str) else np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGINT came; a second SIGINT kills as usual."""
    event = threading.Event()

    def request(signum: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    handlers = {n: signal.signal(n, request) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event.is_set
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def main() -> None:
    """Renders, or goes on with it."""
    _MODEL.check()
    cli.require(size=_SIZE.value)
    size = cli.parse_size(_SIZE.value)
    if max(size) >= 2**31:
        raise UserError(f'--size must be less than 2147483648 a side, got {_SIZE.value!r}')
    if _TILE.value % 16:
        raise UserError(f'--tile must be a multiple of 16, got {_TILE.value}')
    target = check_target(_OUT.value, ('.tif', '.tiff'))
    compare = check_target(_COMPARE.value, flag='--compare') if _COMPARE.value is not None else None
    run = _MODEL.load_cips()
    _, w = run.styles([_IMAGE.value], **_MODEL.drawing())
    noise = _MODEL.noise(run, [_IMAGE.value])
    if compare:
        save_picture(compare, comparison(run, w, size, noise=noise))
        print(f'comparison in {compare}')
    description = _MODEL.drawing() | dict(image=_IMAGE.value, step=run.step)
    with _stop_requests() as stopped:
        complete = render_tiff(
            run,
            w,
            target,
            size,
            noise=noise,
            tile=_TILE.value,
            deflate=_DEFLATE.value,
            description=description,
            stopped=stopped,
        )
    if complete:
        print(f'{size[1]} × {size[0]} pixels in {target}')
    else:
        print(f'stopped; what is there is in {target}.part, and the same command goes on with it')


if __name__ == '__main__':
    sys.exit(cli.run(main, values=_FLAGS))
