"""The progress bar of a conversion: count, rate, bytes and their estimate, remaining time."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


class ConversionProgress:
    """A bar on stderr.

    Args:
        what: Is converted.
        total: Number of sources.
        done: Of them, by an earlier run.
        written: Bytes, by an earlier run.
    """

    def __init__(self, what: str, total: int, done: int = 0, written: int = 0) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[bytes]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(what, total=total, completed=done, rate="", bytes="")
        self.total, self.done, self.written = total, done, written

    def __enter__(self) -> ConversionProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def expected_bytes(self) -> float:
        """Estimate of the bytes of all shards, from those so far."""
        return self.written / max(1, self.done) * self.total

    def advance(self, written: int) -> None:
        """One source is done and has become so many bytes."""
        self.done += 1
        self.written += written
        speed = self._bar.tasks[0].speed
        self._bar.update(
            self._task,
            advance=1,
            rate=f"{speed:.3g}/s" if speed else "",
            bytes=f"{size(self.written)} of about {size(self.expected_bytes)}",
        )
