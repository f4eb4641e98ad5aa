"""Reads the arguments of a published constructor out of a file, one by one, each checked."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.errors import UserError
from jaxgen.interop.unpickle import quoted

REQUIRED = object()
LARGEST = 2**20  # number that a file may ask for, where nothing else is said


class Keywords:
    """Arguments by name. Each method takes one; `finish` is for those that nobody has taken.

    Args:
      what: the network, for messages.
      values: name to value, as a file has them.

    Every method raises UserError where the value is not what it must be; one line.
    """

    def __init__(self, what: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise UserError(f'the arguments of {what} must be a dictionary, got {_show(values)}')
        self.what = what
        self._values = dict(values)
        self._groups: list[Keywords] = []

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def integer(
        self,
        name: str,
        default: Any = REQUIRED,
        *,
        low: int = 1,
        high: int = LARGEST,
        optional: bool = False,
    ) -> int | None:
        """A whole number from `low` to `high`, or None if `optional`."""
        value = self._take(name, default)
        if optional and value is None:
            return None
        whole = int(value) if type(value) is float and value.is_integer() else value
        if type(whole) is not int or not low <= whole <= high:
            raise self._wrong(name, f'a whole number from {low} to {high}', value)
        return whole

    def number(self, name: str, default: Any = REQUIRED, *, optional: bool = False) -> float | None:
        """A positive number up to `LARGEST`, or None if `optional`."""
        value = self._take(name, default)
        if optional and value is None:
            return None
        if type(value) not in (int, float) or not 0 < value <= LARGEST:
            raise self._wrong(name, f'a positive number up to {LARGEST}', value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        value = self._take(name, default)
        if type(value) is not bool:
            raise self._wrong(name, 'True or False', value)
        return value

    def choice(self, name: str, default: Any, allowed: Sequence[Any]) -> Any:
        """One of `allowed`."""
        value = self._take(name, default)
        if not any(type(value) is type(x) and value == x for x in allowed):
            raise self._wrong(name, f'one of {list(allowed)}', value)
        return value

    def numbers(self, name: str, default: Sequence[float]) -> tuple[float, ...]:
        """Up to 64 finite numbers with a positive sum: the taps of a filter."""
        value = self._take(name, default)
        fits = isinstance(value, list | tuple) and 0 < len(value) <= 64
        fits = fits and all(type(x) in (int, float) and math.isfinite(x) for x in value)
        if not fits or sum(value) <= 0:
            raise self._wrong(name, 'a list of numbers with a positive sum', value)
        return tuple(value)

    def group(self, name: str) -> 'Keywords':
        """The arguments that `name` passes on, none if it is not there."""
        group = Keywords(f"{self.what}'s {name}", self._take(name, {}))
        self._groups.append(group)
        return group

    def ignore(self, *names: str) -> None:
        """Leaves these out: whatever their values, the network computes the same."""
        for name in names:
            self._values.pop(name, None)

    def finish(self) -> None:
        """Raises UserError with the list of what was not taken, here or in a group."""
        if self._values:
            names = ', '.join(sorted(quoted(str(name)) for name in self._values))
            raise UserError(f'{self.what} has arguments that jaxgen does not know: {names[:200]}')
        for group in self._groups:
            group.finish()

    def _take(self, name: str, default: Any) -> Any:
        value = self._values.pop(name, default)
        if value is REQUIRED:
            raise UserError(f'{self.what} has no argument {name!r}')
        return value

    def _wrong(self, name: str, allowed: str, value: Any) -> UserError:
        return UserError(f'{name} of {self.what} must be {allowed}, got {_show(value)}')


def _show(value: Any) -> str:
    plain = value is None or type(value) in (bool, int, float, str)
    return quoted(repr(value))[1:-1] if plain else f'a {type(value).__name__}'
