"""Drawing many images: image i of a seed is always the same."""

import functools

import numpy as np
import pytest

from jaxgen.objectives.sampling import make_sampler
from jaxgen.parallel.mesh import make_mesh
from tests import tiny


@pytest.fixture(scope='module')
def drawing():
    objective = tiny.objective(model=tiny.generator(size=4, num_classes=3, noise='random'))
    mesh = make_mesh(4, 2)
    sampler = make_sampler(functools.partial(objective.sample, mesh=mesh), mesh, batch=4)
    variables = tiny.variables(objective.generator)

    def draw(count, seed=0, label=0):
        return sampler(variables, count, seed, np.broadcast_to(label, (count,)))

    return draw


def test_asking_for_more_images_keeps_those_that_were_there(drawing):
    many = drawing(7)
    assert many.shape == (7, 4, 4, 3)
    np.testing.assert_allclose(drawing(2), many[:2], atol=1e-6)


def test_all_images_of_all_seeds_differ(drawing):
    images = np.concatenate([drawing(7), drawing(7, seed=1)])
    distance = np.abs(images[:, None] - images[None]).max((2, 3, 4))
    assert distance[~np.eye(14, dtype=bool)].min() > 1e-2


def test_each_image_has_its_own_label(drawing):
    zeros, ones = drawing(5), drawing(5, label=1)
    mixed = drawing(5, label=np.array([0, 1, 0, 1, 1]))
    np.testing.assert_allclose(mixed[[0, 2]], zeros[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(mixed[[1, 3, 4]], ones[[1, 3, 4]], atol=1e-6)
    assert np.abs(zeros - ones).max() > 1e-2
