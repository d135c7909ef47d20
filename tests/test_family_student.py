"""One student of the family: the arguments of its three runs, and what becomes of a run that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_experiments import EXPERIMENTS, parsed

from phd.commands.family import build_parser, command, plan_family
from phd.commands.family_data import own_data
from phd.commands.family_student import STAGES, Family, fit_apart, fit_arguments, last_said
from phd.commands.steps import split_at_dashes
from phd.errors import UserError

SIX = [f"--{split}-{what}=/shards/{split}/{what}" for split in ("data", "test") for what in ("images", "videos")]
SIX += ["--data-concepts=/shards/data/concepts", "--test-concepts=/shards/test/concepts"]


def planned(*words: str) -> Family:
    own, more = split_at_dashes(["out", "--device", "cpu", "--experiments", str(EXPERIMENTS), *words])
    options = build_parser().parse_args(own)
    family = plan_family(options, own_data(options), more, 96)
    family.data.update({f"data_{what}": f"/shards/{what}" for what in ("images", "videos", "concepts")})
    return family


def config_of(
    family: Family, stage: str, capsys: pytest.CaptureFixture[str], backbone: str = "tinyvit_11m"
) -> dict[str, Any]:
    place = list(family.steps).index(stage)
    before = Path(f"/runs/{list(family.steps)[place - 1]}/student") if place else None
    return parsed(["fit", *fit_arguments(family, backbone, 5, stage, before)], capsys)


def test_the_recipes_of_real_data(capsys: pytest.CaptureFixture[str], toy_folder: Path) -> None:
    more = ["--stage3-args=--data.batch_size=1 --model.rates.text=0", "--text", "mobileclip_s1"]
    more += ["--stage2-steps", "7", "--", "--trainer.precision=bf16-mixed", "--trainer.devices=4"]
    family = planned("--teacher", str(toy_folder), *SIX, *more)
    assert family.recipes == "full"
    first, second, third = (config_of(family, stage, capsys) for stage in STAGES)
    models = [config["model"]["init_args"] for config in (first, second, third)]
    assert [model["teacher"] for model in models] == [str(toy_folder)] * 3
    assert models[0]["backbone"] == "tinyvit_11m"
    assert [model["init_from"] for model in models] == ["", "/runs/stage1/student", "/runs/stage2/student"]
    assert (models[2]["text"], models[2]["rates"]["text"]) == ("mobileclip_s1", 0)
    assert models[1]["memory"]["windows"] == 8
    data = [config["data"] for config in (first, second, third)]
    assert [each["class_path"] for each in data] == ["datamodules.SA1B", "datamodules.Clips", "datamodules.Concepts"]
    assert [each["init_args"]["root"] for each in data] == ["/shards/images", "/shards/videos", "/shards/concepts"]
    assert (
        [each["init_args"]["seed"] for each in data]
        == [5, 5, 5]
        == [each["seed_everything"] for each in (first, second, third)]
    )
    assert [each["init_args"]["batch_size"] for each in data] == [8, 2, 1]
    trainers = [config["trainer"] for config in (first, second, third)]
    # Epochs as the recipe says, but for the stage whose steps were given; with validation.
    assert [(each["max_epochs"], each["max_steps"]) for each in trainers] == [(10, -1), (-1, 7), (20, -1)]
    assert {each["limit_val_batches"] for each in trainers} == {None}
    assert {(each["precision"], each["devices"], each["accelerator"]) for each in trainers} == {
        ("bf16-mixed", "4", "cpu")
    }
    names = [[callback["class_path"] for callback in each["callbacks"]] for each in trainers]
    assert names[1][-1] == "callbacks.ClipLength"
    assert names[2][-1] == "callbacks.StageFreeze"


def test_the_recipes_of_the_embedded_world(capsys: pytest.CaptureFixture[str]) -> None:
    family = planned("--stage1-steps", "9")
    assert (family.recipes, family.teacher) == ("toy", "toy-teacher-128")
    first, third = (config_of(family, stage, capsys, "repvit_m0_9") for stage in ("stage1", "stage3"))
    assert first["model"]["init_args"]["backbone"] == "repvit_m0_9"
    assert first["trainer"]["max_steps"] == 9
    assert third["trainer"]["max_steps"] == family.steps["stage3"]
    assert third["model"]["init_args"]["text"] == "teacher"
    assert {each["trainer"]["limit_val_batches"] for each in (first, third)} == {0}
    assert {each["trainer"]["devices"] for each in (first, third)} == {"1"}


def test_small_views_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    family = planned("--stage1-small-steps", "7", "--stage1-small-args=--data.batch_size=3")
    assert list(family.steps.items())[:2] == [("stage1_small", 7), ("stage1", 400)]
    small, first = (config_of(family, stage, capsys) for stage in ("stage1_small", "stage1"))
    models = [each["model"]["init_args"] for each in (small, first)]
    assert [each["image_size"] for each in models] == [64, 96]
    assert [each["init_from"] for each in models] == ["", "/runs/stage1_small/student"]
    assert models[0]["backbone"] == "tinyvit_11m"
    assert [phase["levels"] for phase in models[0]["losses"]["phases"]] == ["coarsest"]
    assert {phase["levels"] for phase in models[1]["losses"]["phases"]} == {"all"}
    assert small["data"]["init_args"]["batch_size"] == 3
    assert small["trainer"]["max_steps"] == 7


def test_recipes_and_data_are_chosen_apart() -> None:
    assert planned(*SIX, "--recipes", "toy").recipes == "toy"
    full = planned("--recipes", "full")
    assert (full.recipes, full.steps) == ("full", dict.fromkeys(STAGES))
    with pytest.raises(UserError, match="--stage1-small-steps: is for the toy recipes"):
        planned("--recipes", "full", "--stage1-small-steps", "5")
    with pytest.raises(UserError, match="--stage1-small-args: without small views"):
        planned("--stage1-small-args=--data.batch_size=3")


def test_the_command_that_is_shown() -> None:
    def shown(*words: str) -> str:
        own, more = split_at_dashes([*words])
        parser = build_parser()
        options = parser.parse_args(own)
        own_data(options)
        return command(parser, options, more)

    assert shown("runs/family", "--results", "docs/results.md", "--jobs", "1") == "phd family runs/family"
    words = ["out", "--only", "a", "b", "--stage1-args=--data.batch_size=1 --model.lr=0", "--train-clips", "3"]
    again = "phd family out --only a b '--stage1-args=--data.batch_size=1 --model.lr=0' --train-clips 3 -- --x=1"
    assert shown(*words, "--", "--x=1") == again
    assert shown("/home/me/out", "--teacher", "/home/me/sam3") == "phd family out --teacher sam3"


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that runs in place of the interpreter; it notes every start."""
    program = tmp_path / "python"
    monkeypatch.setattr("phd.commands.family_student.sys.executable", str(program))
    return program


