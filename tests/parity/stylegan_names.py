"""The published names and layouts of StyleGAN2's and StyleGAN3's variables: the importer's own.

A golden case without a place for a name, or with two for one, fails with KeyError or ValueError.
"""

from jaxgen.interop.stylegan_names import (
    MAPPING,
    STYLEGAN2,
    discriminator_modules,
    is_dropped,
    place,
    stylegan3_modules,
    to_ours,
    to_published,
    to_variables,
)

__all__ = [
    'MAPPING',
    'STYLEGAN2',
    'discriminator_modules',
    'is_dropped',
    'place',
    'stylegan3_modules',
    'to_ours',
    'to_published',
    'to_variables',
]
