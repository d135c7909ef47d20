"""Run what is planned, several runs at a time, each in its process (`worker.py`); what is done is not done again."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from datamodules.shards import write_atomically
from phd.ablation.plan import Run
from phd.ablation.worker import is_orphaned, start_worker, visible_gpus
from phd.errors import UserError

SETTINGS, RESULT, LOG = "ablation.json", "result.json", "log.txt"
# Trains and evaluates one run in a folder of its own and returns plain types; at the top of a module, for processes.
Work = Callable[[Run, Path], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its values, or why it failed."""

    run: Run
    values: dict[str, Any] | None
    error: str = ""


def run_all(runs: Sequence[Run], work: Work, out: Path, jobs: int) -> list[Outcome]:
    """Do every run that has no result yet.

    Args:
        runs: Planned.
        work: Does one; what it prints goes into `log.txt` in the run's folder.
        out: Folder of the ablation; a run is at `runs/NAME` in it.
        jobs: Processes at a time.

    Returns:
        One outcome for each run, in order; a run that failed does not stop the others.

    Raises:
        UserError: There is no job, or a result cannot be read.
    """
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; give at least 1")
    folders = {run: out / "runs" / run.name for run in runs}
    found = {run: Outcome(run, _read(folder / RESULT)) for run, folder in folders.items() if (folder / RESULT).exists()}
    missing = [run for run in runs if run not in found]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A forked process would inherit the locks of the parent's threads.
    context = multiprocessing.get_context("spawn")
    processes = min(jobs, max(1, len(missing)))
    begin = {"initializer": start_worker, "initargs": (context.Value("i", 0), processes, visible_gpus())}
    with (
        Progress(*columns, console=console) as bar,
        ProcessPoolExecutor(processes, mp_context=context, **begin) as pool,
    ):
        task = bar.add_task("runs", total=len(runs), completed=len(found))
        futures = {pool.submit(_do, work, run, folders[run]): run for run in missing}
        try:
            for future in as_completed(futures):
                run, error = futures[future], future.exception()
                found[run] = Outcome(run, None, _said(error)) if error else Outcome(run, future.result())
                state = f"failed: {found[run].error}; see {folders[run] / LOG}" if error else "done"
                console.print(f"{run.name}: {state}", highlight=False, markup=False, soft_wrap=True)
                bar.advance(task)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[run] for run in runs]


def _do(work: Work, run: Run, folder: Path) -> dict[str, Any]:
    """In a process of the pool: one run, with its output in a file."""
    if is_orphaned():
        raise SystemExit(f"{run.name}: the command that asked for it is gone")
    folder.mkdir(parents=True, exist_ok=True)
    _print_into(folder / LOG)
    start = time.perf_counter()
    try:
        values = work(run, folder)
    except BaseException:
        traceback.print_exc()  # the other process gets the message only
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    seconds = round(time.perf_counter() - start, 1)
    result = {"variant": run.variant.name, "seed": run.seed, "seconds": seconds, **values}
    write_atomically(folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _print_into(file: Path) -> None:
    """Send everything that this process prints, libraries in C included, to the end of a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: is no result of a run ({error}); delete it, and it is made again") from error


def _said(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
