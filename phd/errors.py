"""What a user is meant to read when something is wrong: the one exception, and lines for errors and warnings."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO


class UserError(Exception):
    """Something the user can mend: what is wrong, where (file, key or setting), and what to do.

    The message is one line. The command line prints it without a traceback and exits with code 2.
    """


def tell(kind: str, message: object) -> None:
    """Print to stderr on one line; `kind` is "error" or "warning"."""
    print(f"phd: {kind}: {' '.join(str(message).split())}", file=sys.stderr)


def warn_user(message: object) -> None:
    """Print a warning to stderr; the work goes on."""
    tell("warning", message)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """For `warnings.showwarning`: as users read it; where it was raised helps with those meant for programmers.

    Not `warnings.formatwarning`: Lightning puts in its own, with file and line, whenever it is first imported.
    """
    if issubclass(category, UserWarning):
        warn_user(message)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
