"""One-line messages to the person at the terminal."""

from __future__ import annotations

import os
import sys


def notice(text: str) -> None:
    """Print to stderr, once where several processes of one machine train together."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(text, file=sys.stderr)
