"""How a training step meets the devices: one compiled function over all of them.

    JitPlan    `jax.jit` over a ('data', 'pixel') mesh; the compiler inserts the communication
    PmapPlan   `jax.pmap`; each device runs the step on its rows, means are taken explicitly

Both keep the state replicated with the same layout, so a checkpoint of one restores into the other.
A step, or a phase of one, is `step(state, batch, key, mean=...) -> (state, metrics)`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.errors import UserError
from jaxgen.parallel.mesh import DATA, PIXEL, Layout

PyTree = Any
Init = Callable[..., PyTree]
Step = Callable[..., tuple[PyTree, PyTree]]


class Plan(Protocol):
    """What the loop needs to know about devices."""

    mesh: Mesh
    layout: Layout

    def compile_init(self, init: Init) -> Init:
        """`init(key)`, or `init(key, batch)` with a batch of `put_batch`, as one compiled function
        whose result lies where a step wants it."""

    def compile_step(
        self, step: Step
    ) -> Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]]:
        """`step(state, batch, key)`, compiled; the old state's buffers are reused."""

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> PyTree:
        """This process's rows of a batch, on the devices."""

    def state_sharding(self) -> NamedSharding:
        """Where every array of the state lies."""


@dataclasses.dataclass(frozen=True)
class JitPlan:
    """`jax.jit` over a mesh: global arrays, the batch split over all devices."""

    mesh: Mesh

    @property
    def layout(self) -> Layout:
        """Constraints for the objective."""
        return Layout(self.mesh)

    def state_sharding(self) -> NamedSharding:
        """Replicated."""
        return NamedSharding(self.mesh, PartitionSpec())

    def batch_sharding(self) -> NamedSharding:
        """The leading axis over both mesh axes."""
        return NamedSharding(self.mesh, PartitionSpec((DATA, PIXEL)))

    def compile_init(self, init: Init) -> Init:
        """See `Plan`."""
        return jax.jit(init, out_shardings=self.state_sharding())

    def compile_step(
        self, step: Step
    ) -> Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]]:
        """See `Plan`."""
        replicated = self.state_sharding()

        def on_all_devices(state: PyTree, batch: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
            # The compiler takes the means itself; it must gather the gradients, not what the
            # optimiser makes of them (four times as much).
            return step(
                state, batch, key, mean=lambda t: jax.lax.with_sharding_constraint(t, replicated)
            )

        return jax.jit(
            on_all_devices,
            in_shardings=(replicated, self.batch_sharding(), replicated),
            out_shardings=(replicated, replicated),
            donate_argnums=0,
        )

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> PyTree:
        """See `Plan`."""
        sharding = self.batch_sharding()
        if jax.process_count() == 1:
            return jax.device_put(dict(batch), sharding)
        return {
            name: jax.make_array_from_process_local_data(sharding, rows)
            for name, rows in batch.items()
        }


@dataclasses.dataclass(frozen=True)
class PmapPlan:
    """`jax.pmap` with an unstacked, replicated state. Data parallel only."""

    mesh: Mesh

    def __post_init__(self) -> None:
        if self.mesh.shape[PIXEL] != 1:
            raise UserError(
                f"plan='pmap' splits the batch only: mesh.pixel must be 1, "
                f'got {self.mesh.shape[PIXEL]}'
            )

    @property
    def layout(self) -> Layout:
        """No constraints: a step sees one device's rows."""
        return Layout()

    def state_sharding(self) -> NamedSharding:
        """Replicated, as in `JitPlan`."""
        return NamedSharding(self.mesh, PartitionSpec())

    def compile_init(self, init: Init) -> Init:
        """See `Plan`."""

        def on_the_whole_batch(key: jax.Array, *batch: PyTree) -> PyTree:
            return init(key, *jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch))

        return jax.jit(on_the_whole_batch, out_shardings=self.state_sharding())

    def compile_step(
        self, step: Step
    ) -> Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]]:
        """See `Plan`. Everything that leaves the step must have gone through `mean`."""

        def on_one_device(state: PyTree, batch: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
            return step(state, batch, key, mean=lambda tree: jax.lax.pmean(tree, DATA))

        return jax.pmap(
            on_one_device,
            axis_name=DATA,
            in_axes=(None, 0, None),
            out_axes=(None, None),
            donate_argnums=0,
            devices=list(self.mesh.devices.flat) if jax.process_count() == 1 else None,
        )

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> PyTree:
        """See `Plan`; `[rows, ...]` becomes `[local devices, rows a device, ...]`."""
        local = len(self.mesh.local_devices)
        split = {name: x.reshape(local, -1, *x.shape[1:]) for name, x in batch.items()}
        if jax.process_count() == 1:
            return split
        # A step that is compiled ahead takes global arrays only.
        sharding = NamedSharding(self.mesh, PartitionSpec(DATA))
        return {
            name: jax.make_array_from_process_local_data(sharding, x) for name, x in split.items()
        }


PLANS = {'jit': JitPlan, 'pmap': PmapPlan}
