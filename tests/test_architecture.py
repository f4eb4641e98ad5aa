"""The house keeps its rules, and each rule finds what breaks it.

What a syntax tree can't show (what an import really pulls in, whether it starts the backend) is
seen in a fresh interpreter.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.architecture_rules import (
    RULES,
    files_and_functions_are_short,
    importing_makes_no_array,
    lower_floors_read_no_files,
    public_names_have_docstrings,
    read_tree,
    rooms_are_known,
    rooms_import_from_below,
    rooms_import_from_outside_what_they_may,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule):
    modules = read_tree(ROOT / 'jaxgen')
    reports = list(rule(modules))
    assert modules
    assert not reports, '\n'.join(reports)


# Imports jaxgen.models, then everything, from the tree in argv[1]. Two command lines may define the
# same flag, so each leaves absl's flags as it found them.
IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import flax.linen, jax, numpy
from absl import flags

before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import jaxgen.models
for module in pkgutil.walk_packages(jaxgen.models.__path__, 'jaxgen.models.'):
    importlib.import_module(module.name)
pulled = {name.split('.')[0] for name in set(sys.modules) - before}
for module in pkgutil.walk_packages(jaxgen.__path__, 'jaxgen.'):
    known = set(flags.FLAGS)
    importlib.import_module(module.name)
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)

from jax._src import xla_bridge
print(json.dumps({
    'file': jaxgen.__file__,
    'pulled': sorted(pulled - set(sys.stdlib_module_names)),
    'backend started': xla_bridge.backends_are_initialized(),
}))
"""


