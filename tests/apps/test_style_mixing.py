"""`jaxgen.apps.style_mixing`: a style per pixel, at no more memory than one for all."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import style_mixing
from jaxgen.errors import UserError
from jaxgen.objectives.rendering import make_render
from jaxgen.training.workdir import to_uint8
from tests.test_bad_input import assert_one_line

SIZE = (20, 30)


@pytest.fixture(scope='module')
def styles(run):
    return run.styles([0, 1])[1]


@pytest.fixture(scope='module')
def both(run, styles):
    """The ordinary renders of both styles, `[2, H, W, 3]`."""
    return run.render(run.generator.points(*SIZE), styles).reshape(2, *SIZE, 3)


@pytest.mark.parametrize('level', [0.0, 0.3, 1.0])
def test_a_constant_mask_is_the_ordinary_render_of_the_style_between(run, styles, level):
    mixed = (1 - level) * styles[:1] + level * styles[1:]
    ordinary = run.render(run.generator.points(*SIZE), mixed).reshape(*SIZE, 3)
    blended = style_mixing.blend(run, styles, np.full(SIZE, level))
    np.testing.assert_allclose(blended, ordinary, atol=1e-5)


def test_where_the_mask_is_0_or_1_the_two_renders_are_seen(run, styles, both):
    mask = np.random.default_rng(0).integers(0, 2, SIZE)
    blended = style_mixing.blend(run, styles, mask)
    np.testing.assert_allclose(blended[mask == 0], both[0][mask == 0], atol=1e-5)
    np.testing.assert_allclose(blended[mask == 1], both[1][mask == 1], atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.1


@pytest.mark.parametrize('fields', [{}, dict(first_width=64, block_widths=(64, 64))], ids=str)
def test_a_blend_takes_no_more_memory_than_an_ordinary_render(make_run, fields):
    run = make_run(**fields)
    render = jax.jit(make_render(run.generator))

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    def memory(pixels, w):
        compiled = render.lower(run.variables, pixels, (w, None)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    coords, width = array(256 * 256, 2), run.generator.style
    ordinary = memory(coords, array(1, width))
    assert memory((coords, array(256 * 256, 2)), array(1, 2, width)) <= ordinary


def test_the_shapes_of_the_masks():
    mask = style_mixing.linear(3, 5)
    np.testing.assert_allclose(mask, np.tile([0, 0.25, 0.5, 0.75, 1], (3, 1)))
    mask = style_mixing.radial(5, 9)
    assert mask.shape == (5, 9)
    assert mask[2, 4] == mask.max() == 1
    assert 0 <= mask.min() < 0.01
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])
    assert np.all(np.diff(mask[2, 4:]) < 0)
    np.testing.assert_allclose(mask[0, 4], mask[2, 6], atol=1e-6)  # circles, not ellipses


def test_a_picture_of_any_size_and_mode_is_a_mask(tmp_path):
    grey = np.linspace(0, 255, 8).astype(np.uint8)[None].repeat(4, axis=0)
    for mode in ('L', 'RGB', 'RGBA'):
        Image.fromarray(grey).convert(mode).save(tmp_path / 'mask.png')
        picture = style_mixing.read_mask(tmp_path / 'mask.png')
        np.testing.assert_allclose(style_mixing.fit_mask(picture, 4, 8), grey / 255, atol=0.01)
        small = style_mixing.fit_mask(picture, 2, 4)
        assert small.shape == (2, 4)
        assert np.all(np.diff(small) > 0)


def test_what_is_no_picture_is_no_mask(tmp_path):
    (tmp_path / 'mask.png').write_text('white')
    for path in (tmp_path / 'mask.png', tmp_path / 'none.png', tmp_path):
        with pytest.raises(UserError, match='--mask must be radial, linear or a picture file'):
            style_mixing.read_mask(path)


def test_the_command_shows_a_the_blend_b_and_the_mask(commands, folders, tmp_path):
    out, mask = tmp_path / 'mix.png', tmp_path / 'mask.png'
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(mask)
    flags = [f'--workdir={folders["plain"]}', '--size=8', f'--mask={mask}', f'--out={out}']
    done = commands.run('jaxgen.apps.style_mixing', *flags, '--images=0,2')
    assert done.code == 0, done.err
    drawn = np.asarray(Image.open(out))
    panels = [drawn[-16:-8, 8 + 16 * i : 16 + 16 * i].astype(int) for i in range(4)]
    a, blended, b, shown = panels
    diagonal = np.eye(8, dtype=bool)
    assert np.abs(blended - np.where(diagonal[..., None], b, a)).max() <= 1
    np.testing.assert_array_equal(shown, np.eye(8)[..., None].repeat(3, -1) * 255)
    done = commands.run('jaxgen.apps.style_mixing', *flags, '--images=0,2', '--only')
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.asarray(Image.open(out)), blended)
    from jaxgen.training.restore import restore

    images = to_uint8(restore(folders['plain']).sample(3, size=(8, 8))[[0, 2]])
    assert np.abs(np.stack([a, b]) - images).max() <= 1


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--images=0', ('--images must be 2 numbers', "'0'")),
        ('--images=0,-1', ('--images must be two numbers from 0', "'0,-1'")),
        ('--images=0,1.5', ("'0,1.5'",)),
        ('--mask=spiral', ('radial, linear or a picture', "'spiral'")),
    ],
)
def test_a_wrong_flag_is_one_line(commands, folders, tmp_path, flag, words):
    done = commands.run(
        'jaxgen.apps.style_mixing',
        f'--workdir={folders["plain"]}',
        f'--out={tmp_path / "a.png"}',
        flag,
    )
    assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())
