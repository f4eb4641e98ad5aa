"""A run's folder: configs compared, metrics dropped, pictures tiled."""

import json

import numpy as np
import pytest
from PIL import Image

from configs.cips import get_config
from jaxgen.errors import UserError
from jaxgen.training import workdir


def test_a_config_comes_back_as_it_was_saved(tmp_path):
    config = get_config('smoke')
    assert workdir.adopt_config(tmp_path, config) == []
    assert workdir.flatten(workdir.read_config(tmp_path)) == workdir.flatten(config)
    assert workdir.adopt_config(tmp_path, config) == []


def test_fields_that_differ_are_listed_with_both_values(tmp_path):
    config = get_config('smoke')
    workdir.adopt_config(tmp_path, config)
    config.update_from_flattened_dict({'steps': 9, 'data.flip': False})
    with config.unlocked():
        config.new = 1
    assert workdir.adopt_config(tmp_path, config) == [
        'data.flip: True before, False now',
        'new: (not set) before, 1 now',
        'steps: 8 before, 9 now',
    ]
    assert workdir.read_config(tmp_path).steps == 9


def test_a_run_from_before_a_field_was_there_reads_as_what_it_did(tmp_path):
    config = get_config('smoke')
    workdir.adopt_config(tmp_path, config)
    path = tmp_path / 'config.json'
    older = json.loads(path.read_text())
    for name in workdir.LATER_FIELDS:
        *section, field = name.split('.')
        del (older[section[0]] if section else older)[field]
    path.write_text(json.dumps(older))
    assert workdir.flatten(workdir.read_config(tmp_path)) == workdir.flatten(config)
    assert workdir.adopt_config(tmp_path, config) == []


@pytest.mark.parametrize(
    ('field', 'value'),
    [('model.size', 64), ('discriminator.channels', (8, 8, 8, 4)), ('model.noise', 'const')],
)
def test_another_model_is_refused(tmp_path, field, value):
    config = get_config('smoke')
    workdir.adopt_config(tmp_path, config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=f'another model .{field}: .*choose another workdir'):
        workdir.adopt_config(tmp_path, config)


def test_what_only_changes_how_a_model_is_computed_may_differ(tmp_path):
    config = get_config('smoke')
    workdir.adopt_config(tmp_path, config)
    fields = {'model.dtype': 'bfloat16', 'model.remat': True, 'discriminator.remat': True}
    config.update_from_flattened_dict(fields)
    assert len(workdir.adopt_config(tmp_path, config)) == 3


def test_metrics_after_a_step_and_a_torn_last_line_are_dropped(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    lines = [json.dumps({'step': step, 'x': 0.5}) for step in (1, 2, 2, 3, 4)]
    path.write_text('\n'.join(lines) + '\n{"step": 2, "x"')
    workdir.drop_metrics_after(tmp_path, 2)
    assert path.read_text().splitlines() == lines[:3]
    workdir.drop_metrics_after(tmp_path / 'none', 2)


def test_a_grid_holds_the_images_row_by_row_and_is_black_where_there_are_none():
    images = np.stack([np.full((2, 3, 3), value) for value in (-1, 0, 1, 0.5, -2)])
    picture = workdir.tile_images(images)
    assert picture.shape == (4, 9, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[::2, ::3, 0], [[0, 128, 255], [191, 0, 0]])


def test_a_grey_picture_is_saved_too(tmp_path):
    workdir.save_png(tmp_path / 'grey.png', np.full((2, 3, 1), 7, np.uint8))
    assert np.asarray(Image.open(tmp_path / 'grey.png')).tolist() == [[7] * 3] * 2


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = workdir.create(str(tmp_path / 'a' / 'b'))
    assert folder.is_dir()
    assert not list(folder.iterdir())
