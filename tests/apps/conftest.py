"""Generators in memory, and folders of runs, for the tests of apps."""

import pytest

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


@pytest.fixture(scope='session')
def folders(tmp_path_factory):
    """Runs as command lines take them: 'plain', with classes, on a ring, and not of CIPS."""
    at = tmp_path_factory.mktemp('runs')
    return {
        'plain': tiny.make_run(at / 'plain'),
        'labelled': tiny.make_run(at / 'labelled', model__num_classes=3, data__label=True),
        'ring': tiny.make_run(at / 'ring', model__cylindrical=True),
        'pixelcnn': tiny.make_run(at / 'pixelcnn', 'pixelcnn'),
    }
