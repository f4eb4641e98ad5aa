"""LPIPS: the distance of features by loops, its gradient where features vanish, embedding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import alexnet, lpips, vgg


def maps(seed, shapes=((2, 4, 3, 5), (2, 2, 2, 7))):
    draw = np.random.default_rng(seed)
    return [jnp.asarray(np.maximum(draw.normal(size=shape), 0), jnp.float32) for shape in shapes]


WEIGHTS = [np.abs(np.random.default_rng(9).normal(size=n)).astype(np.float32) for n in (5, 7)]


def slow(a, b):
    found = np.zeros((2, 2))
    for layer, (x, y, weight) in enumerate(zip(a, b, WEIGHTS, strict=True)):
        for n, h, w in np.ndindex(x.shape[:3]):
            u, v = (np.asarray(z[n, h, w], np.float64) for z in (x, y))
            u, v = (z / (np.linalg.norm(z) + 1e-10) for z in (u, v))
            found[n, layer] += np.sum(weight * (u - v) ** 2) / (x.shape[1] * x.shape[2])
    return found


@jax.jit
def distances(a, b):
    return lpips.layer_distances(a, b, WEIGHTS)


def test_equals_the_slow_oracle_also_as_the_squared_distance_of_embeddings():
    a, b = maps(0), maps(1)
    np.testing.assert_allclose(distances(a, b), slow(a, b), rtol=1e-5)
    embedded = [np.asarray(jax.jit(lpips.embed_taps)(taps, WEIGHTS)) for taps in (a, b)]
    squared = np.sum((embedded[0] - embedded[1]) ** 2, axis=1)
    np.testing.assert_allclose(squared, slow(a, b).sum(axis=1), rtol=1e-5)


def test_value_and_gradient_are_finite_where_all_features_are_zero():
    a, b = maps(2), maps(3)
    a[0] = a[0].at[:, :2].set(0)
    b[0] = b[0].at[:, 1:].set(0)  # one row is zero in both
    value, gradients = jax.jit(
        jax.value_and_grad(lambda a, b: distances(a, b).sum(), argnums=(0, 1))
    )(a, b)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert any(np.any(g) for g in jax.tree.leaves(gradients))


def test_the_length_of_a_pixels_features_does_not_matter():
    a, b = maps(4), maps(5)
    np.testing.assert_allclose(distances([7 * x for x in a], b), distances(a, b), rtol=1e-5)


def test_an_image_is_at_0_of_itself_and_more_noise_is_further():
    model, draw = lpips.LPIPS('alexnet'), np.random.default_rng(6)
    image = jax.ShapeDtypeStruct((1, 32, 40, 3), jnp.float32)
    variables = jax.tree.map(
        lambda leaf: (
            np.abs(draw.normal(size=leaf.shape)).astype(np.float32) / leaf.size**0.5
            if leaf.ndim == 1
            else draw.normal(size=leaf.shape).astype(np.float32) / np.prod(leaf.shape[:3]) ** 0.5
        ),
        jax.eval_shape(model.init, jax.random.key(0), image, image),
    )
    image = jnp.asarray(draw.uniform(-1, 1, (1, 32, 40, 3)), jnp.float32)
    noise = jnp.asarray(draw.normal(size=image.shape), jnp.float32)
    others = jnp.concatenate([image, image + 0.01 * noise, image + 0.1 * noise])
    same = jnp.repeat(image, 3, axis=0)
    distance = jax.jit(model.apply)
    found = np.asarray(distance(variables, same, others))
    assert found[0] == 0
    assert 0 < found[1] < found[2]
    np.testing.assert_allclose(distance(variables, others, same), found, rtol=1e-4)


@pytest.mark.parametrize(
    ('trunk', 'sizes'),
    [
        (vgg.VGG16(), [(32, 40), (16, 20), (8, 10), (4, 5), (2, 2)]),
        (alexnet.AlexNet(), [(7, 9), (3, 4), (1, 1), (1, 1), (1, 1)]),
    ],
    ids=['vgg16', 'alexnet'],
)
def test_the_taps_have_the_published_sizes_and_widths(trunk, sizes):
    image = jax.ShapeDtypeStruct((2, 32, 40, 3), jnp.float32)
    taps, _ = jax.eval_shape(trunk.init_with_output, jax.random.key(0), image)
    widths = vgg.WIDTHS if isinstance(trunk, vgg.VGG16) else alexnet.WIDTHS
    assert [tap.shape for tap in taps] == [
        (2, *size, width) for size, width in zip(sizes, widths, strict=True)
    ]


def test_vgg_features_take_one_size_only():
    model = vgg.VGG16Features()
    image = jax.ShapeDtypeStruct((3, 224, 224, 3), jnp.float32)
    features, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert features.shape == (3, 4096)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == 138_357_544 - 4_097_000  # the paper's network without its last layer
    with pytest.raises(ValueError, match='224×224'):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match=r"'vgg16', 'alexnet'.*got 'squeeze'"):
        lpips.LPIPS('squeeze')
