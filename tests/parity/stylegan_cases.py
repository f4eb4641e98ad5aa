"""What the golden cases of StyleGAN2 and StyleGAN3 share: their defaults, layouts and tolerances.

A sidecar lists the constructor arguments that differ from the published defaults, and how far the
published code is off in float32: [largest difference from float64, largest value], by output.
"""

import numpy as np

# Our sums run in another order than those of the published code, so a float32 error may differ.
SLACK = 8
LEAST = 2e-6


class Checker:
    """Compares with a case's arrays; in float32 by what the sidecar says of each."""

    def __init__(self, case):
        self.case = case
        self.errors = case.sidecar.get('float32_error') or {}
        self.single = case.dtype == np.float32

    def tolerance(self, key):
        """Relative to the largest entry; None: the kind's own."""
        if not self.single:
            # Some outputs were rounded when they were stored.
            return 2**-23 if self.case.is_rounded(key) else None
        error = self._listed(key)
        return LEAST if error is None else max(LEAST, SLACK * error[0] / (error[1] or 1))

    def _listed(self, key):
        """'out/case/y' is listed as errors['case']['y'] or errors['case/y'] or errors[key]."""
        group, _, name = key.partition('/')
        nested, _, leaf = name.rpartition('/')
        leaf = leaf if group == 'out' else f'{group}/{leaf}'
        tables = [self.errors.get(nested)] if isinstance(self.errors.get(nested), dict) else []
        for table, label in [(t, leaf) for t in tables] + [
            (self.errors, label) for label in (key, name, f'{group}_{name}')
        ]:
            if isinstance(table.get(label), list):
                return table[label]
        return None

    def check(self, key, actual):
        self.case.check(key, actual, self.tolerance(key))


def cases_of(case):
    """(name, arguments) of each call of a file with many."""
    return case.sidecar['cases'].items()


def padding_from(padding):
    """Published [x before, x after, y before, y after], [x, y] or a number, as (rows, columns)."""
    if isinstance(padding, int):
        return padding
    if len(padding) == 2:
        padding = [padding[0], padding[0], padding[1], padding[1]]
    return tuple(padding[2:]), tuple(padding[:2])


def pair_from(value):
    """Published [x, y] as (height, width)."""
    return value if isinstance(value, int) else (value[1], value[0])


def to_ours(x):
    """A published array in our layout: [O, I, k, k] to [k, k, I, O], [O, I] to [I, O]."""
    x = np.asarray(x)
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def to_published(x):
    """The inverse of `to_ours`."""
    x = np.asarray(x)
    return x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
