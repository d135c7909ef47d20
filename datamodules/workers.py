"""What a data worker does first."""

from __future__ import annotations

import signal


def ignore_stop_signals(worker: int) -> None:
    """`worker_init_fn` of every training loader: leave a signal to stop to the training process.

    Batch systems signal every process of a job. A worker that dies of it fails the training process within its step,
    before it can write its checkpoint. Workers end with the process that they work for.

    Args:
        worker: Number of the worker.
    """
    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(signal.Signals[name], signal.SIG_IGN)
