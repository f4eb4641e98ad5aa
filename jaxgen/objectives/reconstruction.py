"""Auto-encoders: codes of images, and images of codes (arXiv 1606.05328, section 2.4).

    PixelCNNReconstruction    bits per dimension of an image given its own code; draws from a code
    SquaredError              mean squared error on the scale of [-1, 1]; a code is one image

The bits of the first leave out those of the code, a vector of floats: they compare auto-encoders
of one code length with each other, and are no likelihood of the image.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxgen.errors import UserError
from jaxgen.models.pixelcnn_autoencoder import squared_error
from jaxgen.objectives.base import Batch
from jaxgen.objectives.likelihood import Fit, Likelihood, draw

PyTree = Any


class _Codes:
    """What both have in common: `encode`, and that images are drawn from codes alone."""

    def encode(self, variables: PyTree, image: jax.Array) -> jax.Array:
        """Codes `[B, m]` of images `[B, H, W, C]` in [-1, 1]."""
        pixels = self.levels_of({'image': image})
        return self.model.apply(variables, pixels, method='encode')

    def sample(
        self, variables: PyTree, keys: jax.Array, label: jax.Array | None = None, **options: Any
    ) -> jax.Array:
        """UserError: there is no distribution of codes to draw from."""
        raise UserError(
            'an auto-encoder draws from the codes of images, not from nothing: use '
            'python -m jaxgen.apps.reconstructions'
        )


@dataclasses.dataclass(frozen=True)
class PixelCNNReconstruction(_Codes, Likelihood):
    """Encoder and conditional PixelCNN decoder, end to end on the decoder's likelihood.

    `model`: a `PixelCNNAutoencoder`.
    """

    def decode(
        self,
        variables: PyTree,
        code: jax.Array,
        keys: jax.Array,
        *,
        temperature: float | jax.Array = 1.0,
        mesh: Mesh | None = None,
    ) -> jax.Array:
        """Images `[B, H, W, C]` in [-1, 1] drawn from codes `[B, m]`, with noise of `keys [B]`."""
        decoder = {'params': variables['params']['decoder']}
        return draw(
            self.model.decoder,
            decoder,
            keys,
            self.frame,
            {'embedding': code},
            temperature=temperature,
            mesh=mesh,
        )


@dataclasses.dataclass(frozen=True)
class SquaredError(_Codes, Fit):
    """The same encoder with a deconvolutional decoder. `model`: an `MSEAutoencoder`."""

    measured: ClassVar[str] = 'squared_error'

    def measure(
        self, variables: PyTree, batch: Batch, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(sum of the images' errors, images)."""
        errors = self.score(variables, batch)
        return errors.sum(), jnp.asarray(errors.shape[0], errors.dtype)

    def score(self, variables: PyTree, batch: Batch) -> jax.Array:
        """Mean squared error `[B]` of each image of a batch."""
        pixels = self.levels_of(batch)
        return squared_error(self.model.apply(variables, pixels), pixels, self.model.levels)

    def decode(
        self,
        variables: PyTree,
        code: jax.Array,
        keys: jax.Array | None = None,
        *,
        temperature: float | jax.Array = 1.0,
        mesh: Mesh | None = None,
    ) -> jax.Array:
        """Images `[B, H, W, C]` around [-1, 1] of codes `[B, m]`; there is nothing to draw."""
        del keys, temperature, mesh
        return self.model.apply(variables, code, self.frame, method='decode')
