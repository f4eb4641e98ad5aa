"""`jaxgen.apps.transform` and `jaxgen.apps.motion`: what moves, and what sticks."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import motion, transform
from jaxgen.apps.drawing import draw
from jaxgen.metrics import warps
from tests.apps.conftest import stylegan_variables
from tests.test_bad_input import assert_one_line


def test_a_translation_goes_right_then_left_by_the_shift():
    matrices = motion.translations(8, 0.25)
    np.testing.assert_allclose(matrices[[0, 4]], np.tile(np.eye(3), (2, 1, 1)), atol=1e-7)
    # The inverse of what happens to the image.
    np.testing.assert_allclose(matrices[2], [[1, 0, -0.25], [0, 1, 0], [0, 0, 1]], atol=1e-7)
    np.testing.assert_allclose(matrices[6, :, 2], [0.25, 0, 1], atol=1e-7)


def test_a_rotation_is_that_of_the_metric_and_goes_once_around():
    matrices = motion.rotations(6)
    for i in range(6):
        expected = warps.rotation_matrix(-2 * np.pi * i / 6)
        np.testing.assert_allclose(matrices[i], expected, atol=1e-6)


def test_a_walk_begins_at_the_image_and_stays_near_it():
    w = np.random.default_rng(0).normal(size=(3, 4, 5))
    way = motion.walk(w, 12, 0.2)
    np.testing.assert_allclose(way[0], w[0], atol=1e-6)
    axes = 0.2 * (w[1:] - w[:1])
    np.testing.assert_allclose(way[3], w[0] - axes[0] + axes[1], atol=1e-6)
    np.testing.assert_allclose(way[6], w[0] - 2 * axes[0], atol=1e-6)


@pytest.fixture(scope='module')
def moved(stylegans):
    """StyleGAN3's images under a translation in eighths, and the first of all."""
    run = stylegans['stylegan3']
    styles, matrices = motion.path_of('translation', run.styles([0, 1, 2])[1], 4, shift=0.125)
    return np.stack(list(draw(run, styles, transform=matrices)))


def test_the_input_moves_the_image(moved, stylegans):
    np.testing.assert_allclose(moved[0], stylegans['stylegan3'].sample(1)[0], atol=1e-4)
    spread = moved[0].std()
    # Two pixels to the right, then to the left; the tiny network has half-trained filters only.
    right = np.abs(moved[1, :, 2:] - moved[0, :, :-2]).mean()
    assert right < 0.5 * np.abs(moved[1] - moved[0]).mean()
    assert np.abs(moved[3, :, :-2] - moved[0, :, 2:]).mean() < 0.25 * spread


def test_a_stylegan2_with_a_fourier_input_is_moved_too(stylegans):
    plain = stylegans['stylegan2']
    generator = plain.generator.clone(fourier_input=True, noise='none')
    run = dataclasses.replace(
        plain, generator=generator, variables=stylegan_variables(generator.clone(noise='random'))
    )
    assert (motion.can_move(plain), motion.can_move(run)) == (False, True)
    w = np.asarray(run.styles([0, 1, 2])[1])
    caption, images = transform.panel(run, 'translation', w, 4, shift=0.25, reach=0.2)
    assert caption == 'StyleGAN2: translation'
    np.testing.assert_array_equal(images[0], images[2])
    for there in (1, 3):
        assert np.any(images[there] != images[0])
    assert np.any(images[1] != images[3])


def test_the_middle_row_over_time():
    images = np.arange(4 * 6 * 5 * 3).reshape(4, 6, 5, 3)
    rows = transform.middle_row(images, 8)
    np.testing.assert_array_equal(rows, images[:, 3].repeat(2, axis=0))


def test_the_video_has_both_models_in_the_motions_that_they_have(commands, folders, tmp_path):
    out = tmp_path / 'a.gif'
    flags = [f'--workdir={folders["stylegan3"]}', f'--beside={folders["stylegan2"]}']
    done = commands.run('jaxgen.apps.transform', *flags, f'--out={out}', '--frames=3')
    assert done.code == 0, done.err
    for words in ('StyleGAN3: rotation', 'StyleGAN3: walk', 'StyleGAN2: walk'):
        assert words in done.out
    assert 'StyleGAN2: translation' not in done.out
    with Image.open(out) as video:
        assert video.n_frames == 3
        assert video.size[0] == 4 * (256 + 16)


@pytest.mark.parametrize(
    ('folder', 'flag', 'words'),
    [
        (
            'stylegan2',
            '--motion=rotation',
            ('--motion=rotation needs a StyleGAN3', '--motion=walk'),
        ),
        ('stylegan2', '--motion=fly', ('--motion must be some of', "'fly'")),
        ('stylegan2', '--frames=1', ('frames', '1')),
        ('stylegan2', '--beside=plain', ('--beside', '4×4', 'must be 16×16')),
        ('stylegan2', '--beside=pixelcnn', ('--beside', 'GatedPixelCNN', 'no styles')),
    ],
)
def test_a_mistake_is_one_line(commands, folders, tmp_path, folder, flag, words):
    name, _, value = flag.partition('=')
    flag = f'{name}={folders[value]}' if value in folders else flag
    out = tmp_path / 'a.gif'
    done = commands.run(
        'jaxgen.apps.transform', f'--workdir={folders[folder]}', f'--out={out}', flag
    )
    assert_one_line(done.code, done.err, words)
    assert not out.exists()
