"""StyleGAN2 and StyleGAN3 at 64², channel base 32768, batch 4: forward pass and training step,
beside eager PyTorch (`torch_stylegan.py`).

    python experiments/speed/stylegan.py [--json] [--quick] [--clock=cpu] [--networks=stylegan2,…]
        [--kept]

A phase is measured alone; the step is G + PL/4 + D + R1/16 + the averages. Style mixing and
augmentation are off in both. --kept adds rows of StyleGAN3 without rematerialisation; with R that
is more than 24 GiB hold. `MiB` are the temporaries of the compiled program as XLA plans them.
Aims: 1.0 times PyTorch for StyleGAN2, 1.5 for StyleGAN3.
"""

import argparse
import importlib.util
import runpy
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import timing
from ml_collections import ConfigDict

from jaxgen import tasks
from jaxgen.objectives.base import Phase
from jaxgen.parallel.flops import count_macs

NETWORKS = ('stylegan2', 'stylegan3-t', 'stylegan3-r')
VARIANTS = {'stylegan2': 'ffhq256', 'stylegan3-t': 't256', 'stylegan3-r': 'r256'}


def get_config(network: str, quick: bool) -> ConfigDict:
    """The published config at the size that is compared."""
    file = f'configs/{network.partition("-")[0]}.py'
    config = runpy.run_path(str(timing.ROOT / file))['get_config'](VARIANTS[network]).unlock()
    # In R twice the discriminator's, as published.
    wider = config.model.channel_base // config.discriminator.channel_base
    base, most = (256, 8) if quick else (32768, 512)
    config.update(
        dict(
            batch_size=4,
            model=dict(
                size=16 if quick else 64, channel_base=base * wider, channel_max=most * wider
            ),
            discriminator=dict(channel_base=base, channel_max=most, clamp=None),
            loss=dict(r1_weight=1.0, style_mixing=0.0, blur_sigma=0.0),
        )
    )
    if network == 'stylegan2':
        config.model.clamp = None
    config.model.dtype = config.discriminator.dtype = 'float32'
    return config


class Own:
    """jaxgen's compiled functions for one config."""

    def __init__(self, config: ConfigDict) -> None:
        plan = tasks.make_plan(config, jax.devices()[:1])
        self.objective = tasks.make_objective(config, plan.layout)
        key, shape = jax.random.key(0), (config.batch_size, *tasks.image_shape(config))
        self.image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        batch = dict(image=self.image, slot=np.arange(config.batch_size, dtype=np.int32))
        # The state is donated to each call, so it has to be handed on from call to call.
        self.state = plan.compile_init(self.objective.init_state)(key)
        self.initial = jax.device_get(self.state)
        phases = self.objective.phases()
        self.shares = {phase.name: 1 / phase.every for phase in phases}
        self.gflop = {
            phase.name: 2e-9 * count_macs(phase.update, self.state, batch, key) for phase in phases
        }
        self.batch, self.key = plan.put_batch(batch), key
        self.mib: dict[str, float] = {}
        self.calls = {phase.name: self._caller(plan, phase) for phase in phases}
        self._add_forward()

    def _caller(self, plan: Any, phase: Phase) -> Callable[[], Any]:
        arguments = self.state, self.batch, self.key
        update = plan.compile_step(phase.update).lower(*arguments).compile()
        self.mib[phase.name] = update.memory_analysis().temp_size_in_bytes / 2**20

        def call() -> Any:
            self.state, metrics = update(self.state, self.batch, self.key)
            return self.state, metrics

        return call

    def _add_forward(self) -> None:
        generator = self.objective.generator
        learner, noise = self.initial.generator, {}
        if hasattr(generator, 'noise'):
            noise['noise'] = jax.random.split(self.key, len(self.image))
        self.z = np.random.default_rng(1).normal(size=(len(self.image), generator.latent))
        self.z = self.z.astype(np.float32)
        variables = {'params': learner.params, 'stats': learner.stats}

        def generate(variables: Any, z: jax.Array) -> jax.Array:
            return generator.apply(variables, z, **noise)

        self.gflop['forward'] = 2e-9 * count_macs(generate, variables, self.z)
        compiled = jax.jit(generate).lower(variables, self.z).compile()
        self.mib['forward'] = compiled.memory_analysis().temp_size_in_bytes / 2**20
        variables = jax.device_put(variables)
        self.calls['forward'] = lambda: compiled(variables, self.z)