def says(program: Path, *lines: str) -> Path:
    """Let the program do this; returns the file in which its starts are noted."""
    starts = program.with_name("starts")
    program.write_text("\n".join(["#!/bin/sh", f'echo "$@" >> {starts}', *lines]) + "\n")
    program.chmod(0o755)
    return starts


def test_a_run_that_failed_goes_on_and_one_that_is_finished_does_not(tmp_path: Path, python: Path) -> None:
    folder, log = tmp_path / "stage2", tmp_path / "log.txt"
    folder.mkdir()
    log.write_text("phd: error: of an earlier run\n")
    starts = says(python, "echo step 1", "echo 'phd: error: the disk is full' >&2", "echo goodbye", "exit 2")
    with pytest.raises(UserError, match=r"^stage2: the disk is full$"):
        fit_apart(folder, ["--x=1"], "stage2", log)
    assert log.read_text().splitlines()[1:] == ["step 1", "phd: error: the disk is full", "goodbye"]
    says(python, f"mkdir {folder}/student")
    assert fit_apart(folder, ["--x=1"], "stage2", log) == folder / "student"
    line = f"-m phd fit --x=1 --trainer.default_root_dir={folder} --ckpt_path=last"
    assert starts.read_text().splitlines() == [line, line]
    fit_apart(folder, ["--x=1"], "stage2", log)
    assert len(starts.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["echo step 9", "kill -9 $$"], "stage1: killed by SIGKILL, step 9"),
        (["exit 1"], "stage1: it said nothing"),
        (["echo Traceback", "echo 'RuntimeError: shapes'", "exit 1"], "stage1: RuntimeError: shapes"),
        (["exit 0"], "stage1: ended without a student"),
    ],
)
def test_what_a_failed_run_says(lines: list[str], said: str, tmp_path: Path, python: Path) -> None:
    says(python, *lines)
    with pytest.raises(UserError, match=f"^{said}"):
        fit_apart(tmp_path, [], "stage1", tmp_path / "log.txt")
    assert not (tmp_path / "finished").exists()


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"OSError: before\nValueError: one\ntorch.cuda.OutOfMemoryError: two\n\xff noise\n\n")
    assert last_said(log, 0) == "torch.cuda.OutOfMemoryError: two"
    assert last_said(log, log.stat().st_size) == "it said nothing"
