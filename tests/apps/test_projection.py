"""Projection into W: a generator's own images come back; and telling them from others by it."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import detection, inversion
from jaxgen.errors import UserError
from jaxgen.training.restore import Run
from tests import tiny

SHORT = inversion.Settings(steps=150, samples=200, noise_weight=1e2)


@pytest.fixture(scope='module')
def smooth():
    """CIPS whose images differ, on eight devices: sines of few frequencies, styles that matter."""
    from jaxgen.parallel.mesh import make_mesh

    generator = tiny.generator(embedding=False)
    variables = jax.tree.map(lambda x: 0.7 * x, tiny.variables(generator))
    return Run('smooth', generator, variables, make_mesh(), generator.frame)


@pytest.mark.parametrize('space', ['w', 'w+'])
def test_an_image_of_the_generator_comes_back(smooth, space):
    settings = inversion.Settings(steps=150, samples=200, space=space)
    targets = smooth.sample(3, seed=5)
    found = inversion.Projector(smooth, inversion.make_embedding('pyramid'), settings)(targets)
    assert found.distances.shape == (151, 3)
    assert found.w.shape == (3, 1 if space == 'w' else smooth.generator.num_layers, 7)
    assert (found.distances[-1] < 0.1 * found.distances[0]).all()
    # The distance at the end is that of the images that are returned.
    embed, weights = inversion.make_embedding('pyramid')
    again = np.sum((embed(weights, found.images) - embed(weights, targets)) ** 2, axis=1)
    np.testing.assert_allclose(found.distances[-1], again, rtol=1e-3, atol=1e-7)


def test_each_image_is_projected_by_itself_from_the_nearest_start(smooth):
    settings = inversion.Settings(steps=5, samples=100, starts=20, noise=0)
    embed, weights = inversion.make_embedding('pyramid')
    project = inversion.Projector(smooth, (embed, weights), settings)
    targets = smooth.sample(3, seed=5)
    together = project(targets)
    alone = project(targets[:1])
    np.testing.assert_allclose(together.w[:1], alone.w, rtol=1e-4, atol=1e-5)
    mean, _ = inversion.style_statistics(smooth, 100, seed=0)
    others = smooth.styles(np.arange(20), inversion.START_SEED)[1]
    looks = embed(weights, smooth.images(np.concatenate([mean[0], others])))
    away = np.sum((looks[None] - embed(weights, targets)[:, None]) ** 2, axis=2)
    assert away.argmin(axis=1).any()  # not all nearest to the mean
    np.testing.assert_allclose(together.distances[0], away.min(axis=1), rtol=1e-3)


def test_noise_maps_stay_noise_and_help(stylegans):
    run = stylegans['stylegan2']
    settings = inversion.Settings(steps=12, samples=100)
    project = inversion.Projector(run, inversion.make_embedding('pyramid'), settings)
    found = project(np.clip(run.sample(2), -1, 1))
    assert [x.shape[1] for x in found.noise] == [4, 8, 8, 16, 16]
    for noise in found.noise:
        np.testing.assert_allclose(noise.mean(axis=(1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose((noise**2).mean(axis=(1, 2, 3)), 1, atol=1e-4)
    assert (found.distances[-1] < found.distances[0]).all()


def test_statistics_of_w_are_those_of_its_samples(smooth):
    mean, deviation = inversion.style_statistics(smooth, 1500, seed=3)
    w = np.asarray(smooth.styles(np.arange(1500), 3)[1], np.float64)
    np.testing.assert_allclose(mean[0, 0], w.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert deviation == pytest.approx(np.sqrt(w.var(axis=0).sum()), rel=1e-4)


def test_auc_counts_pairs():
    below, above = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0])
    assert detection.auc(below, above) == 1
    assert detection.auc(above, below) == 0
    assert detection.auc(below, below) == 0.5
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 20), rng.integers(0, 5, 30)
    pairs = [(x < y) + 0.5 * (x == y) for x in a for y in b]
    assert detection.auc(a, b) == pytest.approx(np.mean(pairs))


def test_images_of_the_generator_are_told_from_noise(smooth, capsys):
    rng = np.random.default_rng(0)
    real = rng.uniform(-1, 1, (8, *smooth.frame, 3)).astype(np.float32)
    distance = inversion.make_embedding('pyramid')
    result = detection.detect(
        smooth, real, distance, inversion.Settings(steps=80, samples=100), batch=8
    )
    assert result['generated'].shape == result['real'].shape == (8,)
    assert result['auc'] > 0.95


def test_targets_are_read_and_cut_to_the_frame(tmp_path):
    Image.new('RGB', (20, 10), (255, 0, 0)).save(tmp_path / 'a.png')
    Image.new('L', (9, 9), 0).save(tmp_path / 'b.jpg')
    from jaxgen.apps.projection import read_targets

    images, names = read_targets(str(tmp_path), (8, 8))
    assert names == ['a.png', 'b.jpg']
    assert images.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(images[0, 0, 0], [1, -1, -1])
    (tmp_path / 'c.png').write_bytes(b'no')
    for path in (tmp_path, tmp_path / 'none.png'):
        with pytest.raises(UserError, match='--target'):
            read_targets(str(path), (8, 8))


def test_the_command_writes_numbers_comparison_and_video(commands, folders, tmp_path):
    out = tmp_path / 'found'
    given = f'--workdir={folders["plain"]}', f'--out={out}', '--distance=pyramid', '--steps=3'
    done = commands.run('jaxgen.apps.projection', *given, '--own=2', '--video=gif')
    assert done.code == 0, done.err
    names = {path.name for path in out.iterdir()}
    assert names == {'projected.npz', 'comparison.png', 'projection.gif'}
    with np.load(out / 'projected.npz') as found:
        assert found['distances'].shape == (4, 2)
    done = commands.run('jaxgen.apps.projection', *given)
    assert done.code == 2
    assert 'exactly one of --target and --own' in done.err