def torch_calls(own: Own, config: ConfigDict) -> dict[str, Callable[[], Any]]:
    """The same functions in PyTorch; empty without it."""
    if not importlib.util.find_spec('torch'):
        return {}
    import torch
    import torch_peer
    import torch_stylegan as peer

    learner = own.initial.generator
    g = torch_peer.from_numpy(learner.params, requires_grad=True)
    d = torch_peer.from_numpy(own.initial.discriminator.params, requires_grad=True)
    if config.model.network == 'stylegan2':
        generate, synthesize = peer.stylegan2, peer.stylegan2_synthesis
    else:
        specs = own.objective.generator.specs()[1]
        stats, filters = torch_peer.from_numpy(learner.stats), peer.filters_of(specs)
        synthesize = None

        def generate(p: Any, z: torch.Tensor) -> torch.Tensor:
            return peer.stylegan3(p, stats, specs, filters, z)

    trainer = peer.Trainer(generate, g, d, synthesize=synthesize, r1_weight=config.loss.r1_weight)
    image = torch.from_numpy(own.image.transpose(0, 3, 1, 2).copy())
    z = torch.from_numpy(own.z)

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return generate(g, z)

    phases = {
        'generator': lambda: trainer.generator(image),
        'path_length': lambda: trainer.path_length(image),
        'discriminator': lambda: trainer.discriminator(image),
        'r1': lambda: trainer.r1(image),
        'average': lambda: trainer.average_parameters(image),
    }
    return {name: call for name, call in phases.items() if name in own.calls} | {'forward': forward}


def require_the_same_formula(own: Own, other: dict[str, Callable], config: ConfigDict) -> None:
    """The same images of the same latents, and the same R1 at the initial parameters."""
    images = other['forward']().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, own.calls['forward'](), atol=2e-3)
    _, metrics = own.calls['r1']()
    factor = 0.5 * config.loss.r1_weight * config.loss.r1_every
    np.testing.assert_allclose(other['r1'](), factor * metrics['loss/r1'].total, rtol=1e-3)


def measure(network: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for the forward pass, each phase and the step, in img/s."""
    config = get_config(network, options.quick)
    own = {'': Own(config)}
    if options.kept and config.model.network == 'stylegan3':
        config.model.remat = False
        own[', all kept'] = Own(config)
    other = torch_calls(own[''], config)
    if other:
        require_the_same_formula(own[''], other, config)
    functions = {(label, name): call for label, o in own.items() for name, call in o.calls.items()}
    functions |= {('torch', name): call for name, call in other.items()}
    functions['matmul'], matmul_gflop = timing.matmul(options.quick)
    seconds = timing.in_turns(functions, 2 if options.quick else 3, options.clock)
    shares = own[''].shares
    for label in (*own, *(['torch'] if other else [])):
        seconds[label, 'step'] = sum(shares[p] * seconds[label, p] for p in shares)
    rows = []
    for label, each in own.items():
        each.gflop['step'] = sum(shares[p] * each.gflop[p] for p in shares)
        each.mib['step'] = max(each.mib[p] for p in shares)
        for name in ('forward', *(p for p in shares if p != 'average'), 'step'):
            mine, theirs = seconds[label, name], seconds.get(('torch', name))
            share = each.gflop[name] / mine * seconds['matmul'] / matmul_gflop
            rows.append(
                {
                    'measured': f'{network}{label}: {name}, img/s',
                    'jaxgen': float(config.batch_size / np.median(mine)),
                    'other': None if theirs is None else config.batch_size / np.median(theirs),
                    'ratio': None if theirs is None else float(np.median(theirs / mine)),
                    'gflop': each.gflop[name],
                    'share of matmul peak': float(np.median(share)),
                    'MiB': each.mib[name],
                }
            )
    return rows


def main() -> None:
    """Measures and prints."""
    parser = timing.parser(__doc__)
    parser.add_argument('--kept', action='store_true', help='also without rematerialisation')
    parser.add_argument('--networks', default=','.join(NETWORKS), help='some of them')
    options = parser.parse_args()
    names = options.networks.split(',')
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f'--networks must be some of {NETWORKS}, got {unknown}')
    for name in names:  # Half an hour each: what is measured is shown at once.
        timing.report(measure(name, options), options.json)


if __name__ == '__main__':
    main()
