"""What is collected for a metric: numbers of generated or real images, as `collect.Stream`s."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxgen.errors import UserError
from jaxgen.evaluation.collect import Stream, fingerprint, tree_digest
from jaxgen.evaluation.images import (
    Images,
    Labels,
    Rows,
    batch_size,
    from_bytes,
    over_rows,
    source_fingerprint,
    with_new_noise,
)
from jaxgen.evaluation.networks import Network
from jaxgen.metrics import equivariance, perceptual_path, spectra
from jaxgen.metrics.lpips import LPIPS
from jaxgen.objectives.sampling import draw_at_once, image_keys, latents, takes_noise_keys
from jaxgen.training.restore import LikelihoodRun, Run

PyTree = Any

GROUP = 4  # images under one transform of equivariance
TRANSFORMS = ('eqt_int', 'eqt_frac', 'eqr')


def features(images: Images, network: Network, count: int) -> Stream:
    """What a network sees in the first `count` images."""
    make = over_rows(images.make, images.mesh)

    def rows(start: int) -> Mapping[str, jax.Array]:
        made = make(images.constants, images.arguments(start))
        return network.see(network.variables, made)

    return Stream(
        f'{network.name} of {images.name}',
        fingerprint(images.fingerprint, network.name, network.digest),
        count,
        rows,
    )


def spectrum(images: Images, count: int) -> Stream:
    """Field 'profile' `[B, rings]`: the azimuthal average of each image's power, of [-1, 1]."""

    def see(constants: PyTree, arguments: PyTree) -> Mapping[str, jax.Array]:
        pixels = from_bytes(images.make(constants, arguments))[..., :3]
        power = spectra.power_spectrum(pixels)
        return {'profile': spectra.azimuthal_average(power, spectra.rings(*power.shape[1:]))}

    compiled = over_rows(see, images.mesh)
    return Stream(
        f'spectrum of {images.name}',
        fingerprint(images.fingerprint, 'spectrum'),
        count,
        lambda start: compiled(images.constants, images.arguments(start)),
    )


def pixels(images: Images, count: int) -> np.ndarray:
    """The first `count` images themselves, `[N, H, W, C]` in [-1, 1]; not kept on disk."""
    make = over_rows(lambda *given: from_bytes(images.make(*given)), images.mesh)
    everywhere = NamedSharding(images.mesh, PartitionSpec())
    gather = jax.jit(lambda rows: rows, out_shardings=everywhere)
    parts = [
        np.asarray(gather(make(images.constants, images.arguments(start))))
        for start in range(0, count, images.batch)
    ]
    return np.concatenate(parts)[:count]


