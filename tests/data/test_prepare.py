"""The command that turns a folder or zip of images into a prepared set."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.data import images, prepare, units
from jaxgen.errors import UserError


def pixels(seed, width=12, height=12, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def zip_folder(folder, path, prefix=''):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob('*')):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return path


@pytest.fixture
def folder(tmp_path):
    """Four PNGs of 12x12 in two sub-folders, and files that are no part of the set."""
    root = tmp_path / 'source'
    for index in range(4):
        save(root / ('cats' if index < 2 else 'dogs') / f'{index}.png', pixels(index))
    (root / 'cats' / 'notes.txt').write_text('no image')
    (root / '.hidden').mkdir()
    save(root / '.hidden' / 'thumb.png', pixels(90))
    save(root / '__MACOSX' / 'cats' / '0.png', pixels(91))
    save(root / 'cats' / '._0.png', pixels(92))
    return root


@pytest.fixture
def command(tmp_path, capsys):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def run(source, *flags, name='tiny', size=12, workers=1):
        fixed = [f'--source={source}', f'--data_dir={tmp_path / "data"}', f'--name={name}']
        code = prepare.main([*fixed, f'--size={size}', f'--workers={workers}', *flags])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def read(tmp_path):
    """Reads a prepared set as {split: [example]}."""

    def run(name='tiny'):
        builder = tfds.builder_from_directory(tmp_path / 'data' / name / '1.0.0')
        return {split: list(builder.as_data_source(split)) for split in builder.info.splits}

    return run


def as_set(examples):
    return {(example['image'].tobytes(), example.get('label')) for example in examples}


# The round trip


def test_prepared_images_are_read_back_pixel_for_pixel(command, folder, read):
    code, out, _ = command(folder)
    assert code == 0
    assert '4 images of 12x12 RGB (train 4)' in out
    assert '--config.data.name=tiny' in out
    splits = read()
    assert list(splits) == ['train']
    assert splits['train'][0]['image'].shape == (12, 12, 3)
    assert as_set(splits['train']) == {(pixels(i).tobytes(), None) for i in range(4)}


@pytest.mark.parametrize('prefix', ['', 'the/folder/'])
def test_a_zip_gives_the_same_records_in_the_same_order_as_its_folder(
    command, folder, read, tmp_path, prefix
):
    assert command(folder, '--labels')[0] == 0
    path = zip_folder(folder, tmp_path / 'source.zip', prefix)
    assert command(path, '--labels', name='zipped')[0] == 0
    one, other = read()['train'], read('zipped')['train']
    assert [example['image'].tobytes() for example in one] == [
        example['image'].tobytes() for example in other
    ]
    assert [example['label'] for example in one] == [example['label'] for example in other]


def test_labels_are_the_sorted_sub_folders(command, folder, read, tmp_path):
    save(folder / 'ants' / 'deep' / 'down' / '9.png', pixels(9))
    code, out, _ = command(folder, '--labels')
    assert code == 0
    assert '--config.data.label=True' in out
    expected = {(pixels(9).tobytes(), 0)} | {(pixels(i).tobytes(), 1 + i // 2) for i in range(4)}
    assert as_set(read()['train']) == expected
    builder = tfds.builder_from_directory(tmp_path / 'data' / 'tiny' / '1.0.0')
    assert builder.info.features['label'].names == ['ants', 'cats', 'dogs']


def test_the_test_split_takes_its_share_and_leaves_the_rest(command, folder, read):
    code, out, _ = command(folder, '--test_fraction=0.25')
    assert code == 0
    assert '--config.data.eval_split=test' in out
    splits = read()
    assert {split: len(examples) for split, examples in splits.items()} == {'test': 1, 'train': 3}
    assert len(as_set(splits['test']) | as_set(splits['train'])) == 4


def test_a_large_set_lies_in_several_shards_and_loses_nothing(
    command, folder, read, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, '_SHARD_BYTES', 1100)  # two of these PNGs
    assert command(folder)[0] == 0
    assert len(list((tmp_path / 'data' / 'tiny' / '1.0.0').glob('*.array_record-*'))) == 2
    assert as_set(read()['train']) == {(pixels(i).tobytes(), None) for i in range(4)}


def test_a_grey_set_has_one_channel(command, folder, read):
    assert command(folder, '--grey')[0] == 0
    expected = {Image.fromarray(pixels(i)).convert('L').tobytes() for i in range(4)}
    examples = read()['train']
    assert examples[0]['image'].shape == (12, 12, 1)
    assert {example['image'].tobytes() for example in examples} == expected


def test_size_is_width_times_height(command, folder, read):
    assert command(folder, size='6x4')[0] == 0
    assert read()['train'][0]['image'].shape == (4, 6, 3)


def test_two_processes_give_the_same_set_as_one(command, folder, read, monkeypatch):
    monkeypatch.setattr(units, '_UNIT_IMAGES', 1)
    assert command(folder, name='one')[0] == 0
    assert command(folder, name='two', workers=2)[0] == 0
    one, two = read('one')['train'], read('two')['train']
    assert [x['image'].tobytes() for x in one] == [x['image'].tobytes() for x in two]


def test_jax_and_tensorflow_are_not_imported(folder, tmp_path):
    script = textwrap.dedent("""
        import sys
        from jaxgen.data import prepare
        assert 'tensorflow_datasets' not in sys.modules, 'a mistake should not wait for tfds'
        assert prepare.main(sys.argv[1:]) == 0
        assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules)
    """)
    flags = [f'--source={folder}', '--name=tiny', '--size=4', f'--data_dir={tmp_path / "data"}']
    subprocess.run([sys.executable, '-c', script, *flags], check=True)


# Geometry


@pytest.mark.parametrize(
    ('source', 'size'),
    [((7, 5), (2, 2)), ((5, 7), (2, 2)), ((9, 9), (4, 3)), ((20, 4), (3, 4)), ((1, 9), (8, 8))],
)
def test_centre_crop_is_the_largest_centred_box_of_the_aspect_ratio(source, size):
    width, height = source
    # Oracle: of all boxes with the ratio to within half a pixel, the largest; then by slicing.
    boxes = [
        (w, h)
        for w in range(1, width + 1)
        for h in range(1, height + 1)
        if abs(w * size[1] - h * size[0]) <= max(size) / 2
    ]
    w, h = max(boxes, key=lambda box: box[0] * box[1], default=(1, 1))
    array = pixels(0, width, height)
    top, left = (height - h) // 2, (width - w) // 2
    cut = np.asarray(Image.fromarray(array).crop(images.crop_box(source, size)))
    np.testing.assert_array_equal(cut, array[top : top + h, left : left + w])


@pytest.mark.parametrize('source', [(40, 30), (30, 40), (5, 6)])
def test_resizing_is_pils_lanczos_on_the_crop(source):
    image = Image.fromarray(pixels(1, *source))
    side = min(source)
    left, top = (source[0] - side) // 2, (source[1] - side) // 2
    array = np.asarray(image)[top : top + side, left : left + side]
    expected = Image.fromarray(array).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(images.fit(image, (8, 8)), expected)


def test_without_a_crop_the_whole_picture_is_squeezed_and_said_to_be(command, tmp_path, read):
    save(tmp_path / 'source' / 'wide.png', pixels(2, 20, 10))
    save(tmp_path / 'source' / 'exact.png', pixels(3))
    code, out, _ = command(tmp_path / 'source', '--crop=none')
    assert code == 0
    assert 'note: 1 images were squeezed' in out
    wide = Image.fromarray(pixels(2, 20, 10)).resize((12, 12), Image.Resampling.LANCZOS)
    assert as_set(read()['train']) == {(wide.tobytes(), None), (pixels(3).tobytes(), None)}


def test_small_images_are_enlarged_and_counted(command, folder):
    assert 'note: 4 images were smaller, and enlarged' in command(folder, size=16)[1]


# Kinds of files


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
def test_exif_orientation_is_applied(orientation, form):
    image = Image.new('RGB', (32, 16), 'black')
    image.paste('red', (0, 0, 16, 8))  # the top left quarter as stored
    exif = Image.Exif()
    exif[274] = orientation
    decoded = images.decode(encoded(image, form, exif=exif))
    # Where the stored top left comes to lie, by the definition of the tag: (right, bottom).
    right, bottom = [
        (0, 0), (1, 0), (1, 1), (0, 1), (0, 0), (1, 0), (1, 1), (0, 1)
    ][orientation - 1]  # fmt: skip
    assert decoded.size == ((32, 16) if orientation < 5 else (16, 32))
    array = np.asarray(decoded).astype(int)
    height, width = array.shape[0] // 2, array.shape[1] // 2
    quarters = {
        (i, j): array[j * height : (j + 1) * height, i * width : (i + 1) * width, 0].mean()
        for i in (0, 1)
        for j in (0, 1)
    }
    assert max(quarters, key=quarters.get) == (right, bottom)
    assert quarters[right, bottom] > 200


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_alpha_is_composited_on_white(mode):
    array = pixels(4, channels=len(mode))
    decoded = np.asarray(images.decode(encoded(Image.fromarray(array, mode=mode), 'PNG')))
    alpha = array[..., -1:].astype(float) / 255
    expected = array[..., :-1] * alpha + 255 * (1 - alpha)
    assert decoded.shape == (12, 12, 3)
    np.testing.assert_allclose(decoded, np.broadcast_to(expected, decoded.shape), atol=1)


def test_a_palette_and_its_transparent_entry_are_resolved():
    image = Image.new('P', (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    opaque = np.asarray(images.decode(encoded(image, 'PNG')))
    np.testing.assert_array_equal(opaque, [[[10, 20, 30], [200, 100, 50]]])
    holed = np.asarray(images.decode(encoded(image, 'PNG', transparency=0)))
    np.testing.assert_array_equal(holed, [[[255, 255, 255], [200, 100, 50]]])


def test_sixteen_bits_keep_their_high_byte():
    array = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    decoded = np.asarray(images.decode(encoded(Image.fromarray(array), 'PNG')))
    np.testing.assert_array_equal(decoded, np.repeat((array >> 8)[..., None], 3, axis=2))


def test_cmyk_jpegs_keep_their_colours():
    image = Image.new('CMYK', (16, 16), (0, 255, 255, 0))  # no cyan: red
    decoded = np.asarray(images.decode(encoded(image, 'JPEG', quality=95)))
    np.testing.assert_allclose(decoded, np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=4)


def test_the_content_decides_the_format_and_not_the_ending(command, tmp_path, read):
    path = tmp_path / 'source' / 'really_a_png.webp'
    path.parent.mkdir()
    path.write_bytes(encoded(Image.fromarray(pixels(5)), 'PNG'))
    assert command(tmp_path / 'source')[0] == 0
    assert as_set(read()['train']) == {(pixels(5).tobytes(), None)}


def test_a_broken_exif_block_makes_no_corrupt_file():
    data = encoded(Image.fromarray(pixels(6)), 'PNG', exif=b'Exif\0\0II*\0')
    np.testing.assert_array_equal(images.decode(data), pixels(6))


def test_nothing_but_pixels_is_stored():
    exif = Image.Exif()
    exif[270] = 'a description'
    data = encoded(Image.fromarray(pixels(6)), 'PNG', icc_profile=b'p' * 200, exif=exif)
    stored = images.encode_png(images.fit(images.decode(data), (12, 12)))
    assert b'iCCP' in data
    assert not Image.open(io.BytesIO(stored)).info


# Corrupt files


def corrupt_files():
    good = encoded(Image.fromarray(pixels(7, 64, 64)), 'JPEG')
    return {'text.png': b'no image', 'empty.jpg': b'', 'cut.jpeg': good[: len(good) // 2]}


def test_corrupt_files_are_named_and_skipped(command, folder, read, tmp_path):
    for name, data in corrupt_files().items():
        (folder / name).write_bytes(data)
    code, out, err = command(folder)
    assert code == 0
    assert '3 corrupt files skipped' in out
    for name in corrupt_files():
        assert f'skipped corrupt image {name!r}' in err
    assert len(read()['train']) == 4
    metadata = json.loads((tmp_path / 'data' / 'tiny' / '1.0.0' / 'metadata.json').read_text())
    assert metadata['skipped'] == sorted(corrupt_files())


@pytest.mark.parametrize('name', corrupt_files())
def test_a_corrupt_file_can_be_fatal(command, folder, tmp_path, name):
    (folder / name).write_bytes(corrupt_files()[name])
    code, _, err = command(folder, '--on_corrupt=fail')
    assert code == 2
    assert f'corrupt image {name!r}' in err.splitlines()[-1]
    assert not (tmp_path / 'data' / 'tiny' / '1.0.0').exists()


def test_a_damaged_zip_entry_is_a_corrupt_file(command, folder, read, tmp_path):
    path = zip_folder(folder, tmp_path / 'source.zip')
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo('dogs/3.png')
    data = bytearray(path.read_bytes())
    for offset in range(info.header_offset + 60, info.header_offset + 200):
        data[offset] ^= 255
    path.write_bytes(data)
    code, _, err = command(path)
    assert code == 0
    assert "skipped corrupt image 'dogs/3.png'" in err
    assert len(read()['train']) == 3


def test_a_decompression_bomb_is_a_corrupt_file(monkeypatch):
    data = encoded(Image.fromarray(pixels(8)), 'PNG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 12 * 12 // 2 - 1)
    with pytest.raises(images.CorruptImage, match='DecompressionBombError'):
        images.decode(data)


def test_other_formats_are_corrupt_files():
    with pytest.raises(images.CorruptImage, match='not a PNG, JPEG or WebP'):
        images.decode(encoded(Image.fromarray(pixels(8)), 'TIFF'))


# Resume


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Forty images, in units of about five."""
    monkeypatch.setattr(units, '_UNIT_IMAGES', 5)
    for index in range(40):
        save(tmp_path / 'many' / f'{index}.png', pixels(index, 8, 8))
    return tmp_path / 'many'


