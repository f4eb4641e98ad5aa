"""The likelihood objective: what an update is, what it draws, and that it learns."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import tasks
from jaxgen.objectives.base import merge
from jaxgen.objectives.likelihood import to_levels
from jaxgen.ops.random import per_example_keys
from jaxgen.parallel.mesh import make_mesh
from tests import autoregressive, tiny

KEY = jax.random.key(3)


def as_batch(pixels, levels, **more):
    """The batch of a pipeline whose images are these integers, spread over the bytes."""
    bytes_ = np.ceil(pixels * (256 / levels)).astype(np.uint8)
    image = bytes_ / np.float32(127.5) - np.float32(1)
    return {'image': image, 'slot': np.arange(len(pixels), dtype=np.int32), **more}


class Training:
    """An objective on 4×4 images, its state and its compiled step."""

    def __init__(self, model):
        self.objective = tiny.likelihood(model, frame=(4, 4))
        self.pixels = autoregressive.images(model, 4, (4, 4))
        self.batch = as_batch(self.pixels, model.levels)
        if self.objective.num_classes:
            self.batch['label'] = np.arange(4, dtype=np.int32) % self.objective.num_classes
        self.state = jax.jit(self.objective.init_state)(jax.random.key(0), self.batch)
        (self.phase,) = self.objective.phases()
        self.update = jax.jit(self.phase.update)

    def __call__(self, state=None, batch=None, key=KEY):
        return self.update(state or self.state, batch or self.batch, key)


@pytest.fixture(scope='module')
def gated():
    return Training(autoregressive.gated(num_classes=3, blocks=2))


@pytest.fixture(scope='module')
def scaled():
    return Training(tiny.SelfScaled())


@pytest.mark.parametrize('levels', [2, 5, 32, 255, 256])
def test_every_byte_becomes_a_level_and_levels_are_equally_wide(levels):
    # As the pipeline makes floats of bytes.
    byte = np.arange(256, dtype=np.uint8)
    found = to_levels(jnp.asarray(byte / np.float32(127.5) - np.float32(1)), levels)
    np.testing.assert_array_equal(found, [int(b) * levels // 256 for b in byte])
    widths = np.bincount(found)
    assert len(widths) == levels
    assert widths.max() - widths.min() <= 1


def test_an_update_follows_the_gradient_of_bits_per_dimension(gated):
    model, batch = gated.objective.model, gated.batch

    def bits(params):
        logits = model.apply({'params': params}, gated.pixels, batch['label'])
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, gated.pixels)
        return nats.mean() / math.log(2)

    params = gated.state.learner.params
    value, gradients = jax.jit(jax.value_and_grad(bits))(params)
    state, metrics = gated()
    assert [*metrics] == ['bits_per_dim/train']
    assert merge([metrics])['bits_per_dim/train'] == pytest.approx(float(value), rel=1e-5)
    assert metrics['bits_per_dim/train'].count == gated.pixels.size
    for before, after, average, g in zip(
        *map(jax.tree.leaves, (params, state.learner.params, state.ema, gradients)), strict=True
    ):
        np.testing.assert_allclose(after, before - 0.5 * g, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(average, 0.9 * before + 0.1 * after, rtol=1e-4, atol=1e-6)
    assert state.step == 1


def test_the_average_starts_as_the_model_without_sharing_its_buffers(gated):
    jax.tree.map(np.testing.assert_array_equal, gated.state.ema, gated.state.learner.params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(gated.state)]
    assert len(set(buffers)) == len(buffers)


def test_labels_reach_the_model(gated):
    other = {**gated.batch, 'label': (gated.batch['label'] + 1) % 3}
    first, second = (gated(batch=b)[1]['bits_per_dim/train'].total for b in (gated.batch, other))
    assert first != second


def test_what_is_dropped_follows_from_the_step_and_the_slot_alone(scaled):
    objective, batch = scaled.objective, scaled.batch
    variables = objective.sampling_variables(scaled.state)
    log_prob = jax.jit(objective.log_prob)
    keys = per_example_keys(KEY, batch['slot'])
    whole = log_prob(variables, batch, keys)
    chosen = np.array([2, 3, 3, 2])
    others = log_prob(variables, jax.tree.map(lambda x: x[chosen], batch), keys[chosen])
    np.testing.assert_allclose(others, whole[chosen], rtol=1e-5)
    assert np.abs(log_prob(variables, batch) - whole).min() > 1e-3
    first, later = (
        scaled(scaled.state.replace(step=jnp.int32(step)))[1]['bits_per_dim/train'].total
        for step in (0, 1)
    )
    assert first != later


def test_the_first_batch_scales_a_model_so_that_its_output_is_standardised(scaled):
    # That batch sees dropout; the key is the second half of the state's.
    _, key = jax.random.split(jax.random.key(0))
    apply = jax.jit(scaled.objective.model.apply)
    output = apply(
        {'params': scaled.state.learner.params},
        scaled.pixels,
        dropout_keys=per_example_keys(key, scaled.batch['slot']),
    )
    np.testing.assert_allclose(output.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(output.var((0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize(
    'model',
    [
        autoregressive.gated(num_classes=3, blocks=2),
        autoregressive.recurrent('row', colours=1, features=4),
    ],
    ids=['cached', 'fixed point'],
)
def test_images_are_the_same_on_one_device_and_on_eight(model):
    objective = tiny.likelihood(model, frame=(3, 4))
    label = np.arange(8) % 3 if objective.num_classes else None
    given = {} if label is None else {'label': label}
    pixels = autoregressive.images(model, 8, (3, 4))
    variables = autoregressive.random_variables(model, pixels, **given)
    variables = jax.tree.map(lambda x: 0.3 * x, variables)  # less sure of themselves
    keys = jax.random.split(jax.random.key(1), 8)

    @functools.partial(jax.jit, static_argnums=1)
    def sample(temperature, mesh):
        return objective.sample(variables, keys, label, temperature=temperature, mesh=mesh)

    def draw(temperature=1.0, mesh=None):
        return np.asarray(sample(np.float32(temperature), mesh))

    images = draw()
    assert images.shape == (8, 3, 4, model.colours)
    level = (images + 1) / 2 * (model.levels - 1)
    np.testing.assert_allclose(level, np.round(level), atol=1e-5)
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8
    np.testing.assert_array_equal(draw(mesh=make_mesh(4, 2)), images)
    if label is None:
        cold = draw(temperature=0.0)
        np.testing.assert_array_equal(cold, np.broadcast_to(cold[:1], cold.shape))


def test_the_published_epsilon_stands_beside_the_gradient_of_the_summed_nats(gated):
    config = tiny.config('pixelcnn', optimizer__name='pixelcnn_pp', optimizer__eps=1.0)
    config.batch_size = len(gated.pixels)
    optimizer = tasks.likelihood.make_optimizer(config)

    @jax.jit
    def update(params):
        def nats(params):
            return -gated.objective.log_prob({'params': params}, gated.batch).sum()

        gradients = jax.grad(nats)(params)
        of_bits = jax.tree.map(lambda g: g / (math.log(2) * gated.pixels.size), gradients)
        return optimizer.update(of_bits, optimizer.init(params), params)[0], gradients

    updates, gradients = jax.device_get(update(gated.state.learner.params))
    rate = config.optimizer.learning_rate * config.optimizer.decay
    for update, g in zip(*map(jax.tree.leaves, (updates, gradients)), strict=True):
        # The first step of Adam, after its corrections; ε = 1 counts beside g².
        expected = -rate * g / np.sqrt(np.square(g) + 1)
        np.testing.assert_allclose(update, expected, rtol=1e-3, atol=1e-9)


NOISE = 0.15


def walk(n):
    """All images of n binary pixels and their probabilities: each pixel is the one before it,
    in raster order, flipped with probability NOISE; the first is a fair coin."""
    pixels = np.array(list(itertools.product((0, 1), repeat=n)), np.int32)
    flips = np.abs(np.diff(pixels, axis=1)).sum(1)
    return pixels, 0.5 * NOISE**flips * (1 - NOISE) ** (n - 1 - flips)


def test_bits_per_dimension_go_down_to_the_entropy_and_never_below():
    side = 3
    pixels, probability = walk(side**2)
    pixels = pixels.reshape(-1, side, side, 1)
    entropy = -np.sum(probability * np.log2(probability)) / side**2
    model = autoregressive.gated(levels=2, colours=1, features=12, blocks=2, head=12)
    objective = tiny.likelihood(model, optimizer=optax.adam(1e-2), frame=(side, side))
    everything = as_batch(pixels, 2)
    log_prob = jax.jit(objective.log_prob)

    def bits(state):
        log_probs = np.asarray(log_prob(objective.sampling_variables(state), everything))
        return -np.sum(probability * log_probs.astype(np.float64)) / math.log(2) / side**2

    rng = np.random.default_rng(0)
    (phase,) = objective.phases()
    update = jax.jit(phase.update)
    state = jax.jit(objective.init_state)(jax.random.key(0))
    start = bits(state)
    for _ in range(300):
        chosen = rng.choice(len(pixels), 64, p=probability)
        state, _ = update(state, as_batch(pixels[chosen], 2), KEY)
    assert entropy < 0.7
    assert start > 0.9
    assert entropy < bits(state) < entropy + 0.02
