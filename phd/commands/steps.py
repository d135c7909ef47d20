"""Work that a stopped command does not do twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

say = Console(stderr=True).print


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those after `--`, which are for `phd fit`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:cut], arguments[cut + 1 :]


def once(result: Path, work: Callable[[], object]) -> None:
    """Do the work unless its result is there; the work makes the result appear whole or not at all."""
    if result.exists():
        say(f"[dim]{result} is there[/]")
        return
    say(f"[bold]making {result}[/]")
    work()


def fit_once(folder: Path, arguments: list[str]) -> Path:
    """Run `phd fit` into a folder, or go on where it was stopped; return the student's folder."""
    from phd.cli import run as phd

    checkpoint, finished = folder / "checkpoints" / "last.ckpt", folder / "finished"

    def fit() -> None:
        resume = [f"--ckpt_path={checkpoint}"] if checkpoint.exists() else []
        phd(["fit", *arguments, f"--trainer.default_root_dir={folder}", *resume])
        finished.touch()

    once(finished, fit)
    return folder / "student"
