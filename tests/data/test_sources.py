"""Opening prepared sets: what is found, what is read, and what is said where there is nothing."""

import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.data import photographs, sources
from jaxgen.data.sources import open_source
from jaxgen.errors import UserError

RED = (200, 30, 10)


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set of the given features and examples, in the one split `train`."""

    VERSION = tfds.core.Version('1.0.0')

    def __init__(self, name, features, examples, data_dir):
        self.name, self._features, self._examples = name, features, examples
        super().__init__(data_dir=str(data_dir), file_format='array_record')

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(self._features)
        )

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate(self._examples)


def _prepare(data_dir, name, features, examples):
    builder = Tiny(name, features, examples, data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return builder.data_path


def _png(size, mode='RGB', color=RED):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, 'png')
    return buffer.getvalue()


def _image_set(data_dir, name='squares', count=4, shape=(8, 8, 3)):
    features = {'image': tfds.features.Image(shape=shape)}
    return _prepare(data_dir, name, features, [{'image': _png((8, 8))}] * count)


@pytest.fixture
def offline(monkeypatch):
    """Whatever reaches for the network fails the test, by an exception that no retry catches."""

    class NetworkUsed(BaseException):
        pass

    def refuse(*args, **kwargs):
        raise NetworkUsed(args)

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(photographs, '_COUNTS', {'train': 40, 'test': 20})


def test_photographs_prepare_themselves_once_with_one_line(few, offline, tmp_path, capfd):
    first = open_source('photographs/coffee', 'test', data_dir=str(tmp_path))
    out, err = capfd.readouterr()
    assert (out, err.count('\n')) == ('', 1)
    assert 'photographs/coffee' in err
    again = open_source('photographs/coffee', 'test', data_dir=str(tmp_path))
    assert capfd.readouterr() == ('', '')
    assert len(first) == len(again) == 20
    assert os.listdir(tmp_path) == ['photographs']


def test_two_processes_that_prepare_at_once_both_get_the_whole_set(tmp_path):
    code = (
        'import os, sys, time\n'
        'from jaxgen.data import photographs, sources\n'
        "photographs._COUNTS = {'train': 400, 'test': 20}\n"
        "open(sys.argv[1] + '/ready' + sys.argv[2], 'w').close()\n"
        "while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.001)\n"
        "s = sources.open_source('photographs/coffee', data_dir=sys.argv[1] + '/data')\n"
        "print(len(s), sum(int(e['image'].sum()) for e in s))\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, '-c', code, str(tmp_path), str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob('ready*'))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / 'go').touch()
    (a, a_err), (b, b_err) = (run.communicate(timeout=120) for run in runs)
    assert [run.returncode for run in runs] == [0, 0], a_err + b_err
    assert a == b
    assert a.startswith('400 ')
    assert os.listdir(tmp_path / 'data') == ['photographs']


def test_who_comes_second_leaves_the_first_set_as_it_is(few, tmp_path):
    open_source('photographs/coffee', data_dir=str(tmp_path))
    (info,) = tmp_path.glob('**/dataset_info.json')
    before = info.stat()
    sources._prepare(photographs.Photographs, 'coffee', 'photographs/coffee', tmp_path, info.parent)
    assert info.stat() == before
    assert os.listdir(tmp_path) == ['photographs']


def test_a_failed_preparation_leaves_nothing_behind(few, tmp_path, monkeypatch):
    def fail(name):
        raise UserError('no such file')

    monkeypatch.setattr(photographs, 'read_photograph', fail)
    with pytest.raises(UserError, match='no such file'):
        open_source('photographs/coffee', data_dir=str(tmp_path))
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_a_set_of_ours_that_is_missing_names_the_very_command(offline, tmp_path, monkeypatch):
    monkeypatch.setenv('JAXGEN_DATA_DIR', str(tmp_path))
    with pytest.raises(UserError) as error:
        open_source('ffhq256', size_hint=256)
    assert str(error.value) == (
        f"data set 'ffhq256' is not prepared in {tmp_path}: "
        'python -m jaxgen.data.prepare --source=FOLDER --name=ffhq256 --size=256'
    )
    with pytest.raises(UserError, match=f'--size=64 --data_dir={tmp_path}/other$'):
        open_source('ffhq256', data_dir=f'{tmp_path}/other', size_hint=64)


@pytest.mark.parametrize('name', ['cifar10', 'mnist', 'lsun/church_outdoor'])
def test_a_catalogued_set_that_is_missing_names_its_tfds_command(offline, tmp_path, name):
    command = f'tfds build {name} --file_format=array_record --data_dir={tmp_path} '
    with pytest.raises(UserError) as error:
        open_source(name, data_dir=str(tmp_path))
    assert command in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'allowed'),
    [
        ('lsun', 'lsun/church_outdoor'),
        ('cifar10/nonsense', 'one of cifar10'),
        ('photographs/nonsense', 'photographs/hubble_deep_field'),
        ('nonsense/config', 'no recipe'),
        ('../photographs', 'NAME/CONFIG'),
        ('/squares', 'NAME/CONFIG'),
        ('', 'NAME/CONFIG'),
    ],
)
def test_a_name_that_cannot_be_is_told_what_is_allowed(offline, tmp_path, name, allowed):
    with pytest.raises(UserError, match=allowed):
        open_source(name, data_dir=str(tmp_path))


def test_an_unknown_split_is_told_the_splits(few, tmp_path):
    for split in ('validation', 'train[', 'validation[:10%]', ''):
        with pytest.raises(UserError, match='must be one of train, test'):
            open_source('photographs/coffee', split, data_dir=str(tmp_path))


def test_a_slice_of_a_split_is_a_split(few, tmp_path):
    assert len(open_source('photographs/coffee', 'train[:25%]', data_dir=str(tmp_path))) == 10


def test_a_data_folder_that_cannot_be_made_is_a_mistake_of_the_users(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='must be writable'):
        open_source('photographs/coffee', data_dir=str(tmp_path / 'file'))


def test_the_data_folder_is_the_argument_else_the_environment(tmp_path, monkeypatch):
    _image_set(tmp_path / 'a', count=1)
    _image_set(tmp_path / 'b', count=2)
    monkeypatch.setenv('JAXGEN_DATA_DIR', str(tmp_path / 'b'))
    assert len(open_source('squares')) == 2
    assert len(open_source('squares', data_dir=str(tmp_path / 'a'))) == 1


def test_the_newest_version_is_the_greatest_number(tmp_path):
    path = _image_set(tmp_path, count=3)
    for version, count in (('1.9.0', 3), ('1.10.0', 2)):
        other = _image_set(tmp_path / version, count=count)
        shutil.copytree(other, path.parent / version)
    shutil.copytree(path, path.parent / 'incomplete.X_2.0.0')
    assert len(open_source('squares', data_dir=str(tmp_path))) == 2


def test_a_label_is_an_int_and_a_set_without_has_none(tmp_path):
    features = {
        'image': tfds.features.Image(shape=(8, 8, 3)),
        'label': tfds.features.ClassLabel(num_classes=7),
    }
    _prepare(tmp_path, 'labelled', features, [{'image': _png((8, 8)), 'label': 5}])
    source = open_source('labelled', data_dir=str(tmp_path))
    assert source.num_classes == 7
    assert source[0]['label'] == 5
    assert type(source[0]['label']) is int
    _image_set(tmp_path)
    source = open_source('squares', data_dir=str(tmp_path))
    assert source.num_classes == 0
    assert list(source[0]) == ['image']


@pytest.mark.parametrize(('channels', 'mode', 'color'), [(1, 'L', 90), (4, 'RGBA', (1, 2, 3, 4))])
def test_images_keep_the_channels_that_the_set_declares(tmp_path, channels, mode, color):
    features = {'image': tfds.features.Image(shape=(8, 8, channels))}
    _prepare(tmp_path, 'tiny', features, [{'image': _png((8, 8), mode, color)}])
    source = open_source('tiny', data_dir=str(tmp_path))
    assert source.image_shape == source[0]['image'].shape == (8, 8, channels)
    np.testing.assert_array_equal(source[0]['image'], np.broadcast_to(color, (8, 8, channels)))


def test_a_grey_file_in_a_set_of_colour_has_three_channels(tmp_path):
    features = {'image': tfds.features.Image(shape=(8, 8, 3))}
    _prepare(tmp_path, 'tiny', features, [{'image': _png((8, 8), 'L', 90)}])
    np.testing.assert_array_equal(open_source('tiny', data_dir=str(tmp_path))[0]['image'], 90)


def test_images_of_varying_size_are_cropped_centrally_to_the_size_wanted(tmp_path):
    wide = Image.new('RGB', (48, 16), (0, 0, 0))
    wide.paste(RED, (16, 0, 32, 16))
    buffer = io.BytesIO()
    wide.save(buffer, 'png')
    features = {'image': tfds.features.Image()}
    _prepare(
        tmp_path, 'varying', features, [{'image': x} for x in (buffer.getvalue(), _png((8, 9)))]
    )
    source = open_source('varying', data_dir=str(tmp_path), size_hint=16)
    assert source.image_shape == (16, 16, 3)
    for example in source:
        np.testing.assert_array_equal(example['image'], np.broadcast_to(RED, (16, 16, 3)))


def test_a_source_survives_pickling(few, tmp_path):
    source = open_source('photographs/all', 'test', data_dir=str(tmp_path))
    other = pickle.loads(pickle.dumps(source))
    assert (other.name, other.split, len(other)) == (source.name, 'test', len(source))
    for a, b in zip(source, other, strict=True):
        assert a['label'] == b['label']
        np.testing.assert_array_equal(a['image'], b['image'])


def test_several_examples_at_once_are_those_of_their_indices(few, tmp_path):
    source = open_source('photographs/all', data_dir=str(tmp_path))
    for example, index in zip(source.__getitems__([7, 0, 30]), [7, 0, 30], strict=True):
        assert example['label'] == source[index]['label']
        np.testing.assert_array_equal(example['image'], source[index]['image'])


def test_an_index_outside_the_set_is_an_index_error(tmp_path):
    _image_set(tmp_path, count=4)
    source = open_source('squares', data_dir=str(tmp_path))
    for index in (-1, 4):
        with pytest.raises(IndexError, match='of 4 examples'):
            source[index]


def test_a_set_in_a_format_without_random_access_is_refused(tmp_path):
    info = _image_set(tmp_path) / 'dataset_info.json'
    content = json.loads(info.read_text())
    content['fileFormat'] = 'tfrecord'
    info.write_text(json.dumps(content))
    with pytest.raises(UserError, match='--file_format=array_record'):
        open_source('squares', data_dir=str(tmp_path))


def test_a_set_without_8_bit_images_is_refused(tmp_path):
    _prepare(tmp_path, 'words', {'text': tfds.features.Text()}, [{'text': 'a'}])
    with pytest.raises(UserError, match='has no images, it has text'):
        open_source('words', data_dir=str(tmp_path))
    deep = {'image': tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16, encoding_format='png')}
    _prepare(tmp_path, 'deep', deep, [{'image': _png((8, 8), 'I;16', 1)}])
    with pytest.raises(UserError, match='uint16'):
        open_source('deep', data_dir=str(tmp_path))


def test_importing_the_room_imports_neither_tfds_nor_grain_nor_jax():
    code = (
        'import sys, jaxgen.data.sources, jaxgen.data.pipeline\n'
        "print([m for m in ('tensorflow_datasets', 'grain', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert run.stdout == '[]\n'