def path_steps(
    run: Run, lpips: tuple[LPIPS, PyTree], count: int, *, seed: int, labels: Sequence | None
) -> Stream:
    """Field 'distance' `[B, 1]`: LPIPS over ε² of two images a step of ε apart in W, at t = 0."""
    generator, module, epsilon = with_new_noise(run.generator), lpips[0], perceptual_path.EPSILON
    if isinstance(run, LikelihoodRun):
        raise UserError(f'ppl2_wend needs a generator with a space W, {run.source!r} has none')
    chosen = Labels(labels, generator.num_classes, seed)

    def see(constants: tuple, arguments: tuple) -> Mapping[str, jax.Array]:
        variables, weights = constants
        slot, label = arguments
        keys = image_keys(seed, slot)
        ends = [
            generator.apply(
                variables,
                latents(jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys), width),
                label,
                method='mapping',
            )
            for i, width in enumerate((generator.latent,) * 2)
        ]
        near = perceptual_path.lerp(*ends, jnp.full(ends[0].shape[:-1], epsilon))
        noise = keys if takes_noise_keys(generator) else None
        images = (
            draw_at_once(generator, variables, w, run.frame, noise=noise) for w in (ends[0], near)
        )
        a, b = (perceptual_path.shrink(image) for image in images)
        return {'distance': module.apply(weights, a, b)[:, None] / epsilon**2}

    compiled = over_rows(see, run.mesh)
    constants = (run.variables, lpips[1])
    batch = max(run.mesh.size, batch_size(run.frame, run.mesh) // 2)
    return Stream(
        f'path of {run.source}',
        fingerprint(
            tree_digest(constants), repr(generator), run.frame, seed, 'ppl', *chosen.parts()
        ),
        count,
        lambda start: compiled(constants, chosen.arguments(start, batch, run.mesh)),
    )


def equivariance_errors(run: Run, count: int, *, seed: int, labels: Sequence | None) -> Stream:
    """Field 'errors' `[B, 6]`: total and count of the squared error under each of TRANSFORMS.

    Four images in a row share a transform; each has a quarter of their sums.
    """
    generator = run.generator
    if not getattr(generator, 'takes_transform', False):
        raise UserError(
            f'equivariance needs a generator that takes a transform, as StyleGAN3 does; '
            f'{run.source!r} is a {type(generator).__name__}'
        )
    chosen = Labels(labels, generator.num_classes, seed)

    def of_group(variables: PyTree, slot: jax.Array, label: jax.Array | None) -> jax.Array:
        z = latents(image_keys(seed, slot), generator.latent)
        w = generator.apply(variables, z, label, method='mapping')
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), slot[0])
        calls = itertools.count()

        def render(transform: jax.Array) -> jax.Array:
            # Noise is new for every image, as published.
            keys = jax.vmap(jax.random.fold_in, (0, None))(image_keys(seed, slot), next(calls))
            noise = keys if takes_noise_keys(generator) else None
            options = dict(noise=noise, transform=transform)
            return draw_at_once(generator, variables, w, run.frame, **options)

        errors = equivariance.measure(render, equivariance.draw(key, generator.size))
        sums = [part / GROUP for name in TRANSFORMS for part in errors[name]]
        return jnp.broadcast_to(jnp.stack(sums), (GROUP, 2 * len(TRANSFORMS)))

    def see(variables: PyTree, arguments: tuple) -> Mapping[str, jax.Array]:
        groups = jax.tree.map(lambda x: x.reshape(-1, GROUP), arguments)
        errors = jax.lax.map(lambda group: of_group(variables, *group), groups)
        return {'errors': errors.reshape(-1, errors.shape[-1])}

    compiled = over_rows(see, run.mesh)
    batch = GROUP * run.mesh.size
    return Stream(
        f'equivariance of {run.source}',
        fingerprint(tree_digest(run.variables), repr(generator), seed, 'eq', *chosen.parts()),
        count,
        lambda start: compiled(run.variables, chosen.arguments(start, batch, run.mesh)),
    )


def scores(run: LikelihoodRun, source: Sequence) -> Stream:
    """Field 'score' `[B, 1]`: bits per dimension of every image of a data set."""
    objective = getattr(run, 'objective', None)
    if getattr(objective, 'measured', None) != 'bits_per_dim':
        raise UserError(f'bits_per_dim needs a model with a likelihood, {run.source!r} has none')
    shape = (*run.frame, objective.model.colours)
    if tuple(source.image_shape) != shape:
        raise UserError(
            f'bits_per_dim needs images of {_times(shape)}, {source.name!r} has '
            f'{_times(source.image_shape)}'
        )
    if objective.num_classes > getattr(source, 'num_classes', 0):
        raise UserError(
            f'the model is conditioned on {objective.num_classes} classes, data set '
            f'{source.name!r} has {getattr(source, "num_classes", 0)}'
        )
    batch = batch_size(run.frame, run.mesh)
    rows = Rows(source, np.arange(len(source)), run.mesh, batch, label=objective.num_classes > 0)

    def see(variables: PyTree, batch: Mapping[str, jax.Array]) -> Mapping[str, jax.Array]:
        images = from_bytes(batch['image'].astype(jnp.float32))
        return {'score': objective.score(variables, {**batch, 'image': images})[:, None]}

    compiled = over_rows(see, run.mesh)
    return Stream(
        f'bits of {source.name}',
        fingerprint(
            tree_digest(run.variables), repr(objective.model), source_fingerprint(source), 'bits'
        ),
        len(source),
        lambda start: compiled(run.variables, rows.at(start)),
    )


def _times(shape: Sequence[int]) -> str:
    return f'{shape[1]}×{shape[0]}×{shape[2]}'
