"""Finding the styles that make a generator draw given images: what `projection` and others run.

After StyleGAN2 (1912.04958, appendix D); `jaxgen.apps.projection` says what is done. Images are
`[B, H, W, C]` in [-1, 1], and each is projected by itself: rows of one batch over all devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxgen.errors import UserError

if TYPE_CHECKING:
    import jax

    from jaxgen.training.restore import Run

PyTree = Any

SPACES = ('w', 'w+')
DISTANCES = ('lpips', 'pyramid')
LEAST = 4  # side of the smallest images of the pyramid
START_SEED = 2**31  # one above --seed: where a search begins is no image that it looks for


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the optimisation, the published ones.

    Attributes:
      space: 'w' or 'w+'.
      samples: of z, for mean and deviation of w.
      starts: so many images of the generator are looked at, and the nearest is where an image's
        search begins, unless the mean of w is nearer; 0: always the mean, as published.
      noise: deviation of the noise on w at first, in deviations of w.
      noise_weight: of the penalty on the correlation of noise maps.
    """

    steps: int = 1000
    space: str = 'w'
    rate: float = 0.1
    samples: int = 10_000
    starts: int = 0
    noise: float = 0.05
    noise_weight: float = 1e5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.space not in SPACES or self.steps < 1 or self.starts < 0:
            raise UserError(
                f'space must be one of {SPACES}, steps 1 or more and starts 0 or more, got '
                f'{self.space!r}, {self.steps} and {self.starts}'
            )


class Projection(NamedTuple):
    """Of B images.

    Attributes:
      w: `[B, 1, W]`, or `[B, layers, W]` in W+.
      noise: a map `[B, r, r, 1]` for each layer that has noise.
      images: `[B, H, W, C]`, what they make.
      distances: `[steps + 1, B]`, before each step, with its noise on w, and of `images`.
    """

    w: np.ndarray
    noise: tuple[np.ndarray, ...]
    images: np.ndarray
    distances: np.ndarray


