"""fid2k_full of jaxgen against an independent PyTorch implementation, on the same random weights.

    python experiments/fid_against_torch/run.py --torch=PYTHON_WITH_TORCH --count=2000

See README.md.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent


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


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--torch', required=True, help='a Python that has torch, numpy and scipy')
    parser.add_argument('--count', type=int, default=2000)
    parser.add_argument('--side', type=int, default=64)
    arguments = parser.parse_args(argv)
    from jaxgen.evaluation import protocols, runs
    from jaxgen.interop import feature_networks, inception

    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        weights = random_weights()
        np.savez(at / 'published.npz', **weights)
        module, variables = inception.from_torch(weights)
        network = feature_networks.Converted('inception', '', 'random', module, variables)
        feature_networks.save(at / 'inception.npz', network)
        for name, softness in (('a', 4), ('b', 8)):
            images = random_images(arguments.count, arguments.side, ord(name), softness)
            np.save(at / f'{name}.npy', images)
            (at / name).mkdir()
            for i, image in enumerate(images):
                Image.fromarray(image).save(at / name / f'{i:05}.png')
        options = runs.Options(
            reference=str(at / 'b'),
            cache=str(at / 'cache'),
            weights={'inception': str(at / 'inception.npz')},
        )
        metric = protocols.spell('fid', arguments.count)
        (result,) = runs.evaluate_images(str(at / 'a'), protocols.parse(metric), options)
        ours = result.values[metric]
        files = [str(at / name) for name in ('published.npz', 'a.npy', 'b.npy')]
        command = [arguments.torch, str(HERE / 'torch_fid.py'), *files]
        theirs = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f'{metric}: jaxgen {ours:.8g}, torch {theirs:.8g}, relative {abs(ours / theirs - 1):.2g}')


if __name__ == '__main__':
    main()
