"""Run the trials of a sweep one after the other, each as its own process in its own folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phd.errors import UserError
from phd.one_command import claim, only_command_in
from phd.sweep.metric import MetricMissing, read_metric
from phd.sweep.records import Trial, append_record, read_records
from phd.sweep.report import order, short, write_report
from phd.sweep.sweep_file import SweepFile, read_sweep_file
from phd.sweep.trials import expand_command, plan_trials, trial_key

STDERR_LINES = 20


def run_sweep(
    file: Path,
    out: Path,
    max_runs: int | None = None,
    seed: int = 0,
    folder_flag: str = "--trainer.default_root_dir",
) -> list[Trial]:
    """Run a W&B sweep file on this machine, without a server, and write its results.

    Writes into `out`: `trials.jsonl` (a record per trial as it ends), `runs/<key>/` with `stdout.txt` and
    `stderr.txt`, and `results.csv`, `results.md` and `parallel_coordinates.png`. A second call continues:
    trials that are done are not repeated, failed ones are tried again. Trials rank by the best value of the
    metric over their run, the one that the saved student has; the last value, W&B's summary, stands beside it.

    Args:
        file: The sweep file, as for `wandb sweep`.
        out: Folder of this sweep.
        max_runs: Largest number of trials; the file's `run_cap` by default.
        seed: Seed of method "random".
        folder_flag: Flag of the program that takes the run's folder; it is appended to the command line.

    Returns:
        The planned trials that have run, best first, failed ones last.

    Raises:
        UserError: The file is wrong, the program does not exist, or `out` holds another sweep.
    """
    sweep = read_sweep_file(file)
    planned = {trial_key(parameters): parameters for parameters in plan_trials(sweep, max_runs, seed)}
    environment = _environment()
    for parameters in planned.values():
        program = expand_command(sweep, parameters)[0]
        if shutil.which(program, path=environment["PATH"]) is None:
            raise UserError(f"{file}: the command starts with {program}, which is no program on the PATH")
    with only_command_in(out):
        claim(out / "sweep.json", _identity(sweep))
        records = read_records(out / "trials.jsonl")
        console = Console(stderr=True)
        if sweep.early_terminate:
            console.print("early_terminate needs W&B's server; here every trial runs to its end", style="yellow")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=console) as progress:
                task = progress.add_task("sweep", total=len(planned))
                for key, parameters in planned.items():
                    if key not in records or records[key].status == "failed":
                        if _reached_target(sweep, records):
                            console.print(f"{sweep.metric} has reached its target; no further trials")
                            break
                        progress.update(task, description=f"trial {key}")
                        command = [*expand_command(sweep, parameters), f"{folder_flag}={_folder(out, key)}"]
                        records[key] = _run_trial(sweep, key, parameters, command, _folder(out, key), environment)
                        append_record(out / "trials.jsonl", records[key])
                        console.print(escape(_line(records[key], sweep.metric)), soft_wrap=True)
                    progress.advance(task)
        finally:
            # Also after Ctrl-C: what has run is worth a table.
            trials = order([records[key] for key in planned if key in records], sweep.goal)
            write_report(out, sweep, trials)
        return trials


def summary(trials: list[Trial], metric: str) -> str:
    """One line: how many trials ran, which failed and where to look, and the best."""
    failed = [trial.key for trial in trials if trial.status == "failed"]
    text = f"{len(trials) - len(failed)} of {len(trials)} trials done"
    if failed:
        text += f", {len(failed)} failed ({', '.join(failed)}: see runs/<trial>/stderr.txt)"
    if trials and trials[0].best is not None:
        chosen = " ".join(f"--{name}={value}" for name, value in trials[0].parameters.items())
        text += f"; best {metric} {trials[0].best:.4g} with {chosen}"
    return text


def _folder(out: Path, key: str) -> Path:
    return (out / "runs" / key).resolve()


def _environment() -> dict[str, str]:
    # A program next to the interpreter, such as `phd` in a virtual environment, runs without activation.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "WANDB_MODE": "disabled"}


def _identity(sweep: SweepFile) -> dict[str, Any]:
    """Trials of another command or metric must not share the table."""
    return {"command": list(sweep.command), "program": sweep.program, "metric": sweep.metric, "goal": sweep.goal}


def _reached_target(sweep: SweepFile, records: dict[str, Trial]) -> bool:
    if sweep.target is None:
        return False
    sign = 1 if sweep.goal == "maximize" else -1
    values = [trial.best for trial in records.values() if trial.best is not None]
    return any(sign * value >= sign * sweep.target for value in values)


def _run_trial(
    sweep: SweepFile,
    key: str,
    parameters: dict[str, Any],
    command: list[str],
    folder: Path,
    environment: dict[str, str],
) -> Trial:
    if folder.exists():  # of a trial that failed or was interrupted
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    stderr_file = folder / "stderr.txt"
    start = time.perf_counter()
    with (folder / "stdout.txt").open("wb") as stdout, stderr_file.open("wb") as stderr:
        process = subprocess.run(command, stdout=stdout, stderr=stderr, env=environment, check=False)
    seconds = round(time.perf_counter() - start, 1)
    if process.returncode != 0:
        tail = stderr_file.read_text(encoding="utf-8", errors="replace").splitlines()[-STDERR_LINES:]
        return Trial(key, parameters, "failed", None, None, process.returncode, seconds, "\n".join(tail))
    try:
        best, last = read_metric(folder, sweep.metric, sweep.goal)
    except MetricMissing as error:
        return Trial(key, parameters, "failed", None, None, process.returncode, seconds, str(error))
    return Trial(key, parameters, "done", best, last, process.returncode, seconds)


def _line(trial: Trial, metric: str) -> str:
    settings = " ".join(f"{name}={short(value)}" for name, value in trial.parameters.items())
    if trial.status == "done":
        return f"{trial.key}  {metric}={trial.best:.4g}  {settings}  ({trial.seconds:.0f} s)"
    lines = trial.error.splitlines() or ["no message on standard error"]
    # argparse prints usage first and details after; a traceback ends in the message.
    reason = next((line for line in reversed(lines) if re.search(r"error:", line, re.IGNORECASE)), lines[-1])
    return f"{trial.key}  FAILED (exit code {trial.returncode})  {settings}  {reason}"
