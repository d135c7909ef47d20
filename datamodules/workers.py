"""What a data worker does first."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from types import FrameType


class LeaveStopSignals:
    """`worker_init_fn` of every training loader: leave a signal to stop to the training process.

    Batch systems signal every process of a job. A worker that dies of it fails the training process within its step,
    before it can write its checkpoint.

    At its end Python sends SIGTERM to the workers that are left, and waits for them without a limit; a loader that is
    still held then, after an error, has not told its workers to go. So a worker obeys from that moment on.
    """

    def __init__(self) -> None:
        self.over: Event = multiprocessing.Event()
        # What is registered last is called first: before multiprocessing, imported above, ends its children.
        atexit.register(self.over.set)

    def __call__(self, worker: int) -> None:
        """Listen; called within the worker.

        Args:
            worker: Its number.
        """
        signal.signal(signal.SIGTERM, self._heard)
        if hasattr(signal, "SIGUSR1"):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.over.is_set():
            os._exit(0)
