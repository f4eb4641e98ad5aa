"""What the tests of the PixelCNN family share: tiny models, and which sub-pixels see which."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.losses.likelihood import image_log_prob
from jaxgen.models.pixelcnn import GatedPixelCNN, PixelCNN
from jaxgen.models.pixelcnn_pp import PixelCNNpp
from jaxgen.models.pixelrnn import PixelRNN


def gated(**fields):
    """A Gated PixelCNN of three layers for RGB images of five levels."""
    small = dict(levels=5, features=7, blocks=3, kernel_size=3, head=6)
    return GatedPixelCNN(**small | fields)


def masked(**fields):
    """A masked PixelCNN of two blocks; its widths don't divide by three."""
    small = dict(levels=5, features=4, blocks=2, head=7, first_kernel=3)
    return PixelCNN(**small | fields)


def recurrent(kind, **fields):
    """A PixelRNN of one layer."""
    small = dict(levels=5, features=5, layers=1, head=6, first_kernel=3)
    return PixelRNN(kind, **small | fields)


def plus_plus(**fields):
    """A PixelCNN++ with one block a resolution."""
    small = dict(levels=16, features=4, resnets=1, components=2)
    return PixelCNNpp(**small | fields)


def images(model, batch, size, seed=0):
    """Random integer images `[batch, *size, C]`."""
    shape = (batch, *size, model.colours)
    return np.random.default_rng(seed).integers(0, model.levels, shape, dtype=np.int32)


def random_variables(model, *arguments, seed=0, **condition):
    """Variables that are nowhere zero, in the default precision; compiles nothing."""
    shapes = jax.eval_shape(lambda key: model.init(key, *arguments, **condition), jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def started(model, pixels, seed=0, **given):
    """(output, variables) of `init` on the batch `pixels`, around kernels that numpy draws.

    What PixelCNN++ derives from its first batch is derived as in `model.init`; without the code
    of some fifty random arrays it compiles in a quarter of the time.
    """
    variables = random_variables(model, pixels, seed=seed, **given)

    def kernels(tree):
        if 'direction' in tree:
            return {'direction': tree['direction']}
        return {name: kernels(branch) for name, branch in tree.items()}

    def init(params, pixels):
        keys = {'params': jax.random.key(0)}
        return model.apply({'params': params}, pixels, rngs=keys, mutable=['params'], **given)

    return jax.jit(init)(kernels(variables['params']), pixels)


def trained(model, variables, pixels, rate=0.1, **condition):
    """The variables after one step of gradient descent on −log p."""

    def loss(variables):
        params = model.apply(variables, pixels, **condition)
        return -image_log_prob(model.likelihood, params, pixels).mean() / pixels[0].size

    gradients = jax.jit(jax.grad(loss))(variables)
    return jax.tree.map(lambda x, g: x - rate * g, variables, gradients)


def support(body, channels_of, shape, key, inputs=3):
    """Which sub-pixels of `shape` (H, W, C) the maps `body(x [1, H, W, C])` depend on.

    From the Jacobian at a few random inputs. `channels_of [F]` is the colour of each map.

    Returns:
      `[D, D]` booleans: output (row·W + column)·C + colour depends on that input.
    """
    return supports(lambda _, x: body(x), [()], channels_of, shape, key, inputs)[0]


def supports(body, states, channels_of, shape, key, inputs=3):
    """`support` of `body(state, x)` for each of `states`, compiled once."""
    size, colours = int(np.prod(shape)), shape[-1]
    basis = jnp.eye(size).reshape(size, 1, *shape)

    @jax.jit
    def moved_by(state, xs):
        def columns(x):
            _, along = jax.linearize(lambda x: body(state, x), x)
            return jax.vmap(along)(basis)[:, 0] != 0

        return jax.lax.map(columns, xs).any(axis=0)

    xs = jax.random.normal(key, (inputs, 1, *shape))
    found = []
    for state in states:
        moved = np.asarray(moved_by(state, xs))
        of_colours = [moved[..., channels_of == c].any(axis=-1) for c in range(colours)]
        found.append(np.stack(of_colours, axis=-1).reshape(size, size).T)
    return found


def pixel_support(body, shape, key, inputs=2):
    """Which pixels see which, `[H·W, H·W]`: any map of a pixel, any colour of the other."""
    pixels = shape[0] * shape[1]
    colour = jax.random.normal(key, (shape[2],))
    basis = jnp.eye(pixels).reshape(pixels, 1, *shape[:2], 1) * colour[None, None, None, None]

    def columns(x):
        moved = jax.vmap(lambda t: jax.jvp(body, (x,), (t,))[1])(basis)[:, 0] != 0
        return moved.any(axis=-1)

    xs = jax.random.normal(key, (inputs, 1, *shape))
    moved = np.asarray(jax.jit(lambda xs: jax.lax.map(columns, xs).any(axis=0))(xs))
    return moved.reshape(pixels, pixels).T
