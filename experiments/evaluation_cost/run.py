"""Memory and time of evaluating 50,000 images, without the network: what is kept of its features.

    python -m experiments.evaluation_cost.run --metric=fid50k_full

See README.md.
"""

import argparse
import json
import pathlib
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np

WIDTHS = {'inception': {'pool': 2048, 'logits': 1008}, 'vgg': {'dense': 4096}}


class Noise(Sequence):
    """So many random 8×8 images, a function of `seed`, none of which is kept."""

    num_classes, image_shape = 0, (8, 8, 3)

    def __init__(self, count: int, seed: int) -> None:
        self.name, self._count, self._seed = f'noise {seed}', count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self._seed, index])
        return {'image': rng.integers(0, 256, self.image_shape, dtype=np.uint8)}

    def fingerprint_parts(self) -> Iterator[bytes]:
        yield f'{self._count} {self._seed}'.encode()


def small_network(kind, mesh):
    """Features as wide as those of the real network, from one product."""
    import jax.numpy as jnp

    from jaxgen.evaluation import networks

    rng = np.random.default_rng(0)
    variables = {
        name: rng.normal(size=(8 * 8 * 3, width)).astype(np.float32) / 1000
        for name, width in WIDTHS[kind].items()
    }

    def see(variables, images):
        rows = images.reshape(len(images), -1) - 128
        found = {name: jnp.sin(rows @ matrix) for name, matrix in variables.items()}
        return {
            name: x.astype(jnp.float16 if kind == 'vgg' else x.dtype) for name, x in found.items()
        }

    return networks.make_network(f'small {kind}', variables, see, mesh)


def held():
    """Bytes of this process that no file backs, now, and the most that it had in all."""
    status = pathlib.Path('/proc/self/status').read_text()
    anonymous = int(status.split('RssAnon:')[1].split()[0])
    return 1024 * anonymous, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def watch(stop, seen):
    """Notes the largest figure of `held` until stopped."""
    while not stop.wait(0.05):
        seen[0] = max(seen[0], held()[0])


def measure(metric, count, cache):
    """The metric of `count` images against as many; a row of figures."""
    import threading

    from jaxgen.evaluation import networks, protocols
    from jaxgen.evaluation.images import of_source
    from jaxgen.evaluation.measure import Sets, measure
    from jaxgen.parallel.mesh import make_mesh

    mesh = make_mesh()
    for kind, name in (('inception', 'inception'), ('vgg', 'vgg16')):
        network = small_network(kind, mesh)
        setattr(networks, name, lambda flag, metric, mesh, network=network: network)
    sets = Sets(
        images=of_source(Noise(count, 1), mesh),
        reals=lambda: Noise(count, 2),
        held_out=None,
        run=None,
        mesh=mesh,
    )
    (wanted,) = protocols.parse(metric)
    before, stop, seen = held()[0], threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(stop, seen))
    watcher.start()
    began = time.process_time()
    (result,) = measure([wanted], sets, cache, cache)
    spent = time.process_time() - began
    stop.set()
    watcher.join()
    return {
        'values': dict(result.values),
        'images': f'{count} + {count}',
        'MiB more at most': round((seen[0] - before) / 2**20),
        'seconds of processor': round(spent),
    }


def time_distance(width=2048):
    """Seconds of `frechet_distance` between two full-rank statistics."""
    from jaxgen.metrics.frechet import frechet_distance
    from jaxgen.metrics.stats import moments_of

    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(width, width)) * np.exp(-np.arange(width) / 300)
    pair = [moments_of(rng.normal(size=(2 * width, width)) @ mixed) for _ in range(2)]
    wall, spent = time.perf_counter(), time.process_time()
    frechet_distance(*pair, ddof=0)
    return {
        'distance': f'{width} features',
        'seconds': round(time.perf_counter() - wall, 1),
        'seconds of processor': round(time.process_time() - spent, 1),
    }


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--metric', default='fid50k_full')
    parser.add_argument('--distance', action='store_true', help='only the Fréchet distance')
    arguments = parser.parse_args(argv)
    if arguments.distance:
        print(json.dumps(time_distance()))
        return
    from jaxgen.evaluation import protocols

    (metric,) = protocols.parse(arguments.metric)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(metric.name, metric.count, pathlib.Path(folder))))


if __name__ == '__main__':
    main()
