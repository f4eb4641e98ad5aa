"""Devices to compile for without having them, and what the chips can do.

`v5e:4x4` is a slice of 4 × 4 TPU v5e chips, described by libtpu on any machine; `cpu:8` is eight
simulated CPU devices, for tests and for a first look without libtpu. Units: bytes, seconds, FLOP/s.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping

import jax
from jax.experimental import topologies

from jaxgen.errors import UserError

GIB = 2**30
# Equal fusions are compiled once: half the time for CIPS, with the same memory and cycles.
OPTIONS = {'xla_jf_hlo_deduplication': 'true'}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak figures of one TPU chip.

    Attributes:
        memory: main memory (HBM) that a program may use: the limit that libtpu's compiler states
            when a program exceeds it, a little under the nominal size.
        flops: matrix multiply-adds in bfloat16, FLOP/s.
        bandwidth: of the main memory, bytes/s.
        link_bandwidth: of one link to a neighbour, one way, bytes/s.
        links: number of those.
        clock: cycles/s: `flops` over what the chip's matrix units do in a cycle; None: not known.
        source: where the figures come from.
    """

    memory: int
    flops: float
    bandwidth: float
    link_bandwidth: float
    links: int
    clock: float | None
    source: str

    def share(self, parts: int) -> Chip:
        """One of `parts` devices that a chip appears as, with its part of everything but links."""
        return dataclasses.replace(
            self,
            memory=self.memory // parts,
            flops=self.flops / parts,
            bandwidth=self.bandwidth / parts,
        )


_CLOUD = 'Cloud TPU documentation, system architecture pages'
CHIPS = {
    'v3': Chip(
        int(30.96 * GIB), 123e12, 900e9, 82e9, 4, 0.94e9,
        f'{_CLOUD}; links: 656 Gb/s each, Jouppi et al., CACM 63 (2020)',
    ),
    'v4': Chip(
        int(30.5 * GIB), 275e12, 1228e9, 50e9, 6, 1.05e9,
        f'{_CLOUD} (2400 Gb/s a chip over 6 links)',
    ),
    'v5e': Chip(
        int(15.75 * GIB), 197e12, 819e9, 50e9, 4, 1.5e9,
        f'{_CLOUD} (400 GB/s both ways over 4 links)',
    ),
    'v5p': Chip(
        int(95.74 * GIB), 459e12, 2765e9, 100e9, 6, 1.75e9,
        f'{_CLOUD} (1200 GB/s both ways over 6 links)',
    ),
    'v6e': Chip(
        int(31.25 * GIB), 918e12, 1640e9, 100e9, 4, None,
        f'{_CLOUD} (800 GB/s both ways over 4 links)',
    ),
}  # fmt: skip
EXAMPLES = (
    'v3:2x2',
    'v4:2x2x4',
    'v5e:2x2',
    'v5e:4x4',
    'v5e:16x16',
    'v5p:2x2x2',
    'v6e:8x8',
    'cpu:8',
)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Attributes:
        device: what each of them can do; None for CPUs.
        options: of the compiler, for a result that is the same sooner.
    """

    name: str
    devices: tuple[jax.Device, ...]
    chips: int
    device: Chip | None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def platform(self) -> str:
        """'tpu' or 'cpu'."""
        return self.devices[0].platform


def open_topology(name: str) -> Topology:
    """Describes the devices of `v5e:4x4` (chips by axis) or `cpu:8` (simulated devices).

    Call it before anything else uses jax: it keeps jax off a TPU that the machine itself may have.

    Raises:
        UserError: unknown name or impossible shape, libtpu not installed, or fewer CPU devices
            than asked for because jax has started already.
    """
    match = re.fullmatch(r'([a-z0-9]+):(\d+(?:x\d+)*)', name)
    family, shape = match.groups() if match else (name, '')
    if not match or (family not in CHIPS and family != 'cpu'):
        raise UserError(
            f'unknown topology {name!r}: known are {", ".join(EXAMPLES)} and other shapes'
        )
    return _cpus(name, shape) if family == 'cpu' else _tpus(name, CHIPS[family])


def _cpus(name: str, count: str) -> Topology:
    if not count.isdigit() or int(count) < 1:
        raise UserError(f'topology cpu:N takes a number of devices from 1, got {name!r}')
    try:
        jax.config.update('jax_platforms', 'cpu')
        jax.config.update('jax_num_cpu_devices', int(count))
    except RuntimeError:
        pass  # jax has started; it may have enough devices all the same
    devices = jax.devices('cpu')
    if len(devices) < int(count):
        raise UserError(
            f'topology {name} needs {count} CPU devices, jax has started with {len(devices)}'
        )
    return Topology(name, tuple(devices[: int(count)]), int(count), None)


def _tpus(name: str, chip: Chip) -> Topology:
    if importlib.util.find_spec('libtpu') is None:
        raise UserError(
            f'topology {name} needs libtpu, which is not installed here: '
            'run `make pod-check`, which makes an environment with it, or take cpu:8'
        )
    # libtpu would ask the cloud's metadata server, and wait, for what these tell it.
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-16')
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
    jax.config.update('jax_platforms', 'cpu')
    try:
        described = topologies.get_topology_desc(platform='tpu', topology_name=name)
    except Exception as error:  # libtpu raises several kinds
        reason = str(error).splitlines()[0].rstrip('.')
        raise UserError(
            f'libtpu knows no topology {name!r} ({reason}): try {", ".join(EXAMPLES)}'
        ) from None
    devices = tuple(described.devices)
    chips = len({tuple(device.coords) for device in devices})
    return Topology(name, devices, chips, chip.share(len(devices) // chips), OPTIONS)
