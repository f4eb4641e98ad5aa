"""Golden cases of published weight files: through the importer, and every output of its networks.

The file of case `checkpoint_NAME` is `pt/NAME.pt`, beside the case.
"""

import dataclasses

import jax
import numpy as np

from jaxgen.interop import cips, torch_reader
from jaxgen.interop.cips_names import noise_modules
from jaxgen.interop.imported import read_published
from jaxgen.ops import coords
from tests.parity.cases import nhwc, pixels, unpixels
from tests.parity.cips_discriminator import discriminator_from
from tests.parity.cips_generator import LOOKUPS, generator_from


def checkpoint(case):
    path = case.folder / 'pt' / f'{case.name.removeprefix("checkpoint_")}.pt'
    found = read_published(path, activation=case.config['activation'])
    expected = generator_from(case.config, noise='random', lookup='reference')
    assert fields(found.generator) == fields(expected)
    variables = in_precision(case, found.variables())
    w = run(found.generator, variables, case['in/z'], method='mapping')
    case.check('out/w', w)
    for name, lookup in LOOKUPS.items():
        model = found.generator.clone(lookup=lookup)
        case.check(f'out/rgb_{name}', image(case, model, variables, w, f'out/rgb_{name}'))
    modules = noise_modules(case.config['blocks'], found.generator.residual)
    noise = tuple(pixels(case[f'in/noise/{module}.noise']) for module in modules)
    rgb = image(case, found.generator, variables, w, 'out/rgb_noise', noise)
    case.check('out/rgb_noise', rgb)
    assert ('discriminator' in found.networks) == ('out/score' in case)
    if 'out/score' in case:
        trained(case, found)
    goes_back(path, found)


def trained(case, found):
    """What a training dictionary has besides the averaged generator."""
    current = in_precision(case, found.variables(ema=False))
    w = run(found.generator, current, case['in/z'], method='mapping')
    key = 'out/g/rgb_eval'
    case.check(key, image(case, found.generator, current, w, key))
    assert fields(found.discriminator) == fields(discriminator_from(case.config['discriminator']))
    score = run(
        found.discriminator,
        in_precision(case, found.networks['discriminator']),
        nhwc(case['in/d_x']),
    )
    case.check('out/score', score[:, None])


def goes_back(path, found):
    """Exporting gives the file's own arrays again, bit by bit."""
    stored = torch_reader.read(path)
    for key, ema in (('g_ema', True), ('g', False)) if 'g_ema' in stored else ((None, True),):
        published = stored[key] if key else stored
        back = cips.to_torch(found.generator, found.variables(ema=ema))
        assert set(back) == set(published)
        for name, array in published.items():
            np.testing.assert_array_equal(back[name], array, err_msg=name)


def fields(module):
    found = {f.name: getattr(module, f.name) for f in dataclasses.fields(module)}
    if 'channels' in found:
        found['channels'] = {int(side): width for side, width in found['channels'].items()}
    return found


def in_precision(case, tree):
    """The float32 weights of the file in the precision of the run, where they are exact."""
    return jax.tree.map(lambda x: x.astype(case['in/z'].dtype), tree)


def run(model, variables, *inputs, **options):
    return jax.jit(lambda v, *x: model.apply(v, *x, **options))(variables, *inputs)


def image(case, model, variables, w, key, noise=None):
    """The published evaluation: every coordinate of the grid, none of the training look-up."""

    def draw(model, w, noise):
        return model.synthesize(model.encode(coords.points(*model.frame)[None]), w, noise)

    return unpixels(run(model, variables, w, noise, method=draw), case[key])


CHECKS = {'checkpoint': checkpoint}
