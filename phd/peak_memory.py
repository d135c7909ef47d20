"""The most memory that this process has had."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Bytes of the resident set at its peak."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `ru_maxrss` where it can be helped: on Linux a child starts with the peak of its parent.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak begin anew where the system can; else that of loading the libraries would hide what grows."""
    # Linux: 5 resets the peak of the resident set (man 5 proc_pid_clear_refs).
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
