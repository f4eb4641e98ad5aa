"""The mesh ('data', 'pixel') and where the arrays of a training step lie on it.

    discriminator, per image:   images  [B, H, W, C]   P(('data', 'pixel'))
    generator, per pixel:       pixels  [B, N, C]      P('data', 'pixel')
                                w       [B, W]         P('data')
    state                                              P()      (replicated)

The generator of CIPS never looks at another pixel, so its activations split over both axes; one
all-to-all of the RGB image switches to whole images for the discriminator.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.errors import UserError

DATA, PIXEL = 'data', 'pixel'


def make_mesh(data: int = -1, pixel: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A ('data', 'pixel') mesh over `devices` (default: all); `data=-1` takes what `pixel` leaves.

    Raises:
      UserError: the axes don't multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    if pixel < 1 or count % pixel:
        raise UserError(f'mesh.pixel must divide the {count} devices, got {pixel}')
    if data == -1:
        data = count // pixel
    if data * pixel != count:
        raise UserError(f'mesh.data × mesh.pixel must be the {count} devices, got {data} × {pixel}')
    return Mesh(np.asarray(devices).reshape(data, pixel), (DATA, PIXEL))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Constraints on the arrays of a step; without a mesh each is the identity."""

    mesh: Mesh | None = None

    def images(self, x: jax.Array) -> jax.Array:
        """Whole images `[B, ...]`: the batch over all devices."""
        return self._constrain(x, (DATA, PIXEL))

    def styles(self, w: jax.Array) -> jax.Array:
        """Styles `[B, W]`: every device has those of its rows, whichever pixels it draws."""
        return self._constrain(w, DATA)

    def pixels(self, x: jax.Array) -> jax.Array:
        """Lists of pixels `[B, N, C]`; a leading 1 is shared by the batch."""
        return self._constrain(x, DATA if x.shape[0] > 1 else None, PIXEL)

    def _constrain(self, x: jax.Array, *spec: str | tuple[str, str] | None) -> jax.Array:
        if self.mesh is None or self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(*spec)))
