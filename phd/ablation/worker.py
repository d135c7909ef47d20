"""A process of the pool: one thread, its share of the GPUs, and an end when the command that began it has ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

# Seconds in which a run whose command is gone can stop what it began.
GRACE = 10.0


def visible_gpus() -> list[str]:
    """What this process sees, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def share_of(gpus: Sequence[str], number: int, processes: int) -> Sequence[str]:
    """The GPUs of one process; one that others have too where there are fewer GPUs than processes."""
    return gpus[number::processes] or gpus[number % len(gpus) :][:1] if gpus else []


def start_worker(started: Any, processes: int, gpus: Sequence[str]) -> None:
    """To be called first in every process of a pool.

    Args:
        started: Shared counter (`multiprocessing.Value`) of the processes so far.
        processes: How many there will be.
        gpus: To be shared out among them.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share_of(gpus, number, processes))
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
