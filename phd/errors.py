"""What a user is meant to read when something is wrong: the one exception, and warnings of one line."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Something the user can mend: what is wrong, where (file, key or setting), and what to do.

    The message is one line. The command line prints it without a traceback and exits with code 2.
    """


def warning_line(message: object) -> str:
    """A warning as users read it, on one line."""
    return f"phd: warning: {' '.join(str(message).split())}"


def warn_user(message: object) -> None:
    """Print a warning to stderr; the work goes on."""
    print(warning_line(message), file=sys.stderr)
