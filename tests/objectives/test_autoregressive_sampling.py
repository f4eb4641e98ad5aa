"""Three samplers, one image; completions; what a sampler keeps and reports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.losses.likelihood import LogisticMixture, Softmax, image_log_prob
from jaxgen.objectives.autoregressive_sampling import (
    check_completion,
    noise_of_keys,
    sample_cached,
    sample_fixed_point,
    sample_naive,
)
from tests import autoregressive as tiny

BATCH = 2
SAMPLERS = sample_naive, sample_cached, sample_fixed_point
LABEL = jnp.array([2, 0])
MAPS = np.random.default_rng(5).normal(size=(BATCH, 4, 5, 2)).astype(np.float32)
CONDITIONED = dict(blocks=2, num_classes=3, spatial=2)
MODELS = {
    'gated': (tiny.gated(), {}),
    'grey link': (tiny.gated(shift='link', colours=1, kernel_size=5), {}),
    'post': (tiny.gated(**CONDITIONED, link='post'), dict(label=LABEL, spatial=MAPS)),
    'link': (tiny.gated(**CONDITIONED, shift='link'), dict(label=LABEL, spatial=MAPS)),
    'made map': (tiny.gated(**CONDITIONED, spatial_widths=(3,)), dict(label=LABEL)),
    'masked': (tiny.masked(first_kernel=5), {}),
    'diagonal': (tiny.recurrent('diagonal'), {}),
    'plus_plus': (tiny.plus_plus(num_classes=3), dict(label=LABEL)),
    'grey plus_plus': (tiny.plus_plus(colours=1, nonlinearity='elu', resnets=2), {}),
}
SIZES = {'plus_plus': (8, 8), 'grey plus_plus': (4, 12)}


class Drawing:
    """A model with variables that are nowhere zero, and its samplers, each compiled once.

    So `given` is always there, if only to be observed nowhere. `seen` is the progress, which the
    Gated PixelCNN reports.
    """

    def __init__(self, name):
        (self.model, self.condition), self.size = MODELS[name], SIZES.get(name, (4, 5))
        self.shape = (BATCH, *self.size, self.model.colours)
        pixels = tiny.images(self.model, BATCH, self.size)
        variables = tiny.random_variables(self.model, pixels, **self.condition)
        self.variables = jax.tree.map(lambda x: 0.5 * x, variables)
        self.keys = jax.random.split(jax.random.key(3), BATCH)
        self.seen, self.compiled = [], {}
        self.reported = dict(progress=self.report) if name == 'gated' else {}
        self.score = jax.jit(self.log_prob)

    def report(self, done, rows):
        self.seen.append((int(done), int(rows)))

    def log_prob(self, pixels):
        params = self.model.apply(self.variables, pixels, **self.condition)
        return image_log_prob(self.model.likelihood, params, pixels)

    def sample(self, sampler, keys, temperature, given, observed):
        options = dict(temperature=temperature, given=given, observed=observed)
        options |= self.condition | self.reported
        return sampler(self.model, self.variables, keys, self.size, **options)

    def __call__(self, sampler, keys=None, temperature=1.0, given=None, observed=None):
        if sampler not in self.compiled:
            self.compiled[sampler] = jax.jit(functools.partial(self.sample, sampler))
        sample = self.compiled[sampler](
            self.keys if keys is None else keys,
            np.float32(temperature),
            np.zeros(self.shape, np.int32) if given is None else given,
            np.zeros(self.shape[1:], bool) if observed is None else observed,
        )
        return jax.tree.map(np.asarray, sample)


drawing_of = functools.cache(Drawing)


@pytest.fixture(scope='module')
def gated():
    return drawing_of('gated')


def assert_same(drawing, samplers, **options):
    first, *others = (drawing(sampler, **options) for sampler in samplers)
    assert first.pixels.dtype == np.int32
    assert first.pixels.min() >= 0
    assert first.pixels.max() < drawing.model.levels
    assert len(np.unique(first.pixels)) > 2
    for other in others:
        np.testing.assert_array_equal(other.pixels, first.pixels)
        np.testing.assert_allclose(other.log_prob, first.log_prob, rtol=1e-4)
    return first


@pytest.mark.parametrize(
    'name', ['gated', 'grey link', 'post', 'link', 'made map', 'masked', 'plus_plus']
)
def test_all_samplers_draw_the_same_integers_and_know_their_log_prob(name):
    drawing = drawing_of(name)
    first = assert_same(drawing, SAMPLERS)
    np.testing.assert_allclose(drawing.score(first.pixels), first.log_prob, rtol=1e-4)
    if name != 'plus_plus':
        assert_same(drawing, SAMPLERS, temperature=0.5)


def test_a_recurrent_network_has_the_other_two_samplers():
    drawing = drawing_of('diagonal')
    assert_same(drawing, (sample_naive, sample_fixed_point))
    with pytest.raises(ValueError, match='PixelRNN cannot run in steps: use sample_fixed_point'):
        drawing(sample_cached)


def test_a_grey_mixture_of_another_shape_is_cached_too():
    assert_same(drawing_of('grey plus_plus'), (sample_cached, sample_fixed_point))


@pytest.mark.parametrize('name', ['gated', 'plus_plus'])
def test_a_half_given_image_is_completed_and_what_is_given_stays(name):
    drawing = drawing_of(name)
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
def test_where_all_is_observed_the_image_comes_back_with_its_log_prob(name):
    drawing = drawing_of(name)
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


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_progress_counts_rows_up_to_the_last(gated, sampler):
    jax.effects_barrier()
    gated.seen.clear()
    gated(sampler)
    jax.effects_barrier()
    done = sorted(done for done, _ in gated.seen)
    assert done[-1] == gated.size[0]
    assert {rows for _, rows in gated.seen} == {gated.size[0]}
    assert sampler is sample_fixed_point or done == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ('model', 'size'), [(tiny.masked(), (4, 8)), (tiny.gated(), (4, 8)), (tiny.plus_plus(), (8, 8))]
)
def test_what_is_kept_grows_with_the_row_and_not_with_the_image(model, size):
    pixels = jnp.zeros((1, *size, 3), jnp.int32)
    variables = jax.eval_shape(lambda key: model.init(key, pixels), jax.random.key(0))

    def kept(height, width):
        state = jax.eval_shape(
            lambda v: model.apply(v, 1, (height, width), method='steps').start(), variables
        )
        return sum(np.prod(x.shape) for x in jax.tree.leaves(state))

    height, width = size
    once = kept(height, width)
    assert kept(2 * height, width) == once
    assert kept(height, 2 * width) == 2 * once


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
    given = tiny.images(gated.model, BATCH, gated.size)
    with pytest.raises(ValueError, match='come together'):
        sample_cached(gated.model, gated.variables, gated.keys, gated.size, given=given)
