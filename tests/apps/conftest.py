"""Generators in memory, and folders of runs, for the tests of apps."""

import importlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import cli, tasks
from jaxgen.interop import imported
from jaxgen.models.stylegan2 import StyleGAN2Generator
from jaxgen.models.stylegan3 import StyleGAN3Generator
from jaxgen.parallel.mesh import make_mesh
from jaxgen.training.restore import Run
from tests import tiny


@pytest.fixture(scope='session')
def make_run():
    """`make_run(**fields)`: a run of `tiny.generator`, with random numbers, on eight devices."""

    def make(**fields):
        generator = tiny.generator(**fields)
        return Run('tiny', generator, tiny.variables(generator), make_mesh(), generator.frame)

    return make


@pytest.fixture(scope='session')
def run(make_run):
    return make_run()


SMALL = dict(size=16, latent=4, style=5, mapping_layers=1, channel_base=64, channel_max=4)
STYLEGANS = {
    'stylegan2': StyleGAN2Generator(**SMALL),
    'stylegan3': StyleGAN3Generator(**SMALL, num_layers=3, num_critical=1, margin=2, remat=False),
}


def stylegan_variables(generator):
    """Variables that are nowhere zero; running magnitudes, which are squares, are positive."""
    options = (
        dict(noise=jax.random.split(jax.random.key(0), 1)) if hasattr(generator, 'noise') else {}
    )
    variables = tiny.variables(generator, jnp.zeros((1, generator.latent)), **options)
    return jax.tree_util.tree_map_with_path(
        lambda path, x: np.abs(x) if 'magnitude' in jax.tree_util.keystr(path) else x, variables
    )


@pytest.fixture(scope='session')
def stylegans():
    """Runs of tiny generators by kind, with random numbers."""
    return {
        kind: Run(kind, generator, stylegan_variables(generator), make_mesh(), generator.frame)
        for kind, generator in STYLEGANS.items()
    }


@pytest.fixture(scope='session')
def folders(tmp_path_factory, stylegans):
    """Runs as command lines take them: 'plain', with classes, on a ring, and not of CIPS."""
    at = tmp_path_factory.mktemp('runs')
    for kind, run in stylegans.items():
        networks = {'ema': jax.tree.map(np.asarray, run.variables)}
        imported.save(at / kind, imported.Imported(kind, run.generator, networks))
    return {
        **{kind: at / kind for kind in stylegans},
        'plain': tiny.make_run(at / 'plain'),
        'labelled': tiny.make_run(at / 'labelled', model__num_classes=3, data__label=True),
        'ring': tiny.make_run(at / 'ring', model__cylindrical=True),
        'pixelcnn': tiny.make_run(at / 'pixelcnn', 'pixelcnn'),
    }


@pytest.fixture(scope='session')
def digits_runs(tmp_path_factory):
    """Runs of the PixelCNN family on the digits: by class, and both auto-encoders."""
    at = tmp_path_factory.mktemp('digits')
    fields = dict(data__dir=str(at / 'data'))
    # Here, so that no command says that it prepares them.
    tasks.open_data(tiny.config('autoencoder', **fields))
    by_class = dict(
        data__name='digits',
        data__size=8,
        data__eval_split='test[:1%]',
        model__colours=1,
        model__num_classes=10,
    )
    return {
        'pixelcnn': tiny.make_run(at / 'pixelcnn', 'pixelcnn', **fields, **by_class),
        'autoencoder': tiny.make_run(at / 'autoencoder', 'autoencoder', **fields),
        'autoencoder_mse': tiny.make_run(at / 'autoencoder_mse', 'autoencoder_mse', **fields),
    }


@pytest.fixture
def in_process(capsys):
    """`in_process(module, *arguments)`: an app's command line without a process of its own.

    For mistakes, of which there are many; gives `code`, `out` and `err` as `commands` does.
    """

    def run(module, *arguments):
        app = importlib.import_module(module)
        for name in app._FLAGS:
            app._FLAGS[name].unparse()
        capsys.readouterr()
        code = cli.run(app.main, [module, *arguments], values=app._FLAGS)
        return types.SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return run
