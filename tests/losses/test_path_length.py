"""Path lengths against Jacobians, and the penalty's gradient against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from jaxgen.losses.path_length import path_length_penalty, path_lengths, shrink_batch

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(2, 4, 3, 2))


def synthesize(params, w):
    """Images `[B, 4, 3, 2]`, each a smooth function of its own `w [B, L, 5]`."""
    flat = jnp.tanh(w.reshape(w.shape[0], -1) @ params)
    return flat.reshape(-1, 4, 3, 2)


def test_a_length_is_the_norm_of_the_jacobian_times_noise():
    with jax.enable_x64(True):
        params, w = jnp.asarray(RNG.normal(size=(15, 24))), jnp.asarray(RNG.normal(size=(2, 3, 5)))
        lengths = path_lengths(lambda w: synthesize(params, w), w, NOISE)
        for b in range(2):
            jacobian = jax.jacobian(lambda w: synthesize(params, w[None])[0].ravel())(w[b])
            product = np.tensordot(NOISE[b].ravel() / np.sqrt(4 * 3), jacobian, axes=1)
            expected = np.sqrt(np.mean(np.sum(product**2, axis=-1)))
            np.testing.assert_allclose(lengths[b], expected, rtol=1e-12)


def test_one_style_for_all_layers_needs_no_axis():
    params, w = RNG.normal(size=(5, 24)), RNG.normal(size=(2, 5))
    run = lambda w: path_lengths(lambda w: synthesize(params, w), w, NOISE)  # noqa: E731
    np.testing.assert_allclose(run(w), run(w[:, None]), rtol=1e-6)


def test_the_gradient_of_the_penalty_equals_finite_differences():
    with jax.enable_x64(True):
        params, w = jnp.asarray(RNG.normal(size=(5, 24))), jnp.asarray(RNG.normal(size=(2, 1, 5)))

        def penalty(params):
            lengths = path_lengths(lambda w: synthesize(params, w), w, NOISE)
            # A decay that makes the mean's share of the gradient show.
            return path_length_penalty(lengths, jnp.asarray(0.7), decay=0.5)[0].mean()

        check_grads(jax.jit(penalty), (params,), order=1, modes=['rev'], rtol=1e-7)


def test_the_penalty_is_against_the_new_mean():
    lengths, mean = jnp.array([1.0, 3.0]), jnp.array(1.0)
    penalty, after = path_length_penalty(lengths, mean, decay=0.1)
    np.testing.assert_allclose(after, 1.1, rtol=1e-6)
    np.testing.assert_allclose(penalty, [0.01, 3.61], rtol=1e-5)


def test_the_mean_for_the_state_carries_no_gradient():
    gradient = jax.grad(lambda x: path_length_penalty(x, jnp.array(0.0))[1])(jnp.ones(3))
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_the_running_mean_settles_at_the_lengths():
    lengths, mean = jnp.array([1.0, 2.0, 3.0]), jnp.array(0.0)
    for _ in range(20):
        _, mean = path_length_penalty(lengths, mean, decay=0.5)
    np.testing.assert_allclose(mean, 2.0, rtol=1e-5)


def test_shrinking_keeps_examples_of_every_device():
    # Two devices hold rows 0 to 3 and 4 to 7.
    batch = shrink_batch({'z': np.arange(8), 'noise': np.arange(16).reshape(8, 2)}, 2)
    np.testing.assert_array_equal(batch['z'], [0, 2, 4, 6])
    assert batch['noise'].shape == (4, 2)
    assert len(shrink_batch(np.ones((1, 3)), 2)) == 1
