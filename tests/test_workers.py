"""Data workers leave signals to the training process, and end with it, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys

from cli_runs import ROOT

SCRIPT = """
import os, signal
from torch.utils.data import DataLoader
from datamodules.workers import LeaveStopSignals

loader = DataLoader(range(9), num_workers=2, persistent_workers=True, worker_init_fn=LeaveStopSignals())
batches = iter(loader)
next(batches), next(batches)  # one of each worker
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
    os.killpg(0, number)
print(sum(1 for _ in batches), flush=True)
raise RuntimeError("broken off with the loader still held")
"""


def test_workers_outlive_signals_but_not_their_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, env=environment, start_new_session=True, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "7\n")
    assert "broken off" in done.stderr
    assert "killed by signal" not in done.stderr
