"""Golden data: finding cases, reading them, comparing against them, and noticing what is left out.

A case is NAME.npz with a NAME.json beside it. Its kind is the beginning of its name. Arrays are
read in the precision of the run and compared relative to the largest entry of the stored array.
A case must be used up: an array that a check neither read nor compared is a failure, so that a new
key in a case of a known kind can't pass unnoticed.
"""

import json
import re
from pathlib import Path

import jax
import numpy as np

# Tables beside the cases, e.g. the defaults of the official classes.
NO_CASES = {'constructor_defaults'}
PRECISIONS = {'float64': np.float64, 'float32': np.float32}
# Below this share of the largest entry of a whole gradient a tensor's own size means nothing:
# R1 does not depend on some biases in exact arithmetic.
NEGLIGIBLE = 1e-4


def find_cases(folder):
    """Every case below `folder` as (stem path, sorted), with or without its other half."""
    files = [*Path(folder).rglob('*.npz'), *Path(folder).rglob('*.json')]
    return sorted({path.with_suffix('') for path in files if path.stem not in NO_CASES})


def kind_of(name, kinds):
    """The longest of `kinds` that `name` begins with, at a word's end; None if there is none."""
    matching = [kind for kind in kinds if name == kind or name.startswith(kind + '_')]
    return max(matching, key=len, default=None)


def nhwc(x):
    """`[N, C, H, W]` as `[N, H, W, C]`."""
    return np.moveaxis(np.asarray(x), 1, -1)


def nchw(x):
    """`[N, H, W, C]` as `[N, C, H, W]`."""
    return np.moveaxis(np.asarray(x), -1, 1)


def pixels(x):
    """`[N, C, H, W]` as a list of pixels `[N, H·W, C]`."""
    x = nhwc(x)
    return x.reshape(x.shape[0], -1, x.shape[-1])


def unpixels(x, like):
    """A list of pixels `[N, H·W, C]` as `[N, C, H, W]` with H and W of the stored `like`."""
    x = np.asarray(x)
    return nchw(x.reshape(x.shape[0], *like.shape[2:], x.shape[-1]))


class Case:
    """One case in one precision. Index for inputs, `check` for outputs, `finish` at the end."""

    def __init__(self, stem, precision, tolerance, bias_tolerance=None):
        self.name = stem.name
        self.folder = stem.parent
        self.tolerance = tolerance
        self.bias_tolerance = bias_tolerance or tolerance
        # Not with_suffix: a name may contain a dot.
        self.sidecar = json.loads(Path(f'{stem}.json').read_text(encoding='utf-8'))
        self.config = self.sidecar.get('config', self.sidecar.get('parameters', {}))
        with np.load(f'{stem}.npz', allow_pickle=False) as stored:
            self._arrays = {key: stored[key] for key in stored.files}
        self.dtype = PRECISIONS[precision]
        self._unused = set(self._arrays)

    def __contains__(self, key):
        return key in self._arrays

    def __getitem__(self, key):
        """The stored array, floats in the precision of the run; counts as used."""
        self._unused.discard(key)
        array = self._arrays[key]
        return array.astype(self.dtype) if array.dtype.kind == 'f' else array

    def is_rounded(self, key):
        """Whether an array is stored in float32, as inputs and some of the outputs are."""
        return self._arrays[key].dtype == np.float32

    def keys(self, pattern):
        """Stored keys that match the regular expression as a whole, in stored order."""
        return [key for key in self._arrays if re.fullmatch(pattern, key)]

    def under(self, prefix):
        """`{name: array}` of all `prefix/name`, without going into deeper levels."""
        keys = self.keys(re.escape(prefix) + r'/[^/]+')
        return {key.rsplit('/', 1)[1]: self[key] for key in keys}

    def check(self, key, actual, tolerance=None, scale=0.0):
        """Compares with the stored array, relative to its largest entry or to `scale`."""
        tolerance = tolerance or self.tolerance
        expected, actual = np.asarray(self[key], np.float64), np.asarray(actual, np.float64)
        assert actual.shape == expected.shape, f'{key}: {actual.shape} for {expected.shape}'
        scale = max(np.abs(expected).max(), scale) or 1.0
        error = np.abs(actual - expected).max() / scale
        assert error <= tolerance, f'{key}: off by {error:.1e} of the largest entry'

    def check_tree(self, prefix, named):
        """Compares `{name: array}` with all stored `prefix/name`; names must be the same."""
        stored = self.under(prefix)
        assert set(named) == set(stored), f'{prefix}: differ in {sorted(set(named) ^ set(stored))}'
        scale = NEGLIGIBLE * max(np.abs(array).max() for array in stored.values())
        for name, actual in named.items():
            tolerance = self.bias_tolerance if name.endswith('bias') else self.tolerance
            self.check(f'{prefix}/{name}', actual, tolerance, scale)

    def finish(self):
        assert not self._unused, f'stored, but no check looks at it: {sorted(self._unused)}'


def value_and_gradients(function, cotangent, *arguments):
    """`function(*arguments)` and the gradients of sum(value · cotangent), one for each argument."""

    def run(*arguments):
        value, pull_back = jax.vjp(function, *arguments)
        return value, pull_back(cotangent)

    return jax.jit(run)(*arguments)