def import_everything(root):
    done = subprocess.run(
        [sys.executable, '-c', IMPORT_EVERYTHING, str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert pathlib.Path(seen.pop('file')).is_relative_to(root)
    return seen


def test_models_need_only_jax_flax_numpy_and_importing_starts_no_backend():
    assert import_everything(ROOT) == {'pulled': ['jaxgen'], 'backend started': False}


def write(root, files):
    """The tree `files`, name -> text, as root/jaxgen; returns it as modules."""
    for name, text in {'__init__.py': '"""House."""\n', **files}.items():
        path = root / 'jaxgen' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_tree(root / 'jaxgen')


def test_what_an_import_pulls_in_and_starts_is_seen(tmp_path):
    models = 'import ml_collections\nimport jax.numpy as jnp\nTABLE = jnp.zeros(3)\n'
    write(tmp_path, {'models/__init__.py': models})
    seen = import_everything(tmp_path)
    assert 'ml_collections' in seen['pulled']
    assert seen['backend started']


# A file of a tree that breaks nothing else, and what the rule must say of it.
BROKEN = [
    (rooms_are_known, 'utils/__init__.py', 'x = 1', "unknown room 'utils'"),
    (rooms_are_known, 'helpers.py', 'x = 1', "unknown room 'helpers'"),
    (rooms_are_known, 'ops.py', 'x = 1', "unknown room 'ops'"),
    (rooms_import_from_below, 'ops/a.py', 'from jaxgen.nn.b import c', 'jaxgen.nn'),
    (rooms_import_from_below, 'nn/a.py', 'import jaxgen.losses.b', 'jaxgen.losses'),
    (rooms_import_from_below, 'nn/a.py', 'from jaxgen import models', 'jaxgen.models'),
    (rooms_import_from_below, 'nn/a.py', 'from ..tasks import b', 'jaxgen.tasks'),
    (rooms_import_from_below, 'nn/__init__.py', 'from ..models.b import c', 'jaxgen.models'),
    (rooms_import_from_below, 'nn/a.py', 'def f():\n  import jaxgen.apps', 'jaxgen.apps'),
    (rooms_import_from_below, 'training/a.py', 'import jaxgen.evaluation', 'jaxgen.evaluation'),
    (rooms_import_from_below, 'models/a.py', 'import jaxgen.data', 'jaxgen.data'),
    (rooms_import_from_below, 'data/a.py', 'import jaxgen.ops', 'jaxgen.ops'),
    (rooms_import_from_below, 'data/a.py', 'import jaxgen.metrics', 'jaxgen.metrics'),
    (rooms_import_from_below, 'interop/a.py', 'import jaxgen.tasks', 'jaxgen.tasks'),
    (rooms_import_from_below, 'training/a.py', 'from jaxgen import cli', 'jaxgen.cli'),
    (rooms_import_from_below, 'training/a.py', 'import jaxgen.train', 'jaxgen.train'),
    (rooms_import_from_below, 'sample.py', 'from jaxgen import train', 'jaxgen.train'),
    (rooms_import_from_below, 'errors.py', 'from jaxgen import ops', 'jaxgen.ops'),
    (rooms_import_from_below, 'errors.py', 'import numpy', 'imports numpy'),
    (rooms_import_from_below, 'variants.py', 'import jax', 'imports jax'),
    (rooms_import_from_below, '__init__.py', 'from .models import b', 'jaxgen.models'),
    (rooms_import_from_below, 'cli.py', 'import jaxgen.tasks', 'jaxgen.tasks'),
    (
        rooms_import_from_below,
        'ops/a.py',
        "import importlib\nimportlib.import_module('jaxgen.nn')",
        'jaxgen.nn',
    ),
    (lower_floors_read_no_files, 'ops/a.py', "x = open('a')", 'open'),
    (lower_floors_read_no_files, 'nn/a.py', 'import pathlib', 'pathlib'),
    (lower_floors_read_no_files, 'nn/a.py', 'from os import environ', 'os'),
    (lower_floors_read_no_files, 'models/a.py', 'def f(p): return p.read_bytes()', 'read_bytes'),
    (lower_floors_read_no_files, 'losses/a.py', "import numpy as np\nx = np.load('a')", 'np.load'),
    (lower_floors_read_no_files, 'ops/a.py', 'import importlib.resources', 'importlib'),
    (importing_makes_no_array, 'ops/a.py', 'import jax.numpy as jnp\nX = jnp.ones(3)', 'ones'),
    (importing_makes_no_array, 'ops/a.py', 'from jax.numpy import ones as o\nX = [o(3)]', 'ones'),
    (importing_makes_no_array, 'nn/a.py', 'import jax\nclass A:\n  k = jax.random.key(0)', 'key'),
    (importing_makes_no_array, 'nn/a.py', 'import jax\ndef f(*, x=jax.devices()): pass', 'devices'),
    (
        importing_makes_no_array,
        'nn/a.py',
        'from jax import lax\nf = lambda x=lax.iota(2): 1',
        'iota',
    ),
    (
        importing_makes_no_array,
        'ops/a.py',
        'import jax.numpy as jnp\nX = jnp.float32(1)',
        'float32',
    ),
    (files_and_functions_are_short, 'ops/a.py', 'x = 1\n' * 401, 'has 401 lines'),
    (files_and_functions_are_short, 'train.py', 'x = 1\n' * 81, 'has 81 lines'),
    (files_and_functions_are_short, 'ops/a.py', 'def f():\n' + '  x = 1\n' * 60, 'f has 61 lines'),
    (public_names_have_docstrings, 'ops/a.py', 'x = 1', 'no docstring'),
    (public_names_have_docstrings, 'ops/a.py', '"""A."""\ndef f(): pass', 'f has no docstring'),
    (public_names_have_docstrings, 'ops/a.py', '"""A."""\nclass F: pass', 'F has no docstring'),
]
BROKEN += [
    (rooms_import_from_outside_what_they_may, f'{room}/a.py', f'import {name}', f'imports {name}')
    for room, names in {
        'ops': ('flax', 'grain'),
        'nn': ('optax', 'scipy'),
        'losses': ('tensorflow_datasets',),
        'models': ('orbax', 'absl'),
        'objectives': ('ml_collections',),
        'parallel': ('flax',),
        'data': ('tensorflow',),
        'interop': ('torch',),
    }.items()
    for name in names
]


@pytest.mark.parametrize(('rule', 'name', 'text', 'message'), BROKEN)
def test_a_broken_rule_is_reported(tmp_path, rule, name, text, message):
    reports = list(rule(write(tmp_path, {name: text})))
    assert len(reports) == 1
    assert message in reports[0]


ALLOWED = {
    'ops/a.py': """
import jax
import jax.numpy as jnp
import numpy as np
from jaxgen.ops import b
KERNEL = np.ones(3)
DTYPE = jnp.dtype('float32')
@jax.custom_vjp
def _f(x, dtype=jnp.float32): return jnp.zeros(3)
g = lambda x: jnp.ones(3)
""",
    'nn/a.py': """
from flax import linen as nn
from jax.nn import initializers
from jaxgen.ops.a import g
from . import b
class _A(nn.Module):
    init: object = initializers.normal(1.0)
""",
    'objectives/a.py': 'import optax\nimport jaxgen.models, jaxgen.losses, jaxgen.parallel\n',
    'interop/a.py': 'from jaxgen.models import cips\nimport pathlib\nx = open\n',
    'tasks/a.py': 'from jaxgen import data\nfrom ml_collections import ConfigDict\n',
    'data/prepare.py': "from jaxgen import cli\nif __name__ == '__main__':\n    cli.run(print)\n",
    'train.py': 'from jaxgen import cli, tasks, training\nfrom jaxgen.errors import UserError\n',
    'cli.py': 'from absl import flags\nfrom jaxgen import __version__, errors\n',
    'errors.py': 'class UserError(ValueError):\n    """A mistake."""\n',
}


def test_what_the_rules_allow_is_not_reported(tmp_path):
    modules = write(tmp_path, {name: f'"""A."""\n{text}' for name, text in ALLOWED.items()})
    assert not [report for rule in RULES for report in rule(modules)]