def make_embedding(kind: str) -> tuple[Callable[[PyTree, 'jax.Array'], 'jax.Array'], PyTree]:
    """`(embed, weights)`: the distance of images is |embed(weights, a) - embed(weights, b)|².

    Raises:
      UserError: LPIPS without its weights.
    """
    import jax.numpy as jnp

    from jaxgen.metrics.perceptual_path import shrink

    if kind == 'lpips':
        from jaxgen.evaluation.networks import colours, find_lpips

        module, weights = find_lpips(None, '--distance=lpips')
        return (
            lambda weights, images: module.apply(weights, shrink(colours(images)), method='embed'),
            weights,
        )
    if kind != 'pyramid':
        raise UserError(f'distance must be one of {DISTANCES}, got {kind!r}')

    def embed(weights: PyTree, images: 'jax.Array') -> 'jax.Array':
        levels, x = [], shrink(images)
        while True:
            levels.append((x / np.sqrt(x[0].size)).reshape(len(x), -1))
            if min(x.shape[1:3]) < 2 * LEAST or x.shape[1] % 2 or x.shape[2] % 2:
                return jnp.concatenate(levels, axis=1)
            x = shrink(x, x.shape[1] // 2)

    return embed, {}


class Projector:
    """Projects images of a generator; compiled once for all batches of one size.

    Args:
      distance: of `make_embedding`.
    """

    def __init__(
        self, run: 'Run', distance: tuple[Callable, PyTree], settings: Settings = Settings()
    ) -> None:
        self._run, self._settings = run, settings
        self._step, self._draw, self._begin = _compile(run, distance, settings)

    def __call__(
        self,
        targets: np.ndarray,
        *,
        on_step: Callable[[int, np.ndarray | None, Callable[[], np.ndarray]], None] | None = None,
    ) -> Projection:
        """Projects images `[B, H, W, C]` in [-1, 1] of the generator's own size.

        Args:
          on_step: called before each step with its number, the distances `[B]`, and a function
            that draws the images as they are.

        Raises:
          UserError: images of another size.
        """
        import jax

        from jaxgen.evaluation.images import place

        run = self._run
        if targets.shape[1:3] != tuple(run.frame):
            raise UserError(
                f'targets must be {run.frame} (height, width), got {targets.shape[1:3]}'
            )
        count = len(targets)
        # Every device has as many; what fills the batch up is dropped again.
        fill = np.repeat(targets[-1:], -count % run.mesh.size, axis=0)
        targets = np.concatenate([targets, fill]).astype(np.float32)
        slots = np.arange(len(targets), dtype=np.int32)
        state, features = self._begin(place((targets, slots), run.mesh))
        found = []
        for i in range(self._settings.steps):
            if on_step is not None:
                now = functools.partial(_images, self._draw, state, features, count)
                on_step(i, found[-1] if found else None, now)
            state, distances = self._step(np.int32(i), state, features)
            found.append(np.asarray(distances)[:count])
        images, final = self._draw(state, features)
        w, noise = jax.device_get((state.w, state.noise))
        return Projection(
            w=np.asarray(w)[:count],
            noise=tuple(np.asarray(x)[:count] for x in noise),
            images=np.asarray(images)[:count],
            distances=np.stack([*found, np.asarray(final)[:count]]),
        )


def _images(draw: Callable, state: '_State', features: Any, count: int) -> np.ndarray:
    return np.asarray(draw(state, features)[0])[:count]


class _State(NamedTuple):
    """Rows over the devices: `w [B, K, W]`, noise maps, both moments of Adam, `slot [B]`."""

    w: Any
    noise: tuple
    first: tuple
    second: tuple
    slot: Any


def _compile(
    run: 'Run', distance: tuple[Callable, PyTree], settings: Settings
) -> tuple[Callable, Callable, Callable]:
    """`step(i, state, features)`, `draw(state, features)` and `begin((targets, slots))`."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxgen.evaluation.images import over_rows
    from jaxgen.losses.noise_correlation import noise_correlation, normalize_noise
    from jaxgen.objectives.sampling import image_keys
    from jaxgen.objectives.schedules import projection_noise, projection_rate

    (embed, weights), steps, seed = distance, settings.steps, settings.seed
    mean, sigma = style_statistics(run, settings.samples, seed)
    constants = (run.variables, weights, sigma)
    starts = np.concatenate([mean[0], *_styles(run, settings.starts, START_SEED)])
    adam = optax.scale_by_adam()  # 0.9, 0.999, 1e-8

    def distances(constants: tuple, w: Any, noise: tuple, slot: Any, features: Any) -> Any:
        images = synthesize(run, constants[0], w, noise, slot, seed)
        return images, jnp.sum(jnp.square(embed(constants[1], images) - features), axis=1)

    def step(constants: tuple, arguments: tuple) -> tuple:
        (*constants, i), (state, features) = constants, arguments
        keys = jax.vmap(jax.random.fold_in, (0, None))(image_keys(seed, state.slot), i)
        shake = jax.vmap(lambda key: jax.random.normal(key, state.w.shape[1:]))(keys)
        shake *= constants[2] * projection_noise(i, steps, initial=settings.noise)

        def loss(found: tuple) -> tuple:
            w, noise = found
            _, near = distances(constants, w + shake, noise, state.slot, features)
            correlated = sum(jnp.sum(jax.vmap(noise_correlation)(x[..., 0])) for x in noise)
            return jnp.sum(near) + settings.noise_weight * correlated, near

        found, moments = state[:2], optax.ScaleByAdamState(i, state.first, state.second)
        gradients, near = jax.grad(loss, has_aux=True)(found)
        updates, moments = adam.update(gradients, moments)
        rate = projection_rate(i, steps, rate=settings.rate)
        w, noise = jax.tree.map(lambda x, update: x - rate * update, found, updates)
        noise = jax.tree.map(jax.vmap(lambda x: normalize_noise(x[..., 0])[..., None]), noise)
        return _State(w, noise, moments.mu, moments.nu, state.slot), near

    def draw(constants: tuple, arguments: tuple) -> tuple:
        (w, noise, _, _, slot), features = arguments
        return distances(constants, w, noise, slot, features)

    begin = functools.partial(_begin, run, embed, settings)
    begin, step, draw = (over_rows(function, run.mesh) for function in (begin, step, draw))
    return (
        lambda i, *given: step((*constants, i), given),
        lambda *given: draw(constants, given),
        lambda arguments: begin((run.variables, weights, starts), arguments),
    )


def _begin(
    run: 'Run', embed: Callable, settings: Settings, constants: tuple, arguments: tuple
) -> tuple[_State, 'jax.Array']:
    """The state before the first step, and features of the targets."""
    import jax
    import jax.numpy as jnp

    from jaxgen.objectives.sampling import image_keys

    (variables, weights, starts), (targets, slot) = constants, arguments
    noise = noise_maps(run, variables, image_keys(settings.seed, slot))
    features = embed(weights, targets)

    def see(w: 'jax.Array') -> 'jax.Array':
        return embed(weights, synthesize(run, variables, w[:, None], noise, slot, settings.seed))

    w = _nearest(starts, see, features) if settings.starts else starts
    layers = layer_count(run.generator) if settings.space == 'w+' else 1
    w = jnp.broadcast_to(w[:, None], (len(targets), layers, w.shape[-1]))
    zeros = jax.tree.map(jnp.zeros_like, (w, noise))
    return _State(w, noise, zeros, zeros, slot), features


def _nearest(starts: 'jax.Array', see: Callable, features: 'jax.Array') -> 'jax.Array':
    """For each row of `features [B, D]` that one of `starts [N, W]` which looks most like it.

    `see`: features `[B, D]` of B starts.
    """
    import jax
    import jax.numpy as jnp

    rows = len(features)
    fill = jnp.repeat(starts[:1], -len(starts) % rows, axis=0)
    starts = jnp.concatenate([starts, fill])

    def away(w: 'jax.Array') -> 'jax.Array':
        seen = see(w)
        return jax.lax.map(lambda row: jnp.sum(jnp.square(seen - row[None]), axis=1), features)

    away_from = jax.lax.map(away, starts.reshape(-1, rows, starts.shape[1]))
    return starts[jnp.argmin(jnp.concatenate(away_from, axis=1), axis=1)]


def style_statistics(run: 'Run', samples: int, seed: int) -> tuple[Any, float]:
    """Mean `[1, 1, W]` of w, and its deviation √(Σ |w - mean|² / samples), of random z."""
    w = np.concatenate(list(_styles(run, samples, seed))).astype(np.float64)
    mean = w.mean(axis=0)
    deviation = np.sqrt(np.sum((w - mean) ** 2) / len(w))
    return np.asarray(mean[None, None], np.float32), np.float32(deviation)


def _styles(run: 'Run', count: int, seed: int) -> Iterator[np.ndarray]:
    """w of the first images of a seed, `[n, W]` in parts."""
    for start in range(0, count, 1000):
        w = np.asarray(run.styles(np.arange(start, min(start + 1000, count)), seed)[1])
        yield w[:, 0] if w.ndim == 3 else w


def layer_count(generator: Any) -> int:
    """How many styles W+ has."""
    return getattr(generator, 'num_ws', None) or generator.num_layers


def noise_maps(run: 'Run', variables: PyTree, keys: 'jax.Array') -> tuple:
    """Maps to begin with, for a StyleGAN2 with noise; else none."""
    generator = run.generator
    if hasattr(generator, 'points') or getattr(generator, 'noise', 'none') == 'none':
        return ()
    random = generator.clone(noise='random')
    return tuple(random.apply(variables, keys, method='make_noise'))


def synthesize(
    run: 'Run', variables: PyTree, w: 'jax.Array', noise: tuple, slot: 'jax.Array', seed: int
) -> 'jax.Array':
    """Images `[B, H, W, C]` of w `[B, 1 or layers, W]` by any generator."""
    import jax.numpy as jnp

    from jaxgen.objectives.sampling import draw_at_once, image_keys, takes_noise_keys

    generator = run.generator
    if not hasattr(generator, 'points'):
        styles = jnp.broadcast_to(w, (len(w), generator.num_ws, w.shape[-1]))
        given = noise or None
    else:
        styles = w[:, 0] if w.shape[1] == 1 else tuple(w[:, i] for i in range(w.shape[1]))
        given = image_keys(seed, slot) if takes_noise_keys(generator) else None
    return draw_at_once(generator, variables, styles, run.frame, noise=given)
