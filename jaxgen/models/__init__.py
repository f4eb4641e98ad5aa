"""Floor 2: one paper, one file. Importing it needs jax, flax and numpy only."""

from jaxgen.models.cips import CIPSGenerator
from jaxgen.models.discriminator import Discriminator
from jaxgen.models.pixelcnn import GatedPixelCNN, PixelCNN
from jaxgen.models.pixelcnn_autoencoder import PixelCNNAutoencoder
from jaxgen.models.pixelcnn_pp import PixelCNNpp
from jaxgen.models.pixelrnn import PixelRNN
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator

__all__ = [
    'CIPSGenerator',
    'Discriminator',
    'GatedPixelCNN',
    'PixelCNN',
    'PixelCNNAutoencoder',
    'PixelCNNpp',
    'PixelRNN',
    'StyleGAN2Generator',
    'StyleGAN3Generator',
]
