"""What is installed: the pins, and the Makefile that installs them. Nothing is installed here."""

import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
EXTRAS = PROJECT['optional-dependencies']
LINES = (ROOT / 'constraints.txt').read_text().splitlines()
PYTHONS = ('3.11', '3.12', '3.13')


def pins(python=None):
    """Name -> version, where markers are true for `python` (None: the one that runs)."""
    environment = {'python_version': python, 'python_full_version': f'{python}.0'} if python else {}
    found = {}
    for line in LINES:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in found, f'{name} is pinned twice on Python {python}'
            (specifier,) = requirement.specifier
            found[name] = specifier.version
    return found


def needed(requirements):
    """Name -> installed version of everything that `requirements` bring along here."""
    found, queue = {}, [(Requirement(text), '') for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({'extra': extra}):
            continue
        name = canonicalize_name(requirement.name)
        new_extras = requirement.extras - found.get(name, (None, set()))[1]
        if name in found and not new_extras:
            continue
        distribution = importlib.metadata.distribution(name)
        extras = requirement.extras | found.get(name, (None, set()))[1]
        found[name] = distribution.version, extras
        below = [Requirement(text) for text in distribution.requires or ()]
        queue += [(child, extra) for child in below for extra in ('', *extras)]
    return {name: version for name, (version, _) in found.items()}


def test_constraints_name_versions_and_nothing_else():
    wrong = [line for line in LINES if not re.fullmatch(r'[a-z0-9-]+==[0-9][\w.]*( *;.*)?', line)]
    assert LINES
    assert not wrong


@pytest.mark.parametrize('python', PYTHONS)
def test_every_direct_dependency_is_pinned_within_its_bounds(python):
    pinned = pins(python)
    for text in [*PROJECT['dependencies'], *(text for extra in EXTRAS.values() for text in extra)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_what_is_installed_is_what_is_pinned():
    installed = needed([*PROJECT['dependencies'], *EXTRAS['test']])
    pinned = pins()
    assert {'jaxlib', 'tensorstore', 'pluggy'} <= installed.keys()  # also what comes indirectly
    assert installed == {name: pinned.get(name) for name in installed}


def test_neither_tensorflow_nor_torch_is_needed():
    unwanted = {'tensorflow', 'tensorflow-cpu', 'tf-nightly', 'keras', 'torch', 'torchvision'}
    everything = {name for python in PYTHONS for name in pins(python)}
    everything |= needed([*PROJECT['dependencies'], *EXTRAS['test']]).keys()
    assert not unwanted & everything


def make(*arguments, folder=ROOT):
    """Runs make as from a shell, even where make itself runs these tests."""
    inherited = {'MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'MAKEOVERRIDES', 'PYTHON', 'PYTEST_ARGS'}
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(
        ['make', *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_plain_make_lists_every_target():
    listed = set(re.findall(r'^make (\S+)', make().stdout, re.MULTILINE))
    promised = {'install', 'demo', 'test', 'lint', 'format', 'pod-check', 'smoke-pythons', 'help'}
    assert listed == promised


def test_ci_runs_the_tests_of_the_readme():
    script = ROOT / '.ci' / 'run'
    assert os.access(script, os.X_OK)
    assert 'make test' in script.read_text()


@pytest.fixture
def clone(tmp_path):
    """A folder with what `make install` reads, and an interpreter that writes down its calls."""
    for name in ('Makefile', 'pyproject.toml', 'constraints.txt'):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o755)
    return tmp_path


def installs(folder):
    """How often pip was called."""
    return (folder / 'calls').read_text().count('-m pip install')


def test_make_installs_again_only_when_a_dependency_changed(clone):
    assert make('install', folder=clone).returncode == 0
    assert make('install', folder=clone).returncode == 0
    assert installs(clone) == 1
    for number, name in enumerate(('constraints.txt', 'pyproject.toml'), 2):
        later = (clone / '.venv' / '.installed').stat().st_mtime + 1
        os.utime(clone / name, (later, later))
        assert make('install', folder=clone).returncode == 0
        assert installs(clone) == number
        os.utime(clone / name, (0, 0))


def test_a_failed_install_is_tried_again(clone):
    python = clone / '.venv' / 'bin' / 'python'
    works = python.read_text()
    python.write_text(works + 'case "$*" in *"pip install"*) exit 1;; esac\n')
    assert make('install', folder=clone).returncode != 0
    python.write_text(works)
    assert make('install', folder=clone).returncode == 0
    assert installs(clone) == 2


def test_an_old_python_is_refused_by_name(clone):
    shutil.rmtree(clone / '.venv')
    old = clone / 'python2.7'
    old.write_text('#!/bin/sh\nexit 1\n')
    old.chmod(0o755)
    done = make('install', f'PYTHON={old}', folder=clone)
    assert done.returncode != 0
    assert 'Python 3.11 or newer' in done.stderr
    assert str(old) in done.stderr
    assert not (clone / '.venv').exists()
