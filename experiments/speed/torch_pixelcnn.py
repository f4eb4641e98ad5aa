"""The Gated PixelCNN and its training step in plain eager PyTorch: the speed to compare with.

The formulas and the layout of the parameters are jaxgen's (shift='input', link='pre', nothing that
images are conditioned on), so that a jaxgen parameter tree gives the same loss.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch_peer import from_numpy, leaves

Params = dict[str, Any]


def gate(x: torch.Tensor) -> torch.Tensor:
    """tanh of the first half of the channels times σ of the second."""
    first, second = x.chunk(2, dim=1)
    return torch.tanh(first) * torch.sigmoid(second)


def masked(p: Params, masks: Params, x: torch.Tensor) -> torch.Tensor:
    """A convolution with its mask."""
    return F.conv2d(x, p['kernel'] * masks['kernel'], p['bias'])


def logits(p: Params, masks: Params, x: torch.Tensor) -> torch.Tensor:
    """`[B, C·L, H, W]` of centred images `x [B, C, H, W]`."""
    v, h = F.pad(x, (0, 0, 1, 0))[:, :, :-1], x
    for b in range(sum(name.startswith('block') for name in p)):
        block, mask = p[f'block_{b}'], masks[f'block_{b}']
        reach = block['v']['kernel'].shape[2] - 1
        plain = F.conv2d(
            F.pad(v, (reach, reach, reach, 0)), block['v']['kernel'], block['v']['bias']
        )
        maps = masked(block['h'], mask['h'], F.pad(h, (reach, 0, 0, 0)))
        maps = maps + F.conv2d(plain, block['v2h']['kernel'])
        v, y = gate(plain), masked(block['out'], mask['out'], gate(maps))
        h = y if b == 0 else y + h
    h = F.relu(masked(p['head']['first'], masks['head']['first'], F.relu(h)))
    return masked(p['head']['second'], masks['head']['second'], h)


class Trainer:
    """Adam on bits per dimension, and an average of the parameters."""

    def __init__(
        self, params: Any, masks: Any, levels: int, learning_rate: float, ema_decay: float
    ) -> None:
        self.params = from_numpy(params, requires_grad=True)
        self.masks, self.levels, self.ema_decay = from_numpy(masks), levels, ema_decay
        self.average = [p.detach().clone() for p in leaves(self.params)]
        self.adam = torch.optim.Adam(leaves(self.params), lr=learning_rate, fused=True)

    def step(self, pixels: torch.Tensor) -> float:
        """One step on integer images `[B, C, H, W]`; their bits per dimension before it."""
        x = pixels.float() * (2 / (self.levels - 1)) - 1
        y = logits(self.params, self.masks, x)
        y = y.reshape(len(pixels), -1, self.levels, *pixels.shape[2:]).transpose(1, 2)
        loss = F.cross_entropy(y, pixels) / math.log(2)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, leaves(self.params), 1 - self.ema_decay)
        return loss.item()


def as_pixels(levels: np.ndarray) -> torch.Tensor:
    """Integers `[B, H, W, C]` as `[B, C, H, W]`."""
    return torch.from_numpy(levels.transpose(0, 3, 1, 2).astype(np.int64).copy())
