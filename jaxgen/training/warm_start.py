"""Starting a run from the weights of another: transfer learning, or a larger image (CIPS).

The generator must be the same but for the grid of its coordinate embedding: a table of another size
is interpolated, one of the same size kept (the paper's way: a grid of 256² read between its entries
at 1024²). Of the discriminator, arrays of the same name and shape are taken and the rest is new, as
where larger images need further blocks. The mean of w is taken too; optimisers start anew.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.errors import UserError
from jaxgen.interop import imported
from jaxgen.objectives.adversarial_base import AdversarialState
from jaxgen.ops import coords
from jaxgen.ops.interpolate import bilinear
from jaxgen.parallel.plan import Plan
from jaxgen.training.checkpoint import newest_state
from jaxgen.training.workdir import read_config

PyTree = Any
TABLE = 'embedding/table'


def warm_start(
    state: AdversarialState, config: ConfigDict, plan: Plan
) -> tuple[AdversarialState, str]:
    """`state` with the weights of the run, or the converted weights, in `config.init_from`.

    Args:
      state: of the new run, before its first step.
      config: of the new run.
      plan: where its arrays lie.

    Returns:
      The state, and a line that says what was taken.

    Raises:
      UserError: there is no such run, or its generator is another one.
    """
    workdir, ring = config.init_from, config.model.get('cylindrical', False)
    weights = _read(workdir, plan)
    own = jax.device_get(state)
    generator = _same_generator(weights['generator'], own.generator.params, workdir, ring)
    ema = _same_generator(weights['ema'], own.ema, workdir, ring)
    discriminator, taken = _what_fits(weights['discriminator'], own.discriminator.params)
    own = own.replace(
        generator=own.generator.replace(params=generator, stats=weights['stats']),
        discriminator=own.discriminator.replace(params=discriminator),
        ema=ema,
    )
    count = len(jax.tree.leaves(discriminator))
    line = (
        f'starting from {workdir!r}: the generator, {taken} of {count} arrays of the discriminator'
    )
    # Through a compiled identity: no two arrays of the new state may share a buffer.
    place = jax.jit(lambda tree: tree, out_shardings=plan.state_sharding())
    return place(own), line


def _read(workdir: str, plan: Plan) -> dict[str, PyTree]:
    """The parameters 'generator', 'ema', 'discriminator' and 'stats' of a folder, as numpy."""
    folder = pathlib.Path(workdir).expanduser()
    try:
        config = read_config(folder)
    except UserError as error:
        raise UserError(f'init_from: {error}') from error
    if config.task != 'adversarial':
        raise UserError(f'init_from: {workdir!r} is a run of the task {config.task!r}')
    if (folder / imported.WEIGHTS).exists():
        networks = imported.load(folder).networks
        ema = networks['ema']
        return {
            'generator': networks.get('generator', ema)['params'],
            'ema': ema['params'],
            'discriminator': networks.get('discriminator', {}).get('params', {}),
            'stats': ema['stats'],
        }
    shapes = jax.eval_shape(tasks.make_objective(config).init_state, jax.random.key(0))
    found = newest_state(folder, shapes, plan.state_sharding())
    if found is None:
        raise UserError(f'init_from: {workdir!r} has no checkpoint yet')
    state = jax.device_get(found[1])
    return {
        'generator': state.generator.params,
        'ema': state.ema,
        'discriminator': state.discriminator.params,
        'stats': state.generator.stats,
    }


def _same_generator(given: PyTree, wanted: PyTree, workdir: str, ring: bool) -> PyTree:
    """`given`, with the embedding on the grid of `wanted`."""
    given, wanted = _flat(given), _flat(wanted)
    table = given.get(TABLE)
    if table is not None and TABLE in wanted and table.shape[2] == wanted[TABLE].shape[2]:
        given[TABLE] = resample_table(table, wanted[TABLE].shape[:2], ring=ring)
    for name in sorted(given.keys() | wanted.keys()):
        there = given[name].shape if name in given else 'absent'
        here = wanted[name].shape if name in wanted else 'absent'
        if there != here:
            raise UserError(
                f'init_from: the generator of {workdir!r} is another one: {name} is {there} there '
                f'and {here} here'
            )
    return _nested({name: given[name] for name in wanted})


def resample_table(table: np.ndarray, frame: tuple[int, int], *, ring: bool = False) -> np.ndarray:
    """A coordinate embedding `[H, W, C]` read at the points of another frame (height, width)."""
    if table.shape[:2] == tuple(frame):
        return table
    places = coords.ring_points(*frame) if ring else coords.points(*frame)
    return np.asarray(bilinear(table, places, ring=ring)).reshape(*frame, -1)


def _what_fits(given: PyTree, wanted: PyTree) -> tuple[PyTree, int]:
    """`wanted` with the arrays of `given` that have its name and shape, and their number."""
    given, wanted = _flat(given), _flat(wanted)
    fits = [n for n, x in wanted.items() if n in given and given[n].shape == x.shape]
    return _nested(wanted | {name: given[name] for name in fits}), len(fits)


def _flat(tree: PyTree) -> dict[str, np.ndarray]:
    return traverse_util.flatten_dict(dict(tree), sep='/')


def _nested(flat: dict[str, np.ndarray]) -> PyTree:
    return traverse_util.unflatten_dict(flat, sep='/')
