"""Rendering split over devices and in tiles: the same pixels, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.cips import CIPSGenerator
from jaxgen.ops.coords import points
from jaxgen.parallel.coordgrid import in_tiles, shard_pixels
from jaxgen.parallel.mesh import make_mesh
from tests import tiny

GIB = 2**30


class Renderer:
    """A tiny generator as `render(variables, coords, styles)`."""

    def __init__(self, noise):
        self.model = tiny.generator(noise=noise)
        self.variables = tiny.variables(self.model)
        w = np.random.default_rng(2).normal(size=(2, self.model.style)).astype(np.float32)
        self.styles = (w, jax.random.split(jax.random.key(5), 2) if noise == 'random' else None)

    def __call__(self, variables, coords, styles):
        return self.model.apply(variables, coords[None], styles[0], noise=styles[1])

    def run(self, render, coords):
        return np.asarray(jax.jit(render)(self.variables, coords, self.styles))


@pytest.fixture(scope='module', params=['none', 'random'])
def renderer(request):
    return Renderer(request.param)


@pytest.mark.parametrize('count', [64, 61, 5])
def test_pixels_split_over_eight_devices_equal_those_of_one(renderer, count):
    coords = np.asarray(points(8, 8))[:count]
    sharded = shard_pixels(renderer, make_mesh(1, 8))
    np.testing.assert_allclose(
        renderer.run(sharded, coords), renderer.run(renderer, coords), atol=1e-5
    )


def test_tiles_within_the_pieces_of_a_mesh_with_two_axes_give_the_same_pixels(renderer):
    coords, mesh = np.asarray(points(7, 9)), make_mesh(4, 2)
    render = shard_pixels(in_tiles(renderer, tile=3), mesh, mesh.axis_names)
    np.testing.assert_allclose(
        renderer.run(render, coords), renderer.run(renderer, coords), atol=1e-5
    )


def test_the_gradient_through_split_pixels_is_that_of_the_whole():
    renderer = Renderer('none')
    coords = np.asarray(points(7, 9))
    sharded = shard_pixels(renderer, make_mesh(1, 8))

    def gradient(render):
        def loss(variables, coords, styles):
            return jnp.mean(jnp.square(render(variables, coords, styles)))

        return jax.jit(jax.grad(loss, (0, 1)))(renderer.variables, coords, renderer.styles)

    for a, b in zip(*map(jax.tree.leaves, (gradient(sharded), gradient(renderer))), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_device_gets_only_its_share_of_the_pixels():
    lengths = []

    def render(variables, coords, w):
        lengths.append(coords.shape[0])
        return coords[None] * variables

    result = jax.jit(shard_pixels(render, make_mesh(1, 8)))(2.0, np.asarray(points(5, 5)), None)
    assert lengths == [4]
    np.testing.assert_array_equal(result[0], 2 * np.asarray(points(5, 5)))


@pytest.mark.parametrize('tile', [1, 4, 25, 100])
def test_a_tile_is_never_longer_than_asked(tile):
    lengths = []

    def render(variables, coords, w):
        lengths.append(coords.shape[0])
        return coords[None] * variables

    result = in_tiles(render, tile=tile)(2.0, points(5, 5), None)
    assert max(lengths) <= tile
    np.testing.assert_array_equal(result[0], 2 * np.asarray(points(5, 5)))


@pytest.mark.parametrize('noise', ['none', 'random'])
def test_the_objective_samples_the_same_images_on_one_device_and_on_a_mesh(noise):
    objective = tiny.objective(model=tiny.generator(noise=noise))
    variables = tiny.variables(objective.generator)
    keys = jax.random.split(jax.random.key(1), 3)

    def sample(mesh):
        draw = jax.jit(lambda v, k: objective.sample(v, k, truncation=0.7, size=(5, 7), mesh=mesh))
        return np.asarray(draw(variables, keys))

    alone = sample(None)
    assert alone.shape == (3, 5, 7, 3)
    np.testing.assert_allclose(sample(make_mesh(4, 2)), alone, atol=1e-5)


def test_a_4096_render_of_the_256_model_fits_in_two_gib_beside_the_parameters():
    objective = tiny.objective(model=CIPSGenerator(256))
    model = objective.generator
    variables = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 512)), method='generate'), jax.random.key(0)
    )
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    sample = jax.jit(lambda v, k: objective.sample(v, k, size=(4096, 4096)))
    memory = sample.lower(variables, keys).compile().memory_analysis()
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
    image = 4096 * 4096 * 3 * 4
    assert memory.argument_size_in_bytes < parameters + 1024
    assert image <= memory.output_size_in_bytes
    beside = memory.temp_size_in_bytes + memory.output_size_in_bytes
    assert beside < 2 * GIB, f'{beside / GIB:.2f} GiB'
