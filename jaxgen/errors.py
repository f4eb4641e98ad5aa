"""Exceptions that a command line turns into a single line instead of a traceback.

They stand outside the floors: any room may raise them, and this file imports nothing.
"""


class UserError(ValueError):
    """A mistake of the user's, exit code 2. The message: the value given, and what is allowed."""


class NonFiniteLoss(RuntimeError):
    """A metric became NaN or infinite, exit code 1. The message: the step and how to go on."""
