"""What every objective shares: the protocol of the loop, phases, metrics as sums and counts."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Batch = Mapping[str, jax.Array]
Metrics = dict[str, 'Mean']
PyTree = Any


def identity(tree: PyTree) -> PyTree:
    """The mean over one device."""
    return tree


@flax.struct.dataclass
class Learner:
    """A network in training: parameters, other collections, state of its optimiser."""

    params: PyTree
    stats: PyTree
    optimizer: PyTree


@flax.struct.dataclass
class Mean:
    """A mean kept as its sum and its count, so that batches of any size merge exactly."""

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, values: jax.Array) -> 'Mean':
        """The mean of all entries of `values`."""
        dtype = jnp.promote_types(values.dtype, jnp.float32)
        return cls(jnp.sum(values.astype(dtype)), jnp.asarray(values.size, dtype))


def merge(steps: Iterable[Metrics]) -> dict[str, float]:
    """Means over several steps, on the host; names without any count are left out."""
    totals: dict[str, np.ndarray] = {}
    for metrics in steps:
        for name, mean in metrics.items():
            pair = np.array([mean.total, mean.count], np.float64)
            totals[name] = totals.get(name, 0) + pair
    return {name: float(t / c) for name, (t, c) in totals.items() if c > 0}


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a training step that is compiled on its own and runs every `every` steps.

    `update(state, batch, key, *, mean) -> (state, metrics)` is pure. `key` is the run's: the phase
    folds the step's number in. `mean` averages a pytree over the devices that hold other examples:
    the identity where the compiler does that (jit), `lax.pmean` under pmap.

    Lazy regularisation is a phase because the host can then leave it out: as a `lax.cond` inside
    one compiled step R1 took 5 times as long on a CPU (its convolutions lose the fast path).
    """

    name: str
    every: int
    update: Callable[..., tuple[PyTree, Metrics]]


class Objective(Protocol):
    """A training problem as pure functions."""

    def init_state(self, key: jax.Array, batch: Batch | None = None) -> PyTree:
        """The state before the first step.

        `batch` is the first one, for a model that scales itself to its data; shapes do not depend
        on it.
        """

    def phases(self) -> tuple[Phase, ...]:
        """What a training step consists of, in order; the last phase counts the step."""

    def sample(
        self, variables: PyTree, keys: jax.Array, label: jax.Array | None = None
    ) -> jax.Array:
        """Images `[B, H, W, C]` from `[B]` keys."""


def train_step(
    phases: Iterable[Phase], step: int, state: PyTree, batch: Batch, key: jax.Array
) -> tuple[PyTree, Metrics]:
    """One whole training step: the phases that are due at `step`, in order.

    `step` is the host's copy of `state.step`. The phases' updates may be compiled or not.
    """
    metrics: Metrics = {}
    for phase in phases:
        if step % phase.every == 0:
            state, more = phase.update(state, batch, key)
            metrics |= more
    return state, metrics
