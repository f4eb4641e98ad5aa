"""Floor 2: one paper, one file. Importing it needs jax, flax and numpy only."""

from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator

__all__ = ['CIPSGenerator', 'Discriminator']
