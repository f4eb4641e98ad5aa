"""The whole training step of CIPS (D, R1 every 16, G, Adam, EMA), beside eager PyTorch.

    python experiments/speed/train_step.py [--json] [--quick]

A phase is measured alone; the step is D + R1/16 + G. PyTorch runs the same formulas on the same
initial parameters, with the faster of its two formulations of the modulated layers.
"""

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import timing
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.objectives.base import Phase
from jaxgen.ops.coords import points
from jaxgen.parallel.flops import count_macs


def wide(config: ConfigDict) -> ConfigDict:
    """The demo at 64² with 128 channels, and twice the discriminator's."""
    config.model.update(size=64, features=128, first_width=128, block_widths=(128,) * 4)
    config.discriminator.channels = (128, 128, 128, 64, 32)
    return config


def random_images(config: ConfigDict) -> np.ndarray:
    """A batch `[B, H, W, 3]` of noise."""
    shape = (config.batch_size, *tasks.image_shape(config))
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def jaxgen_phases(
    config: ConfigDict, image: np.ndarray
) -> tuple[dict[str, Callable[[], Any]], dict[str, float], Any]:
    """Calls of each compiled phase, their GFLOP, and the initial state."""
    plan = tasks.make_plan(config, jax.devices()[:1])
    objective = tasks.make_objective(config, plan.layout)
    key = jax.random.key(0)
    batch = dict(image=image, slot=np.arange(config.batch_size, dtype=np.int32))
    state = plan.compile_init(objective.init_state)(key)
    initial = jax.device_get(state)
    gflop = {p.name: 2e-9 * count_macs(p.update, state, batch, key) for p in objective.phases()}
    batch = plan.put_batch(batch)
    # The state is donated to each call, so it has to be handed on from call to call.
    held = [state]

    def caller(phase: Phase) -> Callable[[], Any]:
        update = plan.compile_step(phase.update).lower(state, batch, key).compile()

        def call() -> Any:
            held[0], metrics = update(held[0], batch, key)
            return held[0], metrics

        return call

    return {phase.name: caller(phase) for phase in objective.phases()}, gflop, initial


def torch_phases(
    config: ConfigDict, images: np.ndarray, state: Any, form: str
) -> dict[str, Callable[[], Any]]:
    """The same phases in PyTorch."""
    import torch
    import torch_peer

    trainer = torch_peer.Trainer(
        state.generator.params,
        state.discriminator.params,
        np.array(points(*tasks.image_shape(config)[:2])),
        form=form,
        ema_decay=config.ema_decay,
        r1_weight=config.loss.r1_weight,
        r1_every=config.loss.r1_every,
    )
    image = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    return {
        'discriminator': lambda: trainer.discriminator(image),
        'r1': lambda: trainer.r1(image),
        'generator': lambda: trainer.generator(image),
    }


def require_the_same_penalty(config: ConfigDict, calls: list[Callable[[], Any]]) -> None:
    """The first call's R1 depends on images and initial parameters alone: D and its gradient."""
    (_, metrics), *others = [call() for call in calls]
    own = 0.5 * config.loss.r1_weight * config.loss.r1_every * float(metrics['loss/r1'].total)
    for other in others:
        np.testing.assert_allclose(other, own, rtol=1e-3, err_msg='not the same formula')


def measure(name: str, config: ConfigDict, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each phase and one for the step."""
    images = random_images(config)
    calls, gflop, state = jaxgen_phases(config, images)
    shares = {p: 1 / config.loss.r1_every if p == 'r1' else 1.0 for p in calls}
    functions = {('jaxgen', phase): call for phase, call in calls.items()}
    kinds = ['jaxgen']
    if importlib.util.find_spec('torch'):
        for kind in ('weights', 'activations'):
            kinds.append(kind)
            torch_calls = torch_phases(config, images, state, kind)
            functions |= {(kind, phase): call for phase, call in torch_calls.items()}
    require_the_same_penalty(config, [functions[kind, 'r1'] for kind in kinds])
    functions['matmul'], matmul_gflop = timing.matmul(options.quick)
    seconds = timing.in_turns(functions, 2 if options.quick else 7, options.clock)
    for kind in kinds:
        seconds[kind, 'step'] = sum(shares[p] * seconds[kind, p] for p in calls)
    gflop['step'] = sum(shares[p] * gflop[p] for p in calls)
    best = min(kinds[1:], key=lambda kind: np.median(seconds[kind, 'step']), default=None)

    rows = []
    for phase in (*calls, 'step'):
        own = seconds['jaxgen', phase]
        other = None if best is None else seconds[best, phase]
        peak_share = gflop[phase] / own * seconds['matmul'] / matmul_gflop
        rows.append(
            {
                'measured': f'{name}: {phase}, img/s',
                'jaxgen': float(config.batch_size / np.median(own)),
                'other': None if best is None else float(config.batch_size / np.median(other)),
                'ratio': None if best is None else float(np.median(other / own)),
                'gflop': gflop[phase],
                'share of matmul peak': float(np.median(peak_share)),
            }
        )
    return rows


def main() -> None:
    """Measures and prints."""
    options = timing.parser(__doc__).parse_args()
    if options.quick:
        rows = measure('smoke', timing.get_config('smoke'), options)
    else:
        rows = measure('demo 32², width 48', timing.get_config('demo'), options)
        rows += measure('64², width 128', wide(timing.get_config('demo')), options)
    timing.report(rows, options.json)


if __name__ == '__main__':
    main()
