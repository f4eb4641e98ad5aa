"""`jaxgen.apps.style_table`, and `style_mixing` on a generator with a style for each layer."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.apps import style_table
from jaxgen.errors import UserError
from jaxgen.training.workdir import to_uint8
from tests.test_bad_input import assert_one_line


@pytest.mark.parametrize(
    ('num_ws', 'lengths'), [(18, [4, 4, 10]), (14, [4, 4, 6]), (8, [3, 3, 2]), (6, [2, 2, 2])]
)
def test_the_groups_are_the_papers_and_cover_all_layers(num_ws, lengths):
    found = style_table.groups(num_ws)
    assert list(found) == ['coarse', 'middle', 'fine']
    assert [len(layers) for layers in found.values()] == lengths
    assert [i for layers in found.values() for i in layers] == list(range(num_ws))


def test_layers_are_groups_or_numbers():
    found = style_table.parse_layers(['fine', '0-6', '3'], 16)
    assert found == {'fine': range(8, 16), '0-6': range(7), '3': range(3, 4)}
    for word in ('0-16', '5-4', 'low', '', '-1'):
        with pytest.raises(UserError, match=r'--layers must be some of coarse.*0-15'):
            style_table.parse_layers([word], 16)


def test_a_mix_has_the_columns_styles_in_these_layers_and_the_rows_elsewhere():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(2, 5, 3)), rng.normal(size=(4, 5, 3))
    mixed = style_table.mix(rows, columns, range(1, 3))
    assert mixed.shape == (2, 4, 5, 3)
    for r in range(2):
        for c in range(4):
            np.testing.assert_array_equal(mixed[r, c, 1:3], columns[c, 1:3])
            np.testing.assert_array_equal(mixed[r, c, [0, 3, 4]], rows[r, [0, 3, 4]])


def test_all_layers_give_the_columns_image_and_none_the_rows(
    commands, folders, stylegans, tmp_path
):
    out, run = tmp_path / 'table.png', stylegans['stylegan3']
    flags = ['--rows=0,1', '--columns=2,3,4', f'--layers=0-{run.generator.num_ws - 1}']
    done = commands.run(
        'jaxgen.apps.style_mixing', f'--workdir={folders["stylegan3"]}', f'--out={out}', *flags
    )
    assert done.code == 0, done.err
    side, images = style_table.LEAST_SIDE, to_uint8(run.sample(5)).astype(int)
    picture = np.asarray(Image.open(out)).astype(int)[:, 8:-8]
    header, first = picture[30 : 30 + side], picture[2 * 30 + side : 2 * 30 + 2 * side]
    begin = [side + 3 * style_table.GAP + i * (side + style_table.GAP) for i in (0, 1)]
    cells = [part[:, i : i + side] for part in (header, first) for i in begin]
    for cell, number in zip(cells, (2, 3, 2, 3), strict=True):
        assert np.abs(cell[:: side // 16, :: side // 16] - images[number]).max() <= 1
    assert np.abs(first[:: side // 16, : side : side // 16] - images[0]).max() <= 1
    assert np.abs(images[2] - images[3]).max() > 8


@pytest.mark.parametrize(
    ('folder', 'flag', 'words'),
    [
        ('stylegan2', '--layers=0-9', ('--layers must be some of', "'0-9'", '0-5')),
        ('stylegan2', '--mask=linear', ('--mask does not go with a StyleGAN2Generator',)),
        ('stylegan2', '--rows=0,x', ('--rows must be', "'0,x'")),
        ('plain', '--columns=1', ('--columns does not go with a CIPSGenerator', 'pixel by pixel')),
    ],
)
def test_flags_of_the_other_kind_are_refused(commands, folders, tmp_path, folder, flag, words):
    out = tmp_path / 'a.png'
    done = commands.run(
        'jaxgen.apps.style_mixing', f'--workdir={folders[folder]}', f'--out={out}', flag
    )
    assert_one_line(done.code, done.err, words)
    assert not out.exists()
