"""`jaxgen.apps.tiled_tiff`: what was appended is there, whatever happened in between."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxgen.apps.tiled_tiff import TiledTiff
from jaxgen.errors import UserError


def picture_of(size, channels):
    """Something that compresses, with values that wrap around in the differences."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([(7 * x + 3 * y * c) % 256 for c in range(1, channels + 1)], -1).astype('u1')


def tiles_of(picture, tile):
    rows, columns = (-(-n // tile) for n in picture.shape[:2])
    pad = [(0, rows * tile - picture.shape[0]), (0, columns * tile - picture.shape[1]), (0, 0)]
    padded = np.pad(picture, pad, mode='edge').reshape(rows, tile, columns, tile, -1)
    return padded.transpose(0, 2, 1, 3, 4).reshape(rows * columns, tile, tile, -1)


def write(target, picture, until=None, **options):
    """Appends the tiles that are missing, up to number `until`."""
    options = dict(tile=16, channels=picture.shape[-1]) | options
    with TiledTiff(target, picture.shape[:2], **options) as tiff:
        tiles = tiles_of(picture, options['tile'])[: tiff.tiles]
        for tile in tiles[tiff.done : until]:
            tiff.append([tile])
        if until is None:
            tiff.finish()
        return tiff.done


@pytest.mark.parametrize('deflate', [0, 6])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [(1, 1), (16, 16), (16, 32), (37, 50)])
def test_two_readers_find_the_picture(tmp_path, size, channels, deflate):
    picture, target = picture_of(size, channels), tmp_path / 'a.tif'
    write(target, picture, deflate=deflate)
    with tifffile.TiffFile(target) as tiff:
        assert tiff.is_bigtiff
        assert tiff.pages[0].is_tiled
    expected = picture[..., 0] if channels == 1 else picture
    np.testing.assert_array_equal(tifffile.imread(target).reshape(expected.shape), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(target)), expected)
    assert [path.name for path in tmp_path.iterdir()] == ['a.tif']


@pytest.mark.parametrize('until', [0, 1, 5, 11, 12])
def test_a_file_written_in_two_goes_is_the_one_written_in_one(tmp_path, until):
    picture = picture_of((45, 60), 3)
    write(tmp_path / 'one.tif', picture)
    target = tmp_path / 'two.tif'
    assert write(target, picture, until=until) == until
    assert not target.exists()
    partial = tmp_path / 'two.tif.part'
    # A tile that was appended and not yet noted when the process was killed.
    with partial.open('ab') as file:
        file.write(b'half of a tile' * 100 if until < 12 else b'')
    write(target, picture)
    assert not partial.exists()
    assert target.read_bytes() == (tmp_path / 'one.tif').read_bytes()


def test_another_picture_under_the_same_name_is_refused_and_the_started_one_kept(tmp_path):
    picture, target = picture_of((45, 60), 3), tmp_path / 'a.tif'
    write(target, picture, until=3, description={'seed': 0})
    before = (tmp_path / 'a.tif.part').read_bytes()
    for options, words in (
        (dict(description={'seed': 1}), 'seed: 0 before, 1 now'),
        (dict(description={}), 'seed: 0 before, None now'),
        (dict(description={'seed': 0}, deflate=1), 'deflate: 6 before, 1 now'),
    ):
        with pytest.raises(UserError, match=words):
            write(target, picture, **options)
    with pytest.raises(UserError, match='size'):
        write(target, picture_of((45, 61), 3), description={'seed': 0})
    assert (tmp_path / 'a.tif.part').read_bytes() == before
    assert write(target, picture, until=4, description={'seed': 0}) == 4


def test_a_file_in_the_way_that_is_no_started_picture_is_refused(tmp_path):
    (tmp_path / 'a.tif.part').write_text('notes')
    with pytest.raises(UserError, match=r'a\.tif\.part.* is in the way'):
        write(tmp_path / 'a.tif', picture_of((20, 20), 3))
    assert (tmp_path / 'a.tif.part').read_text() == 'notes'


def test_only_one_process_at_a_time_writes(tmp_path):
    options = dict(tile=16)
    first = TiledTiff(tmp_path / 'a.tif', (20, 20), **options)
    with pytest.raises(UserError, match='another process'):
        TiledTiff(tmp_path / 'a.tif', (20, 20), **options)
    first.close()
    TiledTiff(tmp_path / 'a.tif', (20, 20), **options).close()


def test_tiles_of_another_shape_and_an_incomplete_file_are_refused(tmp_path):
    with TiledTiff(tmp_path / 'a.tif', (20, 20), tile=16) as tiff:
        with pytest.raises(ValueError, match='a tile must be'):
            tiff.append(np.zeros((1, 16, 15, 3), np.uint8))
        with pytest.raises(ValueError, match='4 tiles are missing'):
            tiff.finish()
