"""Golden cases of official snapshots: through the importer, and every output of the networks.

The file of a case lies beside it, NAME.pkl.
"""

import jax
import numpy as np

from jaxgen.interop import stylegan_pickle
from jaxgen.interop.imported import read_published
from jaxgen.interop.stylegan_names import (
    STYLEGAN2,
    discriminator_modules,
    is_dropped,
    stylegan3_modules,
    to_published,
)
from tests.parity.cases import nchw, nhwc
from tests.parity.cips_checkpoints import fields
from tests.parity.stylegan_cases import Checker
from tests.parity.stylegan_networks import (
    discriminator_from,
    stylegan2_from,
    stylegan3_from,
    truncation_from,
)

NETWORKS = {'G_ema': 'ema', 'G': 'generator', 'D': 'discriminator'}


def snapshot(case):
    path = case.folder / case.sidecar['pickle_file']
    config = case.sidecar['constructor']
    found = read_published(path)
    second = found.kind == 'stylegan2'
    expected = (stylegan2_from if second else stylegan3_from)(config['G'])
    assert fields(found.generator) == fields(expected)
    assert fields(found.discriminator) == fields(discriminator_from(config['D']))
    check_parameters(case, path, found)
    checker = Checker(case)
    z, label = case['in/z'], case['in/c'] if config['G']['c_dim'] else None
    case['in/c'], case['in/c_D']  # without classes they are empty
    # Compiled once for all keys: ψ = 1 where a key has none.
    draw = jax.jit(lambda v, z, c, psi: found.generator.apply(v, z, c, truncation=psi))
    for key in case.keys(r'out/G(_ema)?_img.*'):
        variables = in_precision(case, found.variables(ema='_ema' in key))
        psi = truncation_from(key).get('truncation', 1.0)
        checker.check(key, nchw(draw(variables, z, label, case.dtype(psi))))
    label = case['in/c_D'] if config['D']['c_dim'] else None
    variables = in_precision(case, found.networks['discriminator'])
    scores = jax.jit(found.discriminator.apply)(variables, nhwc(case['in/img']), label)
    checker.check('out/D_logits', scores[:, None])


def check_parameters(case, path, found):
    """The pickle's arrays are the stored ones, and going back from ours gives them again."""
    stored, _ = stylegan_pickle.read(path)
    assert set(stored) == set(NETWORKS)
    for key, ours in NETWORKS.items():
        arrays = stored[key].state_dict
        listed = case.sidecar['state_dict']['D' if key == 'D' else 'G']
        assert {name: list(array.shape) for name, array in arrays.items()} == {
            name: shape for name, shape, _ in listed
        }
        for name, array in arrays.items():
            golden = case[f'param/{key}.{name}']
            np.testing.assert_array_equal(array.astype(golden.dtype), golden, err_msg=name)
        if key == 'D':
            modules = discriminator_modules(found.discriminator.frame[0])
        elif found.kind == 'stylegan2':
            modules = STYLEGAN2
        else:
            modules = stylegan3_modules(found.generator.num_layers)
        kept = [name for name in arrays if not is_dropped(name)]
        for name, array in to_published(found.networks[ours], kept, modules).items():
            np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def in_precision(case, tree):
    """The float32 weights of the file in the precision of the run, where they are exact."""
    return jax.tree.map(lambda x: x.astype(case.dtype), tree)


CHECKS = dict.fromkeys(('sg2_cond', 'sg2_uncond', 'sg3t', 'sg3r'), snapshot)
