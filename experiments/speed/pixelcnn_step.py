"""The whole training step of the Gated PixelCNN (gradient, Adam, EMA), beside eager PyTorch.

    python experiments/speed/pixelcnn_step.py [--json] [--quick]

Both start from the same parameters and images, and their first losses must agree.
"""

import argparse
import importlib.util
import runpy
from typing import Any

import jax
import numpy as np
import timing
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.nn.autoregressive import CausalConv
from jaxgen.objectives.base import merge


def get_config(variant: str, **model: Any) -> ConfigDict:
    """A variant of configs/pixelcnn.py with other fields of the model."""
    path = str(timing.ROOT / 'configs' / 'pixelcnn.py')
    config = runpy.run_path(path)['get_config'](variant).unlock()
    config.model.update(model)
    return config


def masks_of(objective: Any) -> dict[str, Any]:
    """The masks of the network's convolutions, in the layout of its parameters."""
    bound = objective.model.bind({'params': {}})
    names = ('h', 'out')

    def mask(layer: CausalConv) -> dict[str, np.ndarray]:
        return {'kernel': layer.mask}

    found = {
        block.name: {name: mask(getattr(block, name)) for name in names} for block in bound.stack
    }
    head = bound.head_layers
    return found | {'head': {'first': mask(head.first), 'second': mask(head.second)}}


def measure(name: str, config: ConfigDict, options: argparse.Namespace) -> dict[str, Any]:
    """A row: images a second."""
    plan = tasks.make_plan(config, jax.devices()[:1])
    objective = tasks.make_objective(config, plan.layout)
    shape = (config.batch_size, *tasks.image_shape(config))
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    batch = {'image': image, 'slot': np.arange(len(image), dtype=np.int32)}
    key = jax.random.key(0)
    state = plan.compile_init(objective.init_state)(key)
    initial, levels = jax.device_get(state.learner.params), objective.levels_of(batch)
    batch = plan.put_batch(batch)
    (phase,) = objective.phases()
    update = plan.compile_step(phase.update).lower(state, batch, key).compile()
    held = [state]

    def own() -> Any:
        held[0], metrics = update(held[0], batch, key)
        return held[0], metrics

    calls = {'jaxgen': own}
    first = merge([own()[1]])['bits_per_dim/train']
    if importlib.util.find_spec('torch'):
        import torch_pixelcnn

        peer = torch_pixelcnn.Trainer(
            initial,
            masks_of(objective),
            config.model.levels,
            config.optimizer.learning_rate,
            config.ema_decay,
        )
        pixels = torch_pixelcnn.as_pixels(np.asarray(levels))
        np.testing.assert_allclose(peer.step(pixels), first, rtol=1e-4, err_msg='another formula')
        calls['torch'] = lambda: peer.step(pixels)
    seconds = timing.in_turns(calls, 2 if options.quick else 7, options.clock)
    other = seconds.get('torch')
    return {
        'measured': f'{name}: step, img/s',
        'jaxgen': float(len(image) / np.median(seconds['jaxgen'])),
        'other': None if other is None else float(len(image) / np.median(other)),
        'ratio': None if other is None else float(np.median(other / seconds['jaxgen'])),
    }


def main() -> None:
    """Measures and prints."""
    options = timing.parser(__doc__).parse_args()
    small = dict(levels=32, features=32, blocks=5, head=64)
    cases = {
        'digits, 8², 32 features × 5': get_config('mnist_demo'),
        'photographs, 32², 32 features × 5': get_config('cifar10_demo', **small),
        '32², 48 features × 6, 256 levels': get_config(
            'cifar10_demo', levels=256, features=48, blocks=6, head=96
        ),
    }
    if options.quick:
        cases = {'smoke': get_config('mnist_smoke', blocks=1)}
    rows = [measure(name, config, options) for name, config in cases.items()]
    timing.report(rows, options.json)


if __name__ == '__main__':
    main()
