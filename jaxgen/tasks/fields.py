"""Config fields that more than one task reads, and building modules from them."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from jaxgen.errors import UserError

DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}


def check_never_if_zero(config: ConfigDict, names: Iterable[str]) -> None:
    """UserError for the first field of these that is negative; 0 stands for never."""
    for name in names:
        if (value := operator.attrgetter(name)(config)) < 0:
            raise UserError(f'{name} must be 0 (never) or more, got {value}')


def build(module: Callable[..., nn.Module], where: str, fields: dict[str, Any]) -> nn.Module:
    """`module(**fields)`, `dtype` by its name; UserError names the field that can't be."""
    fields = dict(fields)
    dtype = fields.pop('dtype')
    if dtype not in DTYPES:
        raise UserError(f'{where}.dtype must be one of {sorted(DTYPES)}, got {dtype!r}')
    try:
        return module(**fields, dtype=DTYPES[dtype])
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: {error}') from error


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a side or of a pair."""
    return (size, size) if isinstance(size, int) else tuple(size)
