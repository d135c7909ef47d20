"""Runs of the command line inside the process of the tests, and training at its smallest."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd.cli import main

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ["-c", str(ROOT / "experiments" / "trainer.yaml"), "-c", str(ROOT / "experiments" / "toy" / "stage1.yaml")]
LIMITS = ["limit_train_batches=2", "limit_val_batches=1", "log_every_n_steps=1", "accelerator=cpu"]


def small(shards: Path, folder: Path, teacher: Path, *more: str, steps: int = 2) -> list[str]:
    """Arguments of `phd fit`, `validate` or `test`: stage 1 in batches of two, two of them an epoch."""
    data = [f"--data.root={shards}", "--data.batch_size=2", "--data.val_samples=4"]
    limits = [f"--trainer.{limit}" for limit in [*LIMITS, f"max_steps={steps}", f"default_root_dir={folder}"]]
    return [*RECIPE, f"--model.teacher={teacher}", "--model.pretrained=false", *data, *limits, *more]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What `phd` says when it refuses: one line, exit code 2, no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    said = errors.strip().splitlines()[-1]
    assert said.startswith("phd: error: ")
    assert errors.count("phd: error: ") == 1
    assert "Traceback" not in errors
    return said


def files(folder: Path) -> set[str]:
    """Names of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
