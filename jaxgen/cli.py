"""Command lines: a mistake of the user's is one line on the screen and exit code 2.

Exit codes: 0 done or stopped on request, 2 a mistake of the user's, 141 nobody reads the output any
more (`… | head`), 1 anything else.
"""

import os
import re
import select
import sys
from collections.abc import Callable, Sequence

from absl import flags

from jaxgen import __version__
from jaxgen.errors import NonFiniteLoss, UserError

BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell says of other programs


def run(
    main: Callable[[], None],
    argv: Sequence[str] | None = None,
    *,
    values: flags.FlagValues = flags.FLAGS,
) -> int:
    """Parses absl flags into `values` and calls `main`; returns the exit code."""
    try:
        code = _run(main, argv, values)
        # Here, where it can be answered, and not when the interpreter ends.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _readers_left():
            raise
        return BROKEN_PIPE


def _run(main: Callable[[], None], argv: Sequence[str] | None, values: flags.FlagValues) -> int:
    argv = sys.argv if argv is None else argv
    if '--help' in argv or '-h' in argv:
        print(sys.modules[main.__module__].__doc__)
        print(values.main_module_help() if values is flags.FLAGS else values.get_help())
        return 0
    # At once, before anything slow is imported.
    if '--json' not in argv:
        print(f'jaxgen {__version__}: {" ".join(argv[1:])}', flush=True)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
    try:
        _parse(argv, values)
        main()
    except UserError as error:
        return complain(error)
    except NonFiniteLoss as error:
        complain(error)
        return 1
    return 0


def require(**values: object) -> None:
    """UserError for the first flag of `values` that was not given, or names a missing config."""
    for name, value in values.items():
        if value is None:
            raise UserError(f'--{name} is missing; --help says what it is')
        try:
            # Of a file that isn't there ml_collections makes a config that any access breaks.
            getattr(value, 'steps', None)
        except OSError as error:
            raise UserError(f'--{name}: {str(error).split("[Errno 2] ")[-1]}') from error


def parse_size(text: str, flag: str = '--size') -> tuple[int, int]:
    """'512x384' (width × height) or '512' to (height, width)."""
    match = re.fullmatch(r'(\d+)(?:[x×](\d+))?', text)
    if not match or int(match[1]) < 1 or (match[2] and int(match[2]) < 1):
        raise UserError(f'{flag} must be WIDTHxHEIGHT, e.g. 512x384, got {text!r}')
    return int(match[2] or match[1]), int(match[1])


def parse_numbers(text: str, count: int, flag: str) -> Sequence[float]:
    """'0.5,-0.25' to that many numbers."""
    try:
        numbers = [float(part) for part in text.split(',')]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(n) < float('inf') for n in numbers):
        raise UserError(f'{flag} must be {count} numbers with commas between, got {text!r}')
    return numbers


def complain(error: Exception) -> int:
    """Prints `error` as one line; returns exit code 2."""
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr, flush=True)
    return 2


def _readers_left() -> bool:
    """Whether output has no reader any more; what is left of it then goes nowhere."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        waiting = select.poll()
        waiting.register(stream.fileno(), 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0)):
            left = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return left


def _parse(argv: Sequence[str], values: flags.FlagValues) -> None:
    """Parses the flags; whatever absl or ml_collections object to becomes a UserError."""
    # absl spells it --noema; everybody else --no-ema.
    argv = [re.sub(r'^--no-(?=\w+$)', '--no', argument) for argument in argv]
    try:
        rest = values(argv)[1:]
    except flags.Error as error:
        raise UserError(_reason(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        # What a config file, or an override of one of its fields, raises.
        for argument in argv:
            if argument.startswith('--config.') and f'.{_reason(error)}=' in argument:
                unknown = argument.partition('=')[0]
                raise UserError(f'{unknown}: the config has no such field') from error
        raise UserError(f'--config: {_reason(error)}') from error
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}: flags look like --name=value')


def _reason(error: Exception) -> str:
    """What an exception says, without the traceback that ml_collections puts into its message."""
    text = str(error)
    if ' ' not in text:
        # A missing key, quoted once or twice.
        text = text.strip('"\'')
    flag, traceback, raised = text.partition('Error whilst parsing config file:')
    if not traceback:
        return text
    return flag + raised.strip().splitlines()[-1].partition(': ')[2]
