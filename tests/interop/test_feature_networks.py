"""Networks that metrics look through: converted once, read back the same, refused by name."""

import jax
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.interop import feature_networks, lpips
from tests.test_bad_input import assert_one_line


@pytest.fixture(scope='module')
def package():
    return str(lpips.installed_file('alexnet'))


def test_a_converted_network_is_read_back_bit_for_bit(commands, package, tmp_path):
    out = tmp_path / 'weights' / 'lpips.npz'
    done = commands.run(
        'jaxgen.interop.convert', '--kind=lpips', f'--source={package}', f'--out={out}'
    )
    assert done.code == 0, done.err
    assert 'lpips (alexnet): 2,470,848 parameters' in done.out
    found, expected = feature_networks.load(out, 'lpips'), lpips.read_installed('alexnet')
    assert found.module == expected[0]
    assert found.source == feature_networks.file_digest(package)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected[1])
    assert [path.name for path in out.parent.iterdir()] == ['lpips.npz']


def test_a_file_that_is_none_is_refused(package, tmp_path):
    found = feature_networks.read_published('lpips', package)
    whole = tmp_path / 'whole.npz'
    feature_networks.save(whole, found)
    with pytest.raises(UserError, match="has the network 'lpips', needed is 'inception'"):
        feature_networks.load(whole, 'inception')
    cut = tmp_path / 'cut.npz'
    cut.write_bytes(whole.read_bytes()[:-100])
    np.savez(tmp_path / 'other.npz', a=np.zeros(3))
    for path in (cut, tmp_path / 'other.npz'):
        with pytest.raises(UserError, match='damaged'):
            feature_networks.load(path, 'lpips')
    with pytest.raises(UserError, match='cannot be read'):
        feature_networks.load(tmp_path / 'none.npz', 'lpips')
    with pytest.raises(UserError, match=r'must end in \.npz'):
        feature_networks.save(tmp_path / 'a.pth', found)


def test_the_command_says_in_one_line_what_is_wrong(commands, package, tmp_path):
    out = f'--out={tmp_path}/a.npz'
    for words, *flags in (
        (("'resnet'",), '--kind=resnet', f'--source={package}'),
        (('cannot be read',), '--kind=lpips', f'--source={tmp_path}/vgg16.ckpt'),
        (('--trunk goes with',), '--kind=vgg', f'--source={package}', '--trunk=a'),
        ((package,), '--kind=inception', f'--source={package}'),
    ):
        done = commands.run('jaxgen.interop.convert', out, *flags)
        assert_one_line(done.code, done.err, words)
    assert not list(tmp_path.iterdir())
