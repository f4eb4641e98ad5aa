"""Names of metrics: each spells its protocol, with the number of generated images in it.

    fid50k_full     Fréchet distance to all reals; Inception 2015-12-05, resize as of 'tf1'; ddof 0
    kid50k_full     kernel distance: 100 subsets of 1000, up to 1,000,000 reals
    pr50k3_full     precision and recall: VGG16's second dense layer, k = 3, up to 200,000 reals
    is50k           inception score in 10 splits
    ppl2_wend       perceptual path length in W: 50k pairs, ε 1e-4, at t = 0, LPIPS of VGG16
    eqt50k_int, eqt50k_frac, eqr50k   equivariance of StyleGAN3, in decibels
    swd             sliced Wasserstein distance to held-out images: 512 of each
    spectrum        mean difference of azimuthal power spectra in decibels: 10k images of each
    bits_per_dim    mean over all held-out images

Another count is another name: fid2k_full, kid500_full, is1k, swd256, spectrum2k, ppl2_wend2k.
Generated images have truncation 1, the averaged parameters and labels drawn from the data set.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxgen.errors import UserError


class Kind(NamedTuple):
    """Of metrics that differ in the count alone.

    Attributes:
      spelling: the name, {} is the count.
      count: what the name without a count means; 0: a count must be given.
      least: the fewest images of a set that it is defined for.
      line: the protocol, as it is recorded.
      higher: whether more is better.
    """

    spelling: str
    count: int
    least: int
    line: str
    higher: bool = False


_INCEPTION = 'Inception 2015-12-05, resize tf1'
KINDS: Mapping[str, Kind] = {
    'fid': Kind('fid{}_full', 0, 2, f'{_INCEPTION}, pool3, all reals without flips, covariance /N'),
    'kid': Kind(
        'kid{}_full', 0, 2, f'{_INCEPTION}, pool3, 100 subsets of 1000, (x·y/d+1)³, max 1M reals'
    ),
    'pr': Kind(
        'pr{}3_full', 0, 4,
        'VGG16 fc7 after its ReLU, bilinear to 224, k 3, float16, max 200k reals', True,
    ),
    'is': Kind('is{}', 0, 10, f'{_INCEPTION}, 1008 outputs without bias, 10 splits', higher=True),
    'ppl': Kind(
        'ppl2_wend{}', 50_000, 2, 'W, t 0, ε 1e-4, whole images, squares down to 256, LPIPS VGG16, '
        'mean from the 1st to the 99th percentile',
    ),
    'eqt_int': Kind('eqt{}_int', 0, 4, 'whole pixels up to 1/8, one shift per 4 images', True),
    'eqt_frac': Kind('eqt{}_frac', 0, 4, 'up to 1/8, Lanczos a 3, one shift per 4 images', True),
    'eqr': Kind('eqr{}', 0, 4, 'any angle, pseudo-rotated, one angle per 4 images', True),
    'swd': Kind('swd{}', 512, 1, 'Laplacian levels, 32 patches of 7×7, 64 projections, held-out'),
    'spectrum': Kind('spectrum{}', 10_000, 1, 'azimuthal mean power of grey, mean |dB| over rings'),
    'bits_per_dim': Kind('bits_per_dim', 1, 1, 'every held-out image once'),
}  # fmt: skip
WITH_REALS = ('fid', 'kid', 'pr', 'spectrum')
GROUPED = ('eqt_int', 'eqt_frac', 'eqr')  # four images share a transform
# Only a model has them, not a folder of images.
OF_MODELS = ('ppl', *GROUPED, 'bits_per_dim')


class Metric(NamedTuple):
    """A metric as asked for: its name, its kind, how many generated images."""

    name: str
    kind: str
    count: int

    @property
    def line(self) -> str:
        """The protocol."""
        return KINDS[self.kind].line

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return KINDS[self.kind].higher

    @property
    def least(self) -> int:
        """The fewest images of a set that it is defined for."""
        return KINDS[self.kind].least

    def needs(self, available: int, what: str) -> None:
        """UserError where there are fewer images than the metric takes; it offers one that fits."""
        if available >= self.count:
            return
        if available < self.least:
            raise UserError(
                f'{self.name} needs {self.count} images, and no metric of its kind fewer than '
                f'{self.least}; {what} has {available}'
            )
        raise UserError(
            f'{self.name} needs {self.count} images, {what} has {available}: '
            f'ask for {spell(self.kind, available)}'
        )


def spell(kind: str, count: int) -> str:
    """The name of a metric with this count."""
    if count == KINDS[kind].count:
        return KINDS[kind].spelling.replace('{}', '')
    text = f'{count // 1000}k' if count % 1000 == 0 else str(count)
    return KINDS[kind].spelling.replace('{}', text)


def parse(names: str) -> list[Metric]:
    """The metrics of 'fid50k_full,swd', each once.

    Raises:
      UserError: a name that is none, or a count that is too small.
    """
    found = [_parse_one(name.strip()) for name in names.split(',') if name.strip()]
    if not found:
        raise UserError(f'--metrics must name one or more, e.g. fid50k_full,swd, got {names!r}')
    return list(dict.fromkeys(found))


def _parse_one(name: str) -> Metric:
    for kind, (spelling, count, least, *_) in KINDS.items():
        before, placeholder, after = spelling.partition('{}')
        number = r'(\d+k?)' + ('?' if count else '') if placeholder else '()'
        match = re.fullmatch(re.escape(before) + number + re.escape(after), name)
        if not match:
            continue
        if match[1]:
            count = int(match[1].rstrip('k')) * (1000 if match[1].endswith('k') else 1)
        if count < least:
            raise UserError(f'{name} must be of {least} images or more, got {count}')
        if kind in GROUPED and count % 4:
            raise UserError(f'{name} must be of a multiple of 4 images, got {count}')
        return Metric(name, kind, count)
    known = ', '.join(spell(kind, spec.count or 50_000) for kind, spec in KINDS.items())
    raise UserError(f'--metrics must be of {known}, or with another count, got {name!r}')
