"""FID of jaxgen against an independent PyTorch implementation, on the same random weights.

    python experiments/fid_against_torch/run.py --torch=PYTHON_WITH_TORCH --count=1000

See README.md.
"""

import argparse
import pathlib
import subprocess
import tempfile
import time
from typing import NamedTuple

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent


class Case(NamedTuple):
    """Two sets of images and a network.

    Attributes:
      published: the network as a state dict under its published names (.npz).
      converted: the same as jaxgen reads it.
      arrays: both sets as uint8 [N, H, W, 3] (.npy).
      folders: both sets as PNG files.
    """

    published: pathlib.Path
    converted: pathlib.Path
    arrays: list[pathlib.Path]
    folders: list[pathlib.Path]


def random_weights(seed=0):
    """A state dict of the FID Inception under published names, with batch statistics."""
    from jaxgen.interop import inception

    rng, weights = np.random.default_rng(seed), {}
    for name, shape in inception.shapes().items():
        if name.endswith('weight') and len(shape) > 1:
            x = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(('running_var', 'bn.weight')):
            x = rng.uniform(0.5, 1.5, shape)
        else:
            x = 0.1 * rng.normal(size=shape)
        weights[name] = x.astype(np.float32)
    return weights


def random_images(count, side, seed, softness):
    """Soft random blobs, uint8: two softnesses are two distributions."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 256, (count, side // softness, side // softness, 3)).astype(np.uint8)
    resize = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), resize)) for x in small])


def write_case(at, count, side):
    """A `Case` in the folder `at`: `count` images of `side` pixels in each set."""
    from jaxgen.interop import feature_networks, inception

    case = Case(
        at / 'published.npz',
        at / 'inception.npz',
        [at / 'a.npy', at / 'b.npy'],
        [at / 'a', at / 'b'],
    )
    weights = random_weights()
    np.savez(case.published, **weights)
    network = feature_networks.Converted('inception', '', 'random', *inception.from_torch(weights))
    feature_networks.save(case.converted, network)
    for array, folder, softness in zip(case.arrays, case.folders, (4, 8), strict=True):
        images = random_images(count, side, softness, softness)
        np.save(array, images)
        folder.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / f'{i:05}.png')
    return case


def by_jaxgen(case, count, cache, **options):
    """The metric's name and value, as `python -m jaxgen.evaluate --images --reference` has them."""
    from jaxgen.evaluation import protocols, runs

    ours, theirs = map(str, case.folders)
    weights = {'inception': str(case.converted)}
    options = runs.Options(reference=theirs, cache=str(cache), weights=weights, **options)
    name = protocols.spell('fid', count)
    (result,) = runs.evaluate_images(ours, protocols.parse(name), options)
    return name, result.values[name]


def by_torch(case, python, side=299):
    """The distance, and the processor time of an image in ms."""
    files = map(str, (HERE / 'torch_fid.py', case.published, *case.arrays))
    done = subprocess.run([python, *files, str(side)], stdout=subprocess.PIPE, text=True)
    done.check_returncode()
    return tuple(map(float, done.stdout.split()))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--torch', required=True, help='a Python that has torch and numpy')
    parser.add_argument('--count', type=int, default=1000, help='images of each set')
    parser.add_argument('--side', type=int, default=64)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        case = write_case(at, arguments.count, arguments.side)
        began = time.process_time()
        name, ours = by_jaxgen(case, arguments.count, at / 'cache')
        spent = 1000 * (time.process_time() - began) / (2 * arguments.count)
        theirs, torch_spent = by_torch(case, arguments.torch)
    print(f'{name}: jaxgen {ours:.8g}, torch {theirs:.8g}, relative {abs(ours / theirs - 1):.2g}')
    print(
        f'processor time of an image: jaxgen {spent:.0f} ms with all else, torch {torch_spent:.0f}'
    )


if __name__ == '__main__':
    main()
