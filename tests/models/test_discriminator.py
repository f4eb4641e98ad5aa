"""The discriminator: its options, its size, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models.discriminator import Discriminator, paper_channels
from jaxgen.ops.coords import grid
from tests import tiny

IMAGE = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
LABEL = np.array([0, 1, 2, 0])
VARIANTS = {
    'default': dict(),
    'coordinates, strided groups': dict(
        coordinates=True, minibatch_std_grouping='strided', minibatch_std_group=2
    ),
    'more first layers, no statistics, labels': dict(
        first_layers=2, minibatch_std_group=0, num_classes=3
    ),
    'skip, clamped, mapped labels': dict(
        architecture='skip', clamp=256.0, num_classes=3, label_layers=2, label_features=5
    ),
    'orig, bfloat16 above': dict(
        architecture='orig',
        dtype=jnp.bfloat16,
        low_precision_blocks=1,
        size=16,
        channels={4: 4, 8: 6, 16: 4},
    ),
    'not square, bfloat16, recomputed': dict(size=(8, 16), dtype=jnp.bfloat16, remat=True),
}


@pytest.mark.parametrize('fields', VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_of_every_variant_gets_a_finite_gradient(fields):
    model = tiny.discriminator(**fields)
    image = np.resize(IMAGE, (4, *model.frame, 3))
    label = LABEL if model.num_classes else None
    coords = grid(*model.frame)[None] if model.coordinates else None

    def loss(params):
        score = model.apply({'params': params}, image, label, coords=coords)
        assert score.shape == (4,)
        assert score.dtype == jnp.float32
        return jnp.sum(jnp.square(score))

    params = tiny.variables(model, image, label, coords=coords)['params']
    gradients = jax.jit(jax.grad(loss))(params)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path


def test_the_256_discriminator_has_28_86_million_parameters():
    model = Discriminator(256)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 3)))
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6, 2) == 28.86


def test_the_papers_channels_halve_above_64():
    assert paper_channels(1024) == {
        4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32
    }  # fmt: skip


def test_scores_of_a_group_do_not_depend_on_other_groups():
    model = tiny.discriminator(minibatch_std_group=2)
    variables = tiny.variables(model, IMAGE)
    score = jax.jit(model.apply)
    other = np.concatenate([IMAGE[:2], -IMAGE[2:]])
    before, after = np.asarray(score(variables, IMAGE)), np.asarray(score(variables, other))
    np.testing.assert_allclose(after[:2], before[:2], atol=1e-6)
    assert np.abs(after[2:] - before[2:]).min() > 1e-4


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(size=12), 'shorter side must be a power of two from 4, got 12'),
        (dict(size=2), 'shorter side must be a power of two from 4, got 2'),
        (dict(size=(8, 11)), r'both sides must be multiples of 2 .*got \(8, 11\)'),
        (dict(minibatch_std_grouping='random'), "one of .*'strided'.*got 'random'"),
        (dict(minibatch_std_group=-1), 'minibatch_std_group must be 0 .*, got -1'),
        (dict(first_layers=-1), 'first_layers must be 0 .*, got -1'),
        (dict(num_classes=-1), 'num_classes must be 0 .*, got -1'),
        (dict(architecture='unet'), "architecture must be one of .*'orig'.*got 'unet'"),
        (dict(label_layers=-1), 'label_layers must be 0 .*, got -1'),
        (dict(channels={8: 4}), r'no entry for the resolutions \[4\]'),
        (dict(channels={4: 0, 8: 4}), 'channels must be positive, got'),
    ],
)
def test_what_cannot_be_built_is_one_line_with_the_value_and_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        tiny.discriminator(**fields)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(image=IMAGE[:, :4]), r'images must be \(8, 8, 3\), got \(4, 8, 3\)'),
        (dict(label=LABEL), 'num_classes is 0 but label is given'),
        (dict(coords=grid(8, 8)[None]), 'coordinates is False but coords is given'),
    ],
)
def test_what_does_not_belong_to_the_model_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny.discriminator().init(jax.random.key(0), **dict(image=IMAGE) | arguments)
