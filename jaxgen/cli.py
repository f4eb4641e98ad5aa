"""Command lines: a mistake of the user's is one line on the screen and exit code 2.

Exit codes: 0 done or stopped on request, 2 a mistake of the user's, 1 anything else.
"""

import os
import sys
from collections.abc import Callable, Sequence

from absl import flags

from jaxgen import __version__
from jaxgen.errors import NonFiniteLoss, UserError


def run(main: Callable[[], None], argv: Sequence[str] | None = None) -> int:
    """Parses absl flags and calls `main`; returns the exit code."""
    argv = sys.argv if argv is None else argv
    if '--help' in argv or '-h' in argv:
        print(sys.modules[main.__module__].__doc__)
        print(flags.FLAGS.main_module_help())
        return 0
    # At once, before anything slow is imported.
    if '--json' not in argv:
        print(f'jaxgen {__version__}: {" ".join(argv[1:])}', flush=True)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
    try:
        _parse(argv)
        main()
    except UserError as error:
        return complain(error)
    except NonFiniteLoss as error:
        complain(error)
        return 1
    return 0


def require(**values: object) -> None:
    """UserError for the first flag of `values` that was not given."""
    for name, value in values.items():
        if value is None:
            raise UserError(f'--{name} is missing; --help says what it is')


def complain(error: Exception) -> int:
    """Prints `error` as one line; returns exit code 2."""
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr, flush=True)
    return 2


def _parse(argv: Sequence[str]) -> None:
    """Parses the flags; whatever absl or ml_collections object to becomes a UserError."""
    try:
        rest = flags.FLAGS(list(argv))[1:]
    except flags.Error as error:
        raise UserError(str(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        # What a config file, or an override of one of its fields, raises.
        reason = error.args[0] if error.args else error
        raise UserError(f'--config: {reason}') from error
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}: flags look like --name=value')
