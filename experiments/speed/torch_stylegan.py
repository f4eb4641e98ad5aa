"""StyleGAN2 and StyleGAN3 and their training step in plain eager PyTorch: what to compare with.

The formulas and the layout of the parameters are jaxgen's, so that `torch_peer.from_numpy` of a
jaxgen parameter tree gives the same images. Styles scale activations, FIR filters are depthwise
convolutions (transposed ones upsample, so no zeros are stored), Adam is fused.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch_peer import Params, dense, descend, discriminate, leaves, lrelu, mapping

from jaxgen.models.stylegan3_plan import LayerSpec

Axes = tuple[tuple[int, int], tuple[int, int]]


def modulated_conv(
    x: torch.Tensor,
    kernel: torch.Tensor,
    style: torch.Tensor,
    *,
    demodulate: bool = True,
    up: bool = False,
    gain: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    """The activations are scaled, before by the style and after by the demodulation."""
    side = kernel.shape[-1]
    y = x * (style * gain)[:, :, None, None]
    if up:
        y = F.conv_transpose2d(y, kernel.transpose(0, 1), stride=2)
    else:
        y = F.conv2d(y, kernel, padding=side // 2)
    if not demodulate:
        return y
    scale = torch.rsqrt(style.square() @ kernel.square().sum((2, 3)).t() + 1e-8)
    return y * scale[:, :, None, None]


def fir(x: torch.Tensor, taps: torch.Tensor, padding: Axes, down: int = 1) -> torch.Tensor:
    """A depthwise convolution along both axes, or one with a `[K, K]` filter."""
    (top, bottom), (left, right) = padding
    x, channels = F.pad(x, (left, right, top, bottom)), x.shape[1]
    if taps.ndim == 2:
        return F.conv2d(x, taps.expand(channels, 1, -1, -1), stride=down, groups=channels)
    x = F.conv2d(x, taps[:, None].expand(channels, 1, -1, 1), stride=(down, 1), groups=channels)
    return F.conv2d(x, taps[None].expand(channels, 1, 1, -1), stride=(1, down), groups=channels)


def fir_up(x: torch.Tensor, taps: torch.Tensor, up: int, padding: Axes) -> torch.Tensor:
    """Upsamples by a depthwise transposed convolution, whose result is cropped or padded."""
    channels, reach = x.shape[1], len(taps) - 1
    weight = taps[:, None].expand(channels, 1, -1, 1)
    x = F.conv_transpose2d(x, weight, stride=(up, 1), groups=channels)
    weight = taps[None].expand(channels, 1, 1, -1)
    x = F.conv_transpose2d(x, weight, stride=(1, up), groups=channels)
    # All of the transposed convolution is `reach` before the first sample, and after the last one
    # `reach` more, where the definition has up - 1 zeros.
    (top, bottom), (left, right) = padding
    extra = up - 1 - reach
    return F.pad(x, (left - reach, right + extra, top - reach, bottom + extra))


BLUR = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def stylegan2(p: Params, z: torch.Tensor, noise: bool = True) -> torch.Tensor:
    """Images `[B, 3, H, W]` of the architecture 'skip'; `noise`: new maps for each layer."""
    w = mapping(p['mapping'], z)
    return stylegan2_synthesis(p, w, noise)


def stylegan2_synthesis(p: Params, w: torch.Tensor, noise: bool = True) -> torch.Tensor:
    """The same from w `[B, style]`."""
    constant = p['constant'].permute(2, 0, 1)
    x, image, side = constant.expand(len(w), -1, -1, -1), None, 4
    while f'block_{side}' in p:
        block = p[f'block_{side}']
        for name in ('conv0', 'conv1'):
            if name not in block:
                continue
            layer, up = block[name], name == 'conv0'
            style = dense(layer['affine'], w)
            # A transposed convolution flips its kernel, as the published upsampling layers do.
            x = modulated_conv(x, layer['kernel'], style, up=up)
            if up:
                x = fir(x, BLUR * 2, ((1, 1), (1, 1)))
            if noise:
                x = x + layer['noise_scale'] * torch.randn(len(x), 1, *x.shape[2:])
            x = lrelu(x + layer['bias'][:, None, None])
        rgb = block['to_rgb']
        style = dense(rgb['affine'], w) * (1 / math.sqrt(x.shape[1]))
        y = modulated_conv(x, rgb['kernel'], style, demodulate=False)
        y = y + rgb['bias'][:, None, None]
        image = y if image is None else y + fir_up(image, BLUR * 2, 2, ((2, 1), (2, 1)))
        side *= 2
    return image


def stylegan3(
    p: Params, stats: Params, specs: tuple[LayerSpec, ...], filters: list, z: torch.Tensor
) -> torch.Tensor:
    """Images `[B, 3, H, W]`; `filters` are those of `filters_of(specs)`."""
    w = mapping(p['mapping'], z)
    x = fourier_input(p['input'], stats['input'], specs[0], w)
    for i, (spec, pair) in enumerate(zip(specs, filters, strict=True)):
        name = 'to_rgb' if spec.to_rgb else f'layer_{i}'
        x = stylegan3_layer(p[name], stats[name]['magnitude'], spec, pair, x, w)
    return 0.25 * x


def filters_of(specs: tuple[LayerSpec, ...]) -> list:
    """(up, down) filters of each layer, None where there are none."""

    def tensor(taps: np.ndarray | None) -> torch.Tensor | None:
        if taps is None or taps.size == 1:
            return None
        return torch.from_numpy(np.array(taps, np.float32))

    return [(tensor(spec.up_filter()), tensor(spec.down_filter())) for spec in specs]


def fourier_input(p: Params, stats: Params, spec: LayerSpec, w: torch.Tensor) -> torch.Tensor:
    """Fourier features under the transform that w asks for."""
    t = dense(p['affine'], w)
    t = t / t[:, :2].norm(dim=1, keepdim=True)
    cos, sin, x, y = t.t()[:, :, None]
    fx, fy = stats['frequencies'].t()
    # Translation behind rotation: the phases take -(x, y) of the turned frequencies.
    fx, fy = fx * cos + fy * sin, fy * cos - fx * sin
    phases = stats['phases'] - fx * x - fy * y
    beyond = ((fx.square() + fy.square()).sqrt() - spec.in_cutoff) / (
        spec.in_rate / 2 - spec.in_cutoff
    )
    amplitudes = (1 - beyond).clamp(0, 1)
    height, width = spec.in_size
    rows = (torch.arange(height) + 0.5 - height / 2) / spec.in_rate
    columns = (torch.arange(width) + 0.5 - width / 2) / spec.in_rate
    fx, fy, phases, amplitudes = (v[:, None, None, :] for v in (fx, fy, phases, amplitudes))
    turns = fx * columns[None, None, :, None] + fy * rows[None, :, None, None] + phases
    waves = torch.sin(2 * math.pi * turns) * amplitudes
    return (waves @ (p['kernel'] * (1 / math.sqrt(waves.shape[-1])))).permute(0, 3, 1, 2)


def stylegan3_layer(
    p: Params,
    magnitude: torch.Tensor,
    spec: LayerSpec,
    filters: tuple[torch.Tensor | None, torch.Tensor | None],
    x: torch.Tensor,
    w: torch.Tensor,
) -> torch.Tensor:
    """One layer."""
    kernel, style, gain = p['kernel'], dense(p['affine'], w), magnitude.rsqrt()
    if spec.to_rgb:
        style = style * (1 / math.sqrt(x.shape[1]))
    else:
        kernel = kernel * kernel.square().mean((1, 2, 3), keepdim=True).rsqrt()
        style = style * style.square().mean().rsqrt()
    x = F.pad(x, ((kernel.shape[-1] - 1) // 2,) * 4)
    x = modulated_conv(x, kernel, style, demodulate=not spec.to_rgb, gain=gain)
    x = x + p['bias'][:, None, None]
    up, down = filters
    if up is not None:
        x = fir_up(x, up * spec.up, spec.up, spec.padding)
    else:
        (top, bottom), (left, right) = spec.padding
        x = F.pad(x, (left, right, top, bottom))
    x = x if spec.to_rgb else lrelu(x)
    x = x.clamp(-256, 256)
    return x if down is None else fir(x, down, ((0, 0), (0, 0)), spec.down)


class Trainer:
    """The published step without style mixing and augmentation. Each method is one phase.

    Args:
      synthesize: from (parameters, w) to images, for path lengths; None: there is none.
    """

    def __init__(
        self,
        generate: Callable[[Params, torch.Tensor], torch.Tensor],
        generator: Params,
        discriminator: Params,
        *,
        synthesize: Callable[[Params, torch.Tensor], torch.Tensor] | None,
        r1_weight: float,
        r1_every: int = 16,
        path_length_weight: float = 2.0,
        path_length_every: int = 4,
        learning_rate: float = 2e-3,
    ) -> None:
        self.generate, self.synthesize = generate, synthesize
        self.g, self.d = generator, discriminator
        self.average = [p.detach().clone() for p in leaves(self.g)]
        self.r1_factor = r1_weight / 2 * r1_every
        self.length_factor, self.length_mean = path_length_weight * path_length_every, 0.0
        adam = dict(lr=learning_rate, betas=(0.0, 0.99), fused=True)
        self.adam_g = torch.optim.Adam(leaves(self.g), **adam)
        self.adam_d = torch.optim.Adam(leaves(self.d), **adam)
        self.latent = self.g['mapping']['layer_0']['kernel'].shape[0]

    def generator(self, image: torch.Tensor) -> float:
        """Non-saturating loss of G."""
        self._require(self.d, False)
        fake = self.generate(self.g, torch.randn(len(image), self.latent))
        value = descend(self.adam_g, F.softplus(-discriminate(self.d, fake)).mean())
        self._require(self.d, True)
        return value

    def path_length(self, image: torch.Tensor) -> float:
        """The penalty on half of the batch."""
        w = mapping(self.g['mapping'], torch.randn(len(image) // 2, self.latent))
        fake = self.synthesize(self.g, w)
        direction = torch.randn_like(fake) / math.sqrt(fake.shape[2] * fake.shape[3])
        (gradient,) = torch.autograd.grad((fake * direction).sum(), w, create_graph=True)
        lengths = gradient.square().sum(1).sqrt()
        mean = self.length_mean + 0.01 * (lengths.mean() - self.length_mean)
        self.length_mean = mean.detach()
        penalty = (lengths - mean).square().mean()
        return descend(self.adam_g, penalty * self.length_factor)

    def discriminator(self, image: torch.Tensor) -> float:
        """Logistic loss of D."""
        with torch.no_grad():
            fake = self.generate(self.g, torch.randn(len(image), self.latent))
        real, fake = discriminate(self.d, image), discriminate(self.d, fake)
        return descend(self.adam_d, F.softplus(-real).mean() + F.softplus(fake).mean())

    def r1(self, image: torch.Tensor) -> float:
        """R1 at the real images."""
        image = image.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            discriminate(self.d, image).sum(), image, create_graph=True
        )
        return descend(self.adam_d, self.r1_factor * gradient.square().sum() / len(image))

    def average_parameters(self, image: torch.Tensor) -> None:
        """EMA of G."""
        with torch.no_grad():
            torch._foreach_lerp_(self.average, leaves(self.g), 0.001)

    @staticmethod
    def _require(params: Params, wanted: bool) -> None:
        for p in leaves(params):
            p.requires_grad_(wanted)
