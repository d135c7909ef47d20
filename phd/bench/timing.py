"""CPU time of variants of the same work, on one core and by turns."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

Work = Callable[[int], object]


@dataclass
class Times:
    """What a variant took, by call.

    Attributes:
        cpu: Milliseconds of CPU time of the whole process.
        wall: Milliseconds on the clock, with what other programs took of the core.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def median_cpu(self) -> float:
        """Milliseconds."""
        return statistics.median(self.cpu)

    @property
    def rate(self) -> float:
        """Calls per second of CPU time."""
        return 1e3 / self.median_cpu


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Run the block on one core, with one thread for each tensor operation."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        torch.set_num_threads(1)
        if cores is not None:
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        torch.set_num_threads(threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def by_turns(variants: dict[str, Work], items: int, rounds: int) -> dict[str, Times]:
    """Time every variant on every item, in each of the rounds, after one round that does not count.

    The variants take turns on each item, so that whatever else the machine does meets them all alike.

    Args:
        variants: By name, a function of the number of the item.
        items: How many there are.
        rounds: How often.
    """
    times = {name: Times() for name in variants}
    # Without a thread of its own: the CPU time of the process must be that of the variant.
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("measuring", total=(rounds + 1) * items)
        for turn in range(rounds + 1):
            for item in range(items):
                for name, work in variants.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    work(item)  # what it returns is freed in the time that counts
                    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                    if turn:
                        times[name].cpu.append(cpu * 1e3)
                        times[name].wall.append(wall * 1e3)
                bar.advance(task)
                bar.refresh()
    return times


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
