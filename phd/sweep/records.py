"""What is kept of a trial: one line of trials.jsonl."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phd.errors import UserError


@dataclass
class Trial:
    """One trial that has run.

    Attributes:
        key: Hash of the parameters; the run's folder is `runs/<key>`.
        parameters: Flag without hyphens -> value.
        status: "done" or "failed".
        best: Best value of the metric over the run; None when failed.
        last: Last value of the metric; None when failed.
        returncode: Of the process.
        seconds: Wall time.
        error: Why it failed, with the last lines of its standard error; empty when done.
    """

    key: str
    parameters: dict[str, Any]
    status: str
    best: float | None
    last: float | None
    returncode: int
    seconds: float
    error: str = ""


def read_records(file: Path) -> dict[str, Trial]:
    """The trials recorded so far by key; of a trial that ran twice, the later record counts.

    Raises:
        UserError: A line is no record of a trial.
    """
    if not file.exists():
        return {}
    text = file.read_text(encoding="utf-8")
    if not text.endswith("\n"):  # the process died while it wrote its last record
        text = text[: text.rfind("\n") + 1]
        file.write_text(text, encoding="utf-8")
    try:
        trials = [Trial(**json.loads(line)) for line in text.splitlines()]
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: a line is no record of a trial ({error}); delete that line") from error
    return {trial.key: trial for trial in trials}


def append_record(file: Path, trial: Trial) -> None:
    """Add one trial, as one line in one write."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(trial), default=str) + "\n")
