"""The layers of StyleGAN3 as a plan: what each may hold, how it is sampled and filtered.

Feature maps are samples of continuous signals. For every layer the plan has the largest frequency
(cutoff), the sampling rate and the size of the canvas, which reaches a margin beyond the image.
Frequencies and rates count per side of the image. Plain numbers, for NumPy; no arrays.
"""

import dataclasses

import numpy as np

from jaxgen.ops.lowpass import lowpass


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """The plan of one layer. Sizes are (height, width).

    Attributes:
      critical: sampled critically, which rules out radial filters.
      half_width: of a filter's transition band; that band is centred at the cutoff.
      filter_size: taps of a filter for each unit of its factor.
      lrelu_upsampling: of the nonlinearity, beyond the higher of both rates.
    """

    out_channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    in_rate: float
    out_rate: float
    in_cutoff: float
    out_cutoff: float
    in_half_width: float
    out_half_width: float
    to_rgb: bool = False
    critical: bool = False
    kernel_size: int = 3
    filter_size: int = 6
    lrelu_upsampling: int = 2
    radial: bool = False

    @property
    def inner_rate(self) -> float:
        """The rate of the nonlinearity."""
        rate = max(self.in_rate, self.out_rate)
        return rate if self.to_rgb else rate * self.lrelu_upsampling

    @property
    def up(self) -> int:
        """How much the input is upsampled."""
        return round(self.inner_rate / self.in_rate)

    @property
    def down(self) -> int:
        """How much the output is downsampled."""
        return round(self.inner_rate / self.out_rate)

    @property
    def up_taps(self) -> int:
        """Taps of the upsampling filter, 1 if there is none."""
        return self.filter_size * self.up if self.up > 1 and not self.to_rgb else 1

    @property
    def down_taps(self) -> int:
        """Taps of the downsampling filter, 1 if there is none."""
        return self.filter_size * self.down if self.down > 1 and not self.to_rgb else 1

    @property
    def down_radial(self) -> bool:
        """Whether the downsampling filter is the same in every direction."""
        return self.radial and not self.critical

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the upsampled image, so that the result has `out_size`; often negative."""

        def side(size_in: int, size_out: int) -> tuple[int, int]:
            # The convolution pads by kernel_size - 1, so it makes the canvas that much larger.
            canvas = (size_in + self.kernel_size - 1) * self.up
            total = (size_out - 1) * self.down + 1 - canvas + self.up_taps + self.down_taps - 2
            low = (total + self.up) // 2
            return low, total - low

        return tuple(map(side, self.in_size, self.out_size))

    def up_filter(self) -> np.ndarray | None:
        """`[up_taps]` at the inner rate, cutting at the input's cutoff."""
        return lowpass(self.up_taps, self.in_cutoff, 2 * self.in_half_width, self.inner_rate)

    def down_filter(self) -> np.ndarray | None:
        """`[down_taps]`, or `[down_taps, down_taps]` if radial, cutting at the output's cutoff."""
        width = 2 * self.out_half_width
        return lowpass(
            self.down_taps, self.out_cutoff, width, self.inner_rate, radial=self.down_radial
        )


@dataclasses.dataclass(frozen=True)
class Bands:
    """Per layer, ToRGB last: cutoff, half width of the transition band, and sampling rate."""

    cutoffs: np.ndarray
    half_widths: np.ndarray
    rates: np.ndarray


def flexible_bands(
    size: int,
    num_layers: int = 14,
    num_critical: int = 2,
    first_cutoff: float = 2.0,
    first_stopband: float = 2**2.1,
    last_stopband_rel: float = 2**0.3,
) -> Bands:
    """Configuration T: cutoff and stop band grow geometrically up to the first critical layer.

    The last cutoff is size/2, the last stop band `last_stopband_rel` times that.
    """
    if not 0 < num_critical < num_layers:
        raise ValueError(
            f'num_critical must be between 1 and num_layers - 1 = {num_layers - 1}, '
            f'got {num_critical}'
        )
    steps = np.minimum(np.arange(num_layers + 1) / (num_layers - num_critical), 1)
    last_cutoff = size / 2
    last_stopband = last_cutoff * last_stopband_rel
    cutoffs = first_cutoff * (last_cutoff / first_cutoff) ** steps
    stopbands = first_stopband * (last_stopband / first_stopband) ** steps
    rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, size))))
    return Bands(cutoffs, np.maximum(stopbands, rates / 2) - cutoffs, rates)


def octave_bands(size: int, num_critical: int = 2) -> Bands:
    """Configurations E to H: two layers for every rate from 16 to `size`, then ToRGB.

    A layer that is not critical keeps its whole transition band below half the rate.
    """
    octaves = int(np.log2(size)) - 3
    rates = 2.0 ** np.append(np.repeat(np.arange(4, 4 + octaves), 2), np.log2(size))
    half_widths = (np.sqrt(2) - 1) * rates / 2
    critical = np.arange(len(rates)) >= len(rates) - 1 - num_critical
    return Bands(rates / 2 - np.where(critical, 0, half_widths), half_widths, rates)


def layer_specs(
    bands: Bands,
    size: int,
    *,
    image_channels: int = 3,
    channel_base: int = 32768,
    channel_max: int = 512,
    num_critical: int = 2,
    margin: int = 10,
    kernel_size: int = 3,
    **filters: int | bool,
) -> tuple[int, tuple[LayerSpec, ...]]:
    """The channels of the input, and the layers, ToRGB last (section 4).

    See `StyleGAN3Generator` for the arguments; `filters` are fields of `LayerSpec`.
    """
    cutoffs, half_widths, rates = bands.cutoffs, bands.half_widths, bands.rates
    last = len(cutoffs) - 1
    sizes = rates + 2 * margin
    sizes[-2:] = size
    channels = np.rint(np.minimum(channel_base / 2 / cutoffs, channel_max))
    channels[-1] = image_channels

    def spec(i: int) -> LayerSpec:
        before, to_rgb = max(i - 1, 0), i == last
        return LayerSpec(
            out_channels=int(channels[i]),
            in_size=(int(sizes[before]),) * 2,
            out_size=(int(sizes[i]),) * 2,
            in_rate=float(rates[before]),
            out_rate=float(rates[i]),
            in_cutoff=float(cutoffs[before]),
            out_cutoff=float(cutoffs[i]),
            in_half_width=float(half_widths[before]),
            out_half_width=float(half_widths[i]),
            to_rgb=to_rgb,
            critical=i >= last - num_critical,
            kernel_size=1 if to_rgb else kernel_size,
            **filters,
        )

    return int(channels[0]), tuple(map(spec, range(last + 1)))