@pytest.fixture
def decoded(monkeypatch):
    """The bytes of the images that are decoded, in turn."""
    calls = []
    decode = images.decode
    monkeypatch.setattr(images, 'decode', lambda data, **k: calls.append(data) or decode(data, **k))
    return calls


def kept(work):
    return {path: path.stat().st_mtime_ns for path in work.glob('*.zip')}


def test_a_killed_run_goes_on_without_processing_an_image_twice(
    command, many, decoded, read, tmp_path
):
    script = textwrap.dedent("""
        import sys, time
        from jaxgen.data import images, prepare, units
        encode = images.encode_png
        units._UNIT_IMAGES = 5
        images.encode_png = lambda image: time.sleep(0.05) or encode(image)
        prepare._check_name = lambda name: None
        sys.exit(prepare.main(sys.argv[1:]))
    """)
    flags = [f'--source={many}', '--name=tiny', '--size=8', '--workers=1']
    data, work = tmp_path / 'data', tmp_path / 'data' / 'tiny' / '.work'
    process = subprocess.Popen([sys.executable, '-c', script, *flags, f'--data_dir={data}'])
    while len(kept(work)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = sum(len(zipfile.ZipFile(path).namelist()) - 1 for path in kept(work))
    assert 0 < done < 40
    code, out, _ = command(many, size=8)
    assert code == 0
    assert f'going on: {done} of 40 images are already processed' in out
    assert len(decoded) == 40 - done
    assert as_set(read()['train']) == {(pixels(i, 8, 8).tobytes(), None) for i in range(40)}
    assert os.listdir(data / 'tiny') == ['1.0.0']


def test_mending_a_corrupt_file_costs_its_unit_only(command, many, decoded, read):
    path = many / '17.png'
    path.write_bytes(b'broken')
    assert command(many, '--on_corrupt=fail', size=8)[0] == 2
    save(path, pixels(17, 8, 8))
    assert command(many, '--on_corrupt=fail', size=8)[0] == 0
    assert 40 <= len(decoded) < 40 + 15  # the unit of the broken file is processed twice
    assert len(read()['train']) == 40


def test_a_file_more_or_less_leaves_all_units_but_one_alone():
    files = {f'{index}.png': index for index in range(1000)}
    look = units.Look((8, 8), 'center', False)
    groups = units.make_units(files, look)
    assert [name for unit in groups for name in unit.names] != list(files)
    assert sorted(name for unit in groups for name in unit.names) == sorted(files)
    assert len(groups) == 16
    del files['123.png']
    assert len(set(groups) & set(units.make_units(files, look))) == 15


def test_what_was_done_with_other_settings_is_not_used(command, many, decoded, tmp_path, read):
    (many / 'broken.png').write_bytes(b'broken')
    assert command(many, '--on_corrupt=fail', size=8)[0] == 2
    assert kept(tmp_path / 'data' / 'tiny' / '.work')
    decoded.clear()
    code, out, _ = command(many, size=4)
    assert code == 0
    assert 'going on' not in out
    assert len(decoded) == 41
    assert read()['train'][0]['image'].shape == (4, 4, 3)


def test_a_damaged_work_file_is_made_again(command, many, decoded, tmp_path):
    (many / 'broken.png').write_bytes(b'broken')
    assert command(many, '--on_corrupt=fail', size=8)[0] == 2
    for path in kept(tmp_path / 'data' / 'tiny' / '.work'):
        path.write_bytes(path.read_bytes()[:-40])
    decoded.clear()
    assert command(many, size=8)[0] == 0
    assert len(decoded) == 41


def test_workers_end_when_the_main_process_is_killed():
    script = textwrap.dedent("""
        import concurrent.futures, multiprocessing, os, time
        from jaxgen.data import units
        pool = concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context('spawn'), units._start_worker)
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    worker = Path('/proc', process.stdout.readline().strip(), 'stat')
    assert worker.exists()
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(500):
        try:
            if (
                worker.read_text().rpartition(')')[2].split()[0] == 'Z'
            ):  # ended; nobody waits for it
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    pytest.fail('the worker still runs')


# A set that exists


def test_a_second_run_with_the_same_settings_does_nothing(command, folder, decoded):
    assert command(folder)[0] == 0
    decoded.clear()
    code, out, _ = command(folder)
    assert code == 0
    assert 'already prepared' in out
    assert '--config.data.name=tiny' in out
    assert not decoded


def test_overwrite_replaces_a_set(command, folder, read):
    assert command(folder, '--labels')[0] == 0
    assert command(folder, '--overwrite', size=5)[0] == 0
    assert read()['train'][0].keys() == {'image'}
    assert read()['train'][0]['image'].shape == (5, 5, 3)


def test_a_changed_source_is_other_settings(command, folder):
    assert command(folder)[0] == 0
    save(folder / 'cats' / '0.png', pixels(50, 20, 20))
    code, _, err = command(folder)
    assert code == 2
    assert 'names or lengths of the source files' in err


# Mistakes


def one_line(result, *parts):
    code, _, err = result
    assert code == 2
    assert err.count('\n') == 1, err
    for part in parts:
        assert part in err


def test_a_missing_source_is_one_line(command, tmp_path):
    one_line(command(tmp_path / 'nowhere'), 'nowhere does not exist')


def test_a_source_that_is_no_zip_is_one_line(command, tmp_path):
    (tmp_path / 'text').write_text('x')
    one_line(command(tmp_path / 'text'), 'neither a folder nor a readable zip')


def test_an_empty_folder_is_one_line(command, tmp_path):
    (tmp_path / 'empty').mkdir()
    one_line(command(tmp_path / 'empty'), 'has no images', '.webp')


def test_an_lmdb_is_told_from_an_empty_folder(command, tmp_path):
    (tmp_path / 'church_lmdb').mkdir()
    (tmp_path / 'church_lmdb' / 'data.mdb').write_bytes(b'x')
    one_line(command(tmp_path / 'church_lmdb'), 'export the images from it first')


@pytest.mark.parametrize('size', ['0', '-4', '8x0', '8x8x3', 'big', '99999', '2.5'])
def test_a_bad_size_is_one_line(command, folder, size):
    one_line(command(folder, size=size), f"'{size}' is no size", '512x384')


@pytest.mark.parametrize('name', ['Big', 'a/b', '../up', '', '1st', 'photographs', 'mnist'])
def test_a_bad_name_is_one_line(command, folder, tmp_path, name):
    one_line(command(folder, name=name), name)
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize(
    ('flag', 'part'),
    [
        ('--test_fraction=1', '--test_fraction'),
        ('--test_fraction=0.01', 'gives 0 for the test split'),
        ('--crop=left', 'center'),
        ('--on_corrupt=ask', 'skip'),
        ('--workers=0', '--workers'),
        ('--colour', '--colour'),
    ],
)
def test_a_bad_flag_is_one_line(command, folder, flag, part):
    one_line(command(folder, flag), part)


def test_other_settings_than_those_of_the_set_are_one_line(command, folder):
    assert command(folder)[0] == 0
    result = command(folder, '--grey', size=8)
    one_line(result, 'size=12x12 there and 8x8 now', 'grey=False there and True now', '--overwrite')
    assert 'crop' not in result[2]


def test_a_set_made_otherwise_is_one_line(command, folder, tmp_path):
    (tmp_path / 'data' / 'tiny' / '1.0.0').mkdir(parents=True)
    one_line(command(folder), 'was not made by this command')


def test_labels_without_sub_folders_are_one_line(command, folder):
    one_line(command(folder / 'cats', '--labels'), 'sub-folder', '0.png')


def test_a_source_without_a_readable_image_is_an_error(command, tmp_path):
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'x.png').write_bytes(b'x')
    code, _, err = command(tmp_path / 'bad')
    assert code == 2
    assert 'none of the 1 images' in err.splitlines()[-1]


def test_an_unwritable_data_dir_is_one_line(command, folder, tmp_path):
    (tmp_path / 'data').write_text('a file in the way')
    one_line(command(folder), str(tmp_path / 'data'))


def test_two_runs_at_once_are_refused(command, folder, tmp_path):
    with prepare._lock(str(tmp_path / 'data' / 'tiny'), 'tiny'):
        one_line(command(folder), 'another process is preparing --name=tiny')


def test_errors_are_user_errors_for_callers_of_the_function(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        prepare.prepare(source='nowhere', name='x', size=(4, 4), data_dir=str(tmp_path))
