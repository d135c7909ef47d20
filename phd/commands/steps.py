"""Work that a stopped command does not do twice: parts of the embedded world, and runs of `phd fit`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Console

from phd.errors import UserError

say = Console(stderr=True).print
# Whom the students of the embedded world learn from, as in `experiments/toy`: at the size that a CPU can afford.
TEACHER = "toy-teacher-128"


@dataclass(frozen=True)
class World:
    """A part of the embedded world.

    Attributes:
        format: "sa1b" for still scenes, "sav" for clips, the others for still scenes with noun phrases.
        samples: How many.
        seed: Of the world. The embedded teacher saw scenes of seeds 1 to 3 and clips of 1 and 11 to 15.
        more: Further arguments for `phd shapes`.
    """

    format: Literal["sa1b", "sav", "saco-silver", "saco-gold"]
    samples: int
    seed: int
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.format}-{self.seed}-{self.samples}"


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those after `--`, which are for `phd fit`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:cut], arguments[cut + 1 :]


def require_recipes(experiments: Path, names: Sequence[str]) -> None:
    """Check that the files under `toy` are there before anything is done.

    Raises:
        UserError: One is missing.
    """
    missing = [name for name in names if not (experiments / "toy" / f"{name}.yaml").is_file()]
    if missing:
        raise UserError(f"{experiments}: no toy/{missing[0]}.yaml; run in the checkout or set --experiments")


def once(result: Path, make: Callable[[Path], object]) -> Path:
    """Make a file or folder unless it is there, beside its place, so that it appears whole or not at all.

    Args:
        result: Where it will be.
        make: Writes it to another path; what a stopped command left there is thrown away.
    """
    if not _is_there(result):
        partial = result.with_name(f"{result.name}.partial")
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        make(partial)
        partial.rename(result)
    return result


def world_shards(root: Path, world: World) -> Path:
    """Render a part of the world in a real data set's raw format, and convert it; written once."""
    from phd.cli import run as phd

    order = ["--format", world.format, "--samples", str(world.samples), "--seed", str(world.seed), *world.more]
    raw = once(root / f"raw-{world.name}", lambda partial: phd(["shapes", str(partial), *order]))
    convert = ["shards", "convert", world.format, str(raw)]
    return once(root / world.name, lambda partial: phd([*convert, str(partial)]))


def recipe(experiments: Path, name: str, shards: Path) -> list[str]:
    """The arguments of `phd fit` for `toy/NAME.yaml` on these shards."""
    files = [experiments / "trainer.yaml", experiments / "toy" / f"{name}.yaml"]
    return [*(word for file in files for word in ("-c", str(file))), f"--data.root={shards}"]


def settings_of(experiments: Path, name: str, section: Literal["model", "data"]) -> dict[str, Any]:
    """The `init_args` of a section of `toy/NAME.yaml`.

    Raises:
        UserError: There is no such file.
    """
    require_recipes(experiments, [name])
    return yaml.safe_load((experiments / "toy" / f"{name}.yaml").read_text())[section]["init_args"]


def fit_once(folder: Path, arguments: list[str]) -> Path:
    """Run `phd fit` into a folder, or go on where it was stopped; return the student's folder."""
    from phd.cli import run as phd

    checkpoint, finished = folder / "checkpoints" / "last.ckpt", folder / "finished"
    if not _is_there(finished):
        resume = [f"--ckpt_path={checkpoint}"] if checkpoint.exists() else []
        phd(["fit", *arguments, f"--trainer.default_root_dir={folder}", *resume])
        finished.touch()
    return folder / "student"


def evaluate_once(result: Path, arguments: list[str]) -> Path:
    """Run `phd evaluate` with `--json`; what a stopped evaluation has written so far is no result."""
    from phd.cli import run as phd

    return once(result, lambda partial: phd(["evaluate", *arguments, "--json", str(partial)]))


def _is_there(result: Path) -> bool:
    """Whether it is, said aloud either way."""
    say(f"[dim]{result} is there[/]" if result.exists() else f"[bold]making {result}[/]")
    return result.exists()
