"""A process of the pool: one thread for the arithmetic, and an end when the command that began it has ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

# Seconds in which a run whose command is gone can stop what it began.
GRACE = 10.0


def start_worker() -> None:
    """To be called first in every process of a pool."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    # Not SIGINT, which a command in the background ignores, and what it begins too.
    signal.signal(signal.SIGUSR2, signal.default_int_handler)
    threading.Thread(target=_end_with_command, daemon=True).start()


def is_orphaned() -> bool:
    """Whether the command that began this process is gone, so that nobody waits for what it does."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _end_with_command() -> None:
    """A command that is killed cannot stop its pool, which would go on and meet the same command's next start."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGUSR2)  # as Ctrl-C: a run stops the programs that it began
    time.sleep(GRACE)
    os._exit(1)
