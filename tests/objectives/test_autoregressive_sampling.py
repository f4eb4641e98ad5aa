"""Three samplers, one image; completions; what a sampler keeps and reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxgen.errors import UserError
from jaxgen.losses.likelihood import LogisticMixture, Softmax, image_log_prob
from jaxgen.objectives.autoregressive_sampling import (
    check_completion,
    noise_of_keys,
    sample_cached,
    sample_fixed_point,
    sample_naive,
)
from jaxgen.parallel.mesh import make_mesh
from tests import autoregressive as tiny

BATCH = 2
LABEL = jnp.array([2, 0])
MAPS = np.random.default_rng(5).normal(size=(BATCH, 4, 5, 2)).astype(np.float32)
GATED = [
    (tiny.gated(), {}),
    (tiny.gated(shift='link', colours=1, kernel_size=5), {}),
    (tiny.gated(num_classes=3, spatial=2, link='post'), dict(label=LABEL, spatial=MAPS)),
    (tiny.gated(num_classes=3, spatial=2, shift='link'), dict(label=LABEL, spatial=MAPS)),
    (tiny.gated(num_classes=3, spatial=2, spatial_widths=(3,)), dict(label=LABEL)),
]


class Drawing:
    """A model with variables that are nowhere zero, and its compiled samplers."""

    def __init__(self, model, size=(4, 5), scale=0.5, **condition):
        self.model, self.size, self.condition = model, size, condition
        pixels = tiny.images(model, BATCH, size)
        variables = tiny.random_variables(model, pixels, **condition)
        self.variables = jax.tree.map(lambda x: scale * x, variables)
        self.keys = jax.random.split(jax.random.key(3), BATCH)
        self.compiled = {}

    def __call__(self, sampler, keys=None, temperature=1.0, **options):
        name = (sampler, *sorted(options))
        if name not in self.compiled:
            self.compiled[name] = jax.jit(
                lambda keys, temperature, options: sampler(
                    self.model,
                    self.variables,
                    keys,
                    self.size,
                    temperature=temperature,
                    **self.condition,
                    **options,
                )
            )
        keys = self.keys if keys is None else keys
        sample = self.compiled[name](keys, jnp.float32(temperature), options)
        return jax.tree.map(np.asarray, sample)

    def score(self, pixels):
        params = jax.jit(self.model.apply)(self.variables, pixels, **self.condition)
        return image_log_prob(self.model.likelihood, params, pixels)


@pytest.fixture(scope='module')
def gated():
    return Drawing(tiny.gated())


@pytest.fixture(scope='module')
def plus_plus():
    return Drawing(tiny.plus_plus(num_classes=3), size=(8, 8), label=LABEL)


def assert_same(drawing, samplers, **options):
    first, *others = (drawing(sampler, **options) for sampler in samplers)
    assert first.pixels.dtype == np.int32
    assert first.pixels.min() >= 0
    assert first.pixels.max() < drawing.model.levels
    assert len(np.unique(first.pixels)) > 2
    for other in others:
        np.testing.assert_array_equal(other.pixels, first.pixels)
        np.testing.assert_allclose(other.log_prob, first.log_prob, rtol=1e-4)
    np.testing.assert_allclose(drawing.score(first.pixels), first.log_prob, rtol=1e-4)


@pytest.mark.parametrize(('model', 'condition'), GATED)
def test_all_samplers_draw_the_same_integers_and_know_their_log_prob(model, condition):
    drawing = Drawing(model, **condition)
    samplers = sample_naive, sample_cached, sample_fixed_point
    for temperature in (1.0, 0.5):
        first, *others = (drawing(s, temperature=temperature) for s in samplers)
        for other in others:
            np.testing.assert_array_equal(other.pixels, first.pixels)
    assert_same(drawing, samplers)


def test_the_masked_network_is_cached_too():
    drawing = Drawing(tiny.masked(first_kernel=5))
    assert_same(drawing, (sample_naive, sample_cached, sample_fixed_point))


def test_a_recurrent_network_has_the_other_two_samplers():
    drawing = Drawing(tiny.recurrent('diagonal'))
    assert_same(drawing, (sample_naive, sample_fixed_point))
    with pytest.raises(ValueError, match='PixelRNN cannot run in steps: use sample_fixed_point'):
        drawing(sample_cached)


def test_all_samplers_draw_the_same_pixels_from_logistics(plus_plus):
    assert_same(plus_plus, (sample_naive, sample_cached, sample_fixed_point))


def test_a_grey_mixture_of_another_shape_is_cached_too():
    model = tiny.plus_plus(colours=1, nonlinearity='elu', resnets=2)
    assert_same(Drawing(model, size=(4, 12)), (sample_cached, sample_fixed_point))


@pytest.mark.parametrize('name', ['gated', 'plus_plus'])
def test_a_half_given_image_is_completed_and_what_is_given_stays(name, request):
    drawing = request.getfixturevalue(name)
    given = tiny.images(drawing.model, BATCH, drawing.size)
    observed = np.zeros((*drawing.size, 3), bool)
    observed[:2] = True
    observed[2, 2, :1] = True  # Red alone.
    options = dict(given=given, observed=observed)
    completed = drawing(sample_cached, **options)
    everywhere = np.broadcast_to(observed, given.shape)
    np.testing.assert_array_equal(completed.pixels[everywhere], given[everywhere])
    assert (completed.pixels[~everywhere] != given[~everywhere]).any()
    again = drawing(sample_fixed_point, **options)
    np.testing.assert_array_equal(again.pixels, completed.pixels)
    # What is observed later has no influence, what is observed before has.
    for row, same in ((-1, True), (1, False)):
        observed = np.zeros((*drawing.size, 3), bool)
        observed[row] = True
        first = drawing(sample_cached, given=given, observed=observed).pixels[:, 2]
        other = drawing(sample_cached, given=given * 0, observed=observed).pixels[:, 2]
        assert (first == other).all() == same


@pytest.mark.parametrize('name', ['gated', 'plus_plus'])
def test_where_all_is_observed_the_image_comes_back_with_its_log_prob(name, request):
    drawing = request.getfixturevalue(name)
    given = tiny.images(drawing.model, BATCH, drawing.size)
    for sampler in (sample_cached, sample_fixed_point):
        sample = drawing(sampler, given=given, observed=np.ones(drawing.size + (3,), bool))
        np.testing.assert_array_equal(sample.pixels, given)
        np.testing.assert_allclose(sample.log_prob, drawing.score(given), rtol=1e-4)


def test_an_image_depends_on_its_own_key_alone(gated):
    swapped = gated(sample_cached, keys=gated.keys[::-1])
    plain = gated(sample_cached)
    np.testing.assert_array_equal(swapped.pixels[::-1], plain.pixels)
    assert (plain.pixels[0] != plain.pixels[1]).any()
    other = gated(sample_cached, keys=jax.random.split(jax.random.key(9), BATCH))
    assert (other.pixels != plain.pixels).any()


def test_the_noise_of_a_pixel_does_not_depend_on_the_images_width():
    keys = jax.random.split(jax.random.key(0), 3)
    narrow, wide = (noise_of_keys(Softmax(4), keys, width, 3)(2) for width in (4, 7))
    np.testing.assert_array_equal(narrow, wide[:4])
    assert len(np.unique(wide)) == wide.size


def test_at_zero_temperature_the_key_plays_no_part(gated):
    first = gated(sample_cached, temperature=0.0)
    second = gated(sample_cached, keys=jax.random.split(jax.random.key(9), BATCH), temperature=0.0)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.pixels[0], first.pixels[1])


@pytest.mark.parametrize('sampler', [sample_naive, sample_cached, sample_fixed_point])
def test_progress_counts_rows_up_to_the_last(gated, sampler):
    seen = []
    sample = sampler(
        gated.model,
        gated.variables,
        gated.keys,
        gated.size,
        progress=lambda done, rows: seen.append((int(done), int(rows))),
    )
    jax.block_until_ready(sample)
    jax.effects_barrier()
    done = sorted(done for done, _ in seen)
    assert done[-1] == gated.size[0]
    assert {rows for _, rows in seen} == {gated.size[0]}
    assert sampler is sample_fixed_point or done == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ('model', 'size'), [(tiny.masked(), (4, 8)), (tiny.gated(), (4, 8)), (tiny.plus_plus(), (8, 8))]
)
def test_what_is_kept_grows_with_the_row_and_not_with_the_image(model, size):
    def kept(height, width):
        pixels = jnp.zeros((1, height, width, 3), jnp.int32)
        steps = jax.eval_shape(
            lambda key: model.init_with_output(key, pixels)[1], jax.random.key(0)
        )
        state = jax.eval_shape(
            lambda v: model.apply(v, 1, (height, width), method='steps').start(), steps
        )
        return sum(np.prod(x.shape) for x in jax.tree.leaves(state))

    height, width = size
    assert kept(2 * height, width) == kept(height, width)
    assert kept(height, 2 * width) == 2 * kept(height, width)


def test_a_completion_that_cannot_be_asked_for_is_one_line():
    softmax, mixture = Softmax(4), LogisticMixture(4, 2)
    given = np.zeros((2, 4, 4, 3), np.int32)
    late = np.zeros((4, 4, 3), bool)
    late[1, 1, 1] = True
    check_completion(softmax, given, late, 3)
    check_completion(mixture, given, ~late[..., ::-1] | True, 3)
    for likelihood, pixels, observed, message in (
        (softmax, given + 4, late, 'given pixels must be 0 to 3, got 4 to 4'),
        (softmax, given - 1, late, 'given pixels must be 0 to 3, got -1 to -1'),
        (softmax, given * 0.5, late, 'given pixels must be integers, got float64'),
        (softmax, given[..., :1], late, 'given pixels must be [B, H, W, 3], got (2, 4, 4, 1)'),
        (softmax, given, late[:3], 'observed must fit (2, 4, 4, 3), got (3, 4, 3)'),
        (softmax, given, late * 1, 'observed must be booleans, got int64'),
        (mixture, given, late, 'observed colours of a pixel must come before the others'),
    ):
        with pytest.raises(UserError) as error:
            check_completion(likelihood, pixels, observed, 3)
        assert message in str(error.value)
        assert '\n' not in str(error.value)


def test_given_without_observed_is_an_error(gated):
    with pytest.raises(ValueError, match='come together'):
        gated(sample_cached, given=tiny.images(gated.model, BATCH, gated.size))


def test_images_are_the_same_split_over_eight_devices(gated):
    keys = jax.random.split(jax.random.key(4), 8)
    mesh = make_mesh()
    split = jax.device_put(keys, NamedSharding(mesh, PartitionSpec('data')))
    sampler = jax.jit(
        lambda keys: sample_cached(gated.model, gated.variables, keys, gated.size).pixels
    )
    found = sampler(split)
    assert len(found.sharding.device_set) == 8
    np.testing.assert_array_equal(found, sampler(keys))
