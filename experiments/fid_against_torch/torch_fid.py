"""FID in PyTorch, written for this comparison from the paper's formula and the network's layers.

    python torch_fid.py WEIGHTS.npz A.npy B.npy [SIDE]

WEIGHTS.npz is a state dict of the FID Inception network under its published names; A and B are
uint8 [N, H, W, 3]. Prints the distance, and on a second line the processor time of an image in ms.
The network sees them at SIDE pixels, 299 as published; images of that size stay as they are. Needs
torch and numpy, and nothing of jaxgen: batch normalisation is not folded, layers are NCHW, the
covariance comes from all features at once, and its root from eigenvectors.
"""

import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


class Network:
    """Pooled features of images seen at `side` pixels; `weights` by published names."""

    def __init__(self, weights, side=299):
        self.side = side
        self.weights = {name: torch.from_numpy(np.asarray(x)) for name, x in weights.items()}

    def conv(self, x, name, stride=1, padding=0):
        def of(part):
            return self.weights[f'{name}.{part}']

        x = F.conv2d(x, of('conv.weight'), stride=stride, padding=padding)
        mean, variance = of('bn.running_mean'), of('bn.running_var')
        x = F.batch_norm(x, mean, variance, of('bn.weight'), of('bn.bias'), eps=1e-3)
        return F.relu(x)

    def chain(self, x, block, *layers):
        for name, padding in layers:
            x = self.conv(x, f'{block}.{name}', padding=padding)
        return x

    def pooled(self, x, block, kind='average'):
        if kind == 'average':
            x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        else:
            x = F.max_pool2d(x, 3, stride=1, padding=1)
        return self.conv(x, f'{block}.branch_pool')

    def block_a(self, x, b):
        parts = [
            self.chain(x, b, ('branch1x1', 0)),
            self.chain(x, b, ('branch5x5_1', 0), ('branch5x5_2', 2)),
            self.chain(x, b, ('branch3x3dbl_1', 0), ('branch3x3dbl_2', 1), ('branch3x3dbl_3', 1)),
        ]
        return torch.cat([*parts, self.pooled(x, b)], 1)

    def block_b(self, x, b):
        deep = self.chain(x, b, ('branch3x3dbl_1', 0), ('branch3x3dbl_2', 1))
        deep = self.conv(deep, f'{b}.branch3x3dbl_3', stride=2)
        return torch.cat([self.conv(x, f'{b}.branch3x3', 2), deep, F.max_pool2d(x, 3, 2)], 1)

    def block_c(self, x, b):
        wide, tall = (0, 3), (3, 0)
        parts = [
            self.chain(x, b, ('branch1x1', 0)),
            self.chain(x, b, ('branch7x7_1', 0), ('branch7x7_2', wide), ('branch7x7_3', tall)),
            self.chain(
                x, b, ('branch7x7dbl_1', 0), ('branch7x7dbl_2', tall), ('branch7x7dbl_3', wide),
                ('branch7x7dbl_4', tall), ('branch7x7dbl_5', wide),
            ),
        ]  # fmt: skip
        return torch.cat([*parts, self.pooled(x, b)], 1)

    def block_d(self, x, b):
        small = self.conv(self.conv(x, f'{b}.branch3x3_1'), f'{b}.branch3x3_2', stride=2)
        deep = self.chain(
            x, b, ('branch7x7x3_1', 0), ('branch7x7x3_2', (0, 3)), ('branch7x7x3_3', (3, 0))
        )
        deep = self.conv(deep, f'{b}.branch7x7x3_4', stride=2)
        return torch.cat([small, deep, F.max_pool2d(x, 3, 2)], 1)

    def block_e(self, x, b, kind):
        shallow = self.conv(x, f'{b}.branch3x3_1')
        deep = self.chain(x, b, ('branch3x3dbl_1', 0), ('branch3x3dbl_2', 1))
        split = [
            self.conv(y, f'{b}.{name}{end}', padding=padding)
            for y, name in ((shallow, 'branch3x3_2'), (deep, 'branch3x3dbl_3'))
            for end, padding in (('a', (0, 1)), ('b', (1, 0)))
        ]
        return torch.cat([self.conv(x, f'{b}.branch1x1'), *split, self.pooled(x, b, kind)], 1)

    @torch.no_grad()
    def __call__(self, images):
        x = tensorflow_resize(torch.from_numpy(images).permute(0, 3, 1, 2).float(), self.side)
        x = (x - 128) / 128
        x = self.conv(x, 'Conv2d_1a_3x3', stride=2)
        x = self.conv(x, 'Conv2d_2a_3x3')
        x = F.max_pool2d(self.conv(x, 'Conv2d_2b_3x3', padding=1), 3, 2)
        x = self.conv(self.conv(x, 'Conv2d_3b_1x1'), 'Conv2d_4a_3x3')
        x = F.max_pool2d(x, 3, 2)
        for name in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d'):
            x = self.block_a(x, name)
        x = self.block_b(x, 'Mixed_6a')
        for name in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'):
            x = self.block_c(x, name)
        x = self.block_d(x, 'Mixed_7a')
        x = self.block_e(x, 'Mixed_7b', 'average')
        return self.block_e(x, 'Mixed_7c', 'maximum').mean((2, 3)).numpy()


def tensorflow_resize(x, side):
    """Bilinear to a square from source coordinates i·in/out, as TensorFlow 1 did."""
    for axis in (2, 3):
        size = x.shape[axis]
        place = torch.arange(side, dtype=torch.float32) * (size / side)
        low = place.long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        part = (place - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x


def distance(a, b):
    """Fréchet distance of features, covariances divided by N: tr √(ΣaΣb) = tr √(√Σa Σb √Σa)."""
    moments = [(x.mean(0), np.cov(x, rowvar=False, ddof=0)) for x in (a, b)]
    (mean_a, cov_a), (mean_b, cov_b) = moments
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    shift = mean_a - mean_b
    return float(shift @ shift + np.trace(cov_a + cov_b) - 2 * cross)


def main():
    # Together they cost more processor time than they save.
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as file:
        weights = {name: file[name] for name in file.files}
    network = Network(weights, *map(int, sys.argv[4:]))
    features, began = [], time.process_time()
    for path in sys.argv[2:4]:
        images = np.load(path)
        parts = [network(images[i : i + 50]) for i in range(0, len(images), 50)]
        features.append(np.concatenate(parts).astype(np.float64))
    spent = time.process_time() - began
    print(repr(distance(*features)))
    print(1000 * spent / sum(map(len, features)))


if __name__ == '__main__':
    main()
