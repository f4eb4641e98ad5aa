"""CIPS, its discriminator and its training step in plain eager PyTorch: the speed to compare with.

The formulas and the layout of the parameters are jaxgen's, so that `from_numpy` of a jaxgen
parameter tree gives the same images and scores. Written for speed within eager PyTorch: both
formulations of the modulated layer, separable filters, fused Adam.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Params = dict[str, Any]
SQRT2 = math.sqrt(2)
FORMS = ('weights', 'activations')


def from_numpy(tree: Any, *, requires_grad: bool = False) -> Any:
    """A tree of arrays as tensors; kernels `[h, w, in, out]` become `[out, in, h, w]`."""
    if hasattr(tree, 'items'):
        return {k: from_numpy(v, requires_grad=requires_grad) for k, v in tree.items()}
    array = np.array(tree)
    if array.ndim == 4:
        array = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    return torch.from_numpy(array).requires_grad_(requires_grad)


def leaves(tree: Any) -> list[torch.Tensor]:
    """The tensors of a tree."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    return [tree]


def lrelu(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU with gain √2."""
    return F.leaky_relu(x, 0.2) * SQRT2


def dense(p: Params, x: torch.Tensor, lr_multiplier: float = 1.0) -> torch.Tensor:
    """Equalised dense layer."""
    kernel = p['kernel'] * (lr_multiplier / math.sqrt(x.shape[-1]))
    return torch.addmm(p['bias'] * lr_multiplier, x, kernel)


def modulated(
    p: Params, x: torch.Tensor, w: torch.Tensor, demodulate: bool, form: str
) -> torch.Tensor:
    """Modulated dense layer, `[1 or B, N, C]` to `[B, N, D]`."""
    style = dense(p['affine'], w)
    kernel = p['kernel'] * (1 / math.sqrt(x.shape[-1]))
    scale = torch.rsqrt(style.square() @ kernel.square() + 1e-8) if demodulate else None
    if form == 'weights':
        weights = style[:, :, None] * kernel
        if demodulate:
            weights = weights * scale[:, None, :]
        return torch.bmm(x.expand(len(w), -1, -1), weights)
    y = (x * style[:, None, :]) @ kernel
    return y * scale[:, None, :] if demodulate else y


def mapping(p: Params, z: torch.Tensor) -> torch.Tensor:
    """z to w."""
    x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
    for i in range(len(p)):
        x = lrelu(dense(p[f'layer_{i}'], x, 0.01))
    return x


def generate(p: Params, z: torch.Tensor, coords: torch.Tensor, form: str) -> torch.Tensor:
    """Images `[B, 3, H, W]` of latents on the training grid `coords [H·W, 2]`."""
    w = mapping(p['mapping'], z)
    height, width, features = p['embedding']['table'].shape
    fourier = torch.sin(coords @ p['fourier']['kernel'] + p['fourier']['bias'])
    x = torch.cat([fourier, p['embedding']['table'].reshape(-1, features)], 1)[None]
    x = lrelu(modulated(p['input'], x, w, True, form) + p['input']['bias'])
    image = 0
    for i in range(sum(name.startswith('block') for name in p)):
        block = p[f'block_{i}']
        for layer in (block['layer_0'], block['layer_1']):
            x = lrelu(modulated(layer, x, w, True, form) + layer['bias'])
        rgb = modulated(block['to_rgb'], x, w, False, form) + block['to_rgb']['bias']
        image = image + rgb
    return image.reshape(len(z), height, width, 3).permute(0, 3, 1, 2)


def blur(x: torch.Tensor, padding: tuple[int, int], stride: int = 1) -> torch.Tensor:
    """[1, 3, 3, 1] along both axes, as slices and adds, as in jaxgen."""
    x = F.pad(x, padding + padding)
    for axis in (2, 3):
        length = (x.shape[axis] - 4) // stride + 1
        a, b, c, d = (
            x[(slice(None),) * axis + (slice(i, i + stride * (length - 1) + 1, stride),)]
            for i in range(4)
        )
        x = (a + d) * (1 / 8) + (b + c) * (3 / 8)
    return x


def conv(p: Params, x: torch.Tensor, padding: int = 0, stride: int = 1) -> torch.Tensor:
    """Equalised convolution."""
    kernel = p['kernel'] * (1 / math.sqrt(p['kernel'][0].numel()))
    return F.conv2d(x, kernel, p.get('bias'), stride, padding)


def discriminate(p: Params, image: torch.Tensor, group: int = 4) -> torch.Tensor:
    """Scores `[B]` of images `[B, 3, H, W]`."""
    x = lrelu(conv(p['from_rgb'], image))
    while f'block_{x.shape[2]}' in p:
        block = p[f'block_{x.shape[2]}']
        y = lrelu(conv(block['conv0'], x, padding=1))
        y = lrelu(conv(block['conv1'], blur(y, (2, 2)), stride=2))
        x = (conv(block['skip'], blur(x, (1, 1), stride=2)) + y) * (1 / SQRT2)
    batch, channels, height, width = x.shape
    group = min(group, batch)
    std = x.reshape(batch // group, group, channels, height, width).var(1, correction=0)
    std = torch.sqrt(std + 1e-8).mean((1, 2, 3)).repeat_interleave(group)
    x = torch.cat([x, std[:, None, None, None].expand(-1, 1, height, width)], 1)
    x = lrelu(conv(p['final_conv'], x, padding=1)).permute(0, 2, 3, 1).reshape(batch, -1)
    return dense(p['score'], lrelu(dense(p['final_dense'], x)))[:, 0]


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """One step of the optimiser; the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


class Trainer:
    """The published training step. Each method is one of its phases."""

    def __init__(
        self,
        generator: Any,
        discriminator: Any,
        coords: np.ndarray,
        *,
        form: str,
        ema_decay: float,
        learning_rate: float = 2e-3,
        r1_weight: float = 10.0,
        r1_every: int = 16,
    ) -> None:
        self.g = from_numpy(generator, requires_grad=True)
        self.d = from_numpy(discriminator, requires_grad=True)
        self.average = [p.detach().clone() for p in leaves(self.g)]
        self.coords, self.form, self.ema_decay = torch.from_numpy(coords), form, ema_decay
        self.r1_factor = r1_weight / 2 * r1_every
        adam = dict(lr=learning_rate, betas=(0.0, 0.99), fused=True)
        self.adam_g = torch.optim.Adam(leaves(self.g), **adam)
        self.adam_d = torch.optim.Adam(leaves(self.d), **adam)
        self.latent = self.g['mapping']['layer_0']['kernel'].shape[0]

    def discriminator(self, image: torch.Tensor) -> float:
        """Logistic loss of D."""
        with torch.no_grad():
            fake = generate(self.g, self._latents(image), self.coords, self.form)
        real, fake = discriminate(self.d, image), discriminate(self.d, fake)
        return descend(self.adam_d, F.softplus(-real).mean() + F.softplus(fake).mean())

    def r1(self, image: torch.Tensor) -> float:
        """R1 at the real images."""
        image = image.detach().requires_grad_()
        score = discriminate(self.d, image).sum()
        (gradient,) = torch.autograd.grad(score, image, create_graph=True)
        return descend(self.adam_d, self.r1_factor * gradient.square().sum() / len(image))

    def generator(self, image: torch.Tensor) -> float:
        """Non-saturating loss of G, and the average of its parameters."""
        for p in leaves(self.d):
            p.requires_grad_(False)
        fake = generate(self.g, self._latents(image), self.coords, self.form)
        value = descend(self.adam_g, F.softplus(-discriminate(self.d, fake)).mean())
        for p in leaves(self.d):
            p.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, leaves(self.g), 1 - self.ema_decay)
        return value

    def _latents(self, image: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(image), self.latent)
