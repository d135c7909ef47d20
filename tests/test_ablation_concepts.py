"""The ablations of stage 3: variants as `phd fit` reads them, data, section, and both commands at their smallest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from test_experiments import EXPERIMENTS, fit_of, parsed
from tiny_concepts import concept_shards

from datamodules.shapes.asked import asked_scene
from datamodules.shapes.questions import Asking
from phd.ablation import freezing, negatives
from phd.ablation.concept_report import plot, section
from phd.ablation.freezing import freezing_variant
from phd.ablation.negatives import HARD_NEGATIVES, POSITIVES, negatives_variant
from phd.ablation.plan import Run, Variant
from phd.ablation.run import Outcome
from phd.cli import run
from phd.errors import UserError
from phd.student import Student

TOY = EXPERIMENTS / "toy"


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("staged", {"neck": 1, "trunk": None, "trunk.net.stages_2": 2, "trunk.net.stages_3": 2}), ("all", None)],
)
def test_a_schedule_is_one_of_stage_freeze(
    name: str, schedule: dict[str, int | None] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = parsed([*fit_of("toy/ablation_freezing.yaml"), *freezing_variant(name, TOY).flags], capsys)
    freezes = [each["init_args"] for each in config["trainer"]["callbacks"] if "StageFreeze" in each["class_path"]]
    assert freezes == ([] if schedule is None else [{"modules": schedule}])
    assert config["model"]["init_args"]["rates"]["trunk"] > 0
    assert (config["trainer"]["limit_val_batches"], config["trainer"]["max_epochs"]) == (0, -1)


def test_flags_of_the_other_variants(capsys: pytest.CaptureFixture[str]) -> None:
    config = parsed([*fit_of("toy/ablation_freezing.yaml"), *freezing_variant("trunk_frozen", TOY).flags], capsys)
    rates = config["model"]["init_args"]["rates"]
    assert (rates["trunk"], rates["neck"]) == (0, 1)
    config = parsed([*fit_of("toy/ablation_negatives.yaml"), *negatives_variant("negatives_8").flags], capsys)
    data = config["data"]["init_args"]
    assert (data["max_negatives"], data["hard_negative_share"]) == (8, 1)
    assert data["augmentation"]["crop_probability"] == 0  # a crop would make negatives of its own
    with pytest.raises(UserError, match="has 12 hard negatives; give fewer"):
        negatives_variant("negatives_13")


def test_every_scene_has_enough_hard_negatives() -> None:
    asking = Asking(positives=POSITIVES, negatives=HARD_NEGATIVES / POSITIVES, hard=1.0)
    for index in range(12):
        questions = asked_scene(32, index, asking, 0.25).questions
        assert sum(question.hard for question in questions) == HARD_NEGATIVES
        assert sum(bool(question.things) for question in questions) == POSITIVES


def outcomes(values: dict[Variant, tuple[float, ...]], **more: float) -> list[Outcome]:
    """By variant, one cgF1 for each seed, from which the other numbers follow."""
    return [
        Outcome(
            Run(variant, seed),
            {"cgf1": value, "pmf1": 0.5, "il_mcc": value * 2, "presence_ece": 0.3, "il_fpr": 1 - value, **more},
        )
        for variant, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]


def test_findings_of_freezing() -> None:
    staged, everything = (freezing_variant(name, TOY) for name in ("staged", "all"))
    found = outcomes({staged: (0.2, 0.22)}, box_miou=0.7) + outcomes({everything: (0.3, 0.32)}, box_miou=0.6)
    said = freezing.findings([staged, everything], found, 0.75)
    assert said[0] == "cgF1: the highest mean has everything from the start (0.310 ± 0.014)."
    assert said[1].startswith("box mIoU: the highest mean has heads, then neck, then the trunk's end (0.700")
    assert "cgF1 0.310 ± 0.014 and 0.210 ± 0.014: lower by 0.100, more than the spread of the seeds;" in said[2]
    assert "pmF1 0.500 ± 0.000 and 0.500 ± 0.000: the same to three digits;" in said[2]
    assert said[3].endswith(
        "was 0.750 before stage 3. After it: heads, then neck, then the trunk's end 0.700 (-0.050); everything from "
        "the start 0.600 (-0.150)."
    )
    lost = [Outcome(each.run, None, "disk") for each in found[:2]]
    said = freezing.findings([staged, everything], [*lost, *found[2:]], 0.75)
    assert len(said) == 2
    assert said[1] == "Failed and left out: staged-seed0, staged-seed1."


def test_findings_of_negatives() -> None:
    variants = [negatives_variant(f"negatives_{number}") for number in (8, 0, 3)]
    eight, none, three = variants
    said = negatives.findings(variants, outcomes({eight: (0.3, 0.3), none: (0.0, 0.0), three: (0.2, 0.2)}))
    assert said[0] == "cgF1 by hard negatives: the highest mean has 8 (0.300 ± 0.000)."
    assert said[1] == "pmF1 by hard negatives: 0.500 in all."
    assert said[4] == "false positive rate by hard negatives: the lowest mean has 8 (0.700 ± 0.000)."
    assert said[5].startswith("From 0 hard negatives to 8: cgF1 0.000 ± 0.000 and 0.300 ± 0.000: higher by 0.300")
    assert said[6].endswith("Here cgF1 rises with every step: 0.000 with 0, 0.200 with 3, 0.300 with 8.")
    flat = negatives.findings(variants, outcomes({eight: (0.3,), none: (0.0,), three: (0.3,)}))
    assert "cgF1 does not rise with every step" in flat[6]
    assert negatives.findings(variants, []) == []


def about(**more: Any) -> dict[str, Any]:
    names = ("date", "cpu", "cores", "torch", "minutes", "start", "steps", "train_scenes", "train_seed", "scenes")
    words = {name: f"<{name}>" for name in (*names, "test_seed")}
    recipe = {"batch_size": 4, "max_positives": 2}
    return {**words, "command": "phd ablation x out", "recipe": recipe, "seeds": [0, 1], "phrases": [7, 8], **more}


def test_the_section(tmp_path: Path) -> None:
    variant = negatives_variant("negatives_3")
    found = outcomes({variant: (0.1, 0.3)}, box_miou=0.5)
    teacher = {"cgf1": 0.6, "pmf1": 0.7, "il_mcc": 0.8, "presence_ece": 0.1, "il_fpr": 0.05, "num_positive": 7}
    text = section("N", [variant], found, {"the teacher": teacher}, about(notes=["A note."]), ["Found."], "a.png")
    assert "| N | cgF1 | pmF1 | IL_MCC | ECE of presence | false positive rate |" in text
    assert "| the teacher | 0.600 | 0.700 | 0.800 | 0.100 | 0.050 |" in text
    assert "| 3 | 0.200 ± 0.141 | 0.500 ± 0.000 | 0.400 ± 0.283 | 0.300 ± 0.000 | 0.800 ± 0.141 |" in text
    assert "7 true phrases and 8 false ones" in text.replace("\n", " ")
    assert text.endswith("(a.png)\n\nFound.")
    assert "box mIoU" not in text
    rows = {"the teacher": teacher | {"box_miou": 0.9}, "the student before": {"box_miou": 0.8}}
    more = about(notes=[], stills=24, stills_seed=9201)
    text = section("what", [variant], found, rows, more, [], "a.png")
    assert "| the student before |  |  |  |  |  | 0.800 |" in text
    assert (
        "| 3 | 0.200 ± 0.141 | 0.500 ± 0.000 | 0.400 ± 0.283 | 0.300 ± 0.000 | 0.800 ± 0.141 | 0.500 ± 0.000 |" in text
    )
    sizes = []
    for boxes in (False, True):
        plot(tmp_path / "plot.png", [variant], found, boxes)
        sizes.append((tmp_path / "plot.png").read_bytes()[16:20])
    assert sizes[0] < sizes[1]  # a panel more is wider


@pytest.mark.parametrize("kind", ["freezing", "negatives"])
def test_make_runs_the_command(kind: str) -> None:
    make = ["make", "--dry-run", "--no-print-directory", f"ablation-{kind}", "FIRST_SEED=4", "ARGS=--model.lr=1"]
    printed = subprocess.run(make, cwd=EXPERIMENTS.parent, capture_output=True, text=True, check=True).stdout
    command = f"phd ablation {kind} runs/ablation/{kind} --first-seed 4 --results docs/results.md -- --model.lr=1"
    assert " ".join(printed.splitlines()[-1].split()).endswith(command)


def test_too_few_scenes_for_an_epoch(tmp_path: Path) -> None:
    command = ["ablation", "freezing", str(tmp_path), "--experiments", str(EXPERIMENTS), "--steps", "81"]
    with pytest.raises(UserError, match="--train-scenes is 84: an epoch of 21 steps needs 85; give more, or fewer"):
        run([*command, "--train-scenes", "84"])


@pytest.mark.slow  # both train twice and evaluate thrice, in processes of their own
@pytest.mark.parametrize("kind", ["freezing", "negatives"])
def test_command(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_folder: Path, toy_shards: Path, student_folder: Path
) -> None:
    from datamodules.convert import convert_sa1b
    from datamodules.shapes import write_sa1b

    write_sa1b(tmp_path / "raw", samples=2, seed=8)
    convert_sa1b(tmp_path / "raw", tmp_path / "stills")
    shards = {"sa1b": tmp_path / "stills", "saco-silver": concept_shards(tmp_path / "train", images=6)}
    shards["saco-gold"] = concept_shards(tmp_path / "test", images=2, seed=4)
    monkeypatch.setattr("phd.commands.ablation_concepts.world_shards", lambda root, world: shards[world.format])
    out, results = tmp_path / "out", tmp_path / "docs" / "results.md"
    names = {"freezing": ["staged", "trunk_frozen"], "negatives": ["negatives_0", "negatives_1"]}[kind]
    steps = {"freezing": 3, "negatives": 2}[kind]  # an epoch has at least two
    command = ["ablation", kind, str(out), "--init", str(student_folder), "--experiments", str(EXPERIMENTS)]
    command += ["--teacher", str(toy_folder), "--steps", str(steps), "--seeds", "1", "--results", str(results)]
    small = ["--", "--data.max_positives=1", "--data.batch_size=2"]
    run([*command, "--jobs", "1", "--only", *names, *small])
    whole = json.loads((out / "results.json").read_text())
    assert [(each["variant"], each["seed"]) for each in whole["runs"]] == [(name, 0) for name in names]
    keys = ("cgf1", "pmf1", "presence_ece", "il_fpr")
    assert all(0 <= each[key] <= 1 for each in [*whole["runs"], whole["references"]["the teacher"]] for key in keys)
    text = results.read_text()
    assert text.startswith(f"<!-- ablation-{kind} begin -->")
    named = f"--init {student_folder.name} --teacher {toy_folder.name}"
    assert (
        f"phd ablation {kind} out --seeds 1 --first-seed 0 {named} --steps {steps} --only {' '.join(names)} --" in text
    )
    assert (results.parent / "assets" / f"ablation_{kind}.png").is_file()
    folders = [out / "runs" / f"{name}-seed0" for name in names]
    before = Student.from_pretrained(student_folder).state_dict()
    moved = [
        {name for name, value in before.items() if not torch.equal(value, after[name])}
        for after in (Student.from_pretrained(folder / "fit" / "student").state_dict() for folder in folders)
    ]
    if kind == "freezing":
        assert [any(name.startswith("neck.fusion") for name in each) for each in moved] == [True, False]
        assert not any(
            name.startswith("trunk.") for each in moved for name in each
        )  # which begins with the third epoch
        assert whole["runs"][1]["box_miou"] == whole["references"]["the student before"]["box_miou"]
    else:
        warned = [(f / "log.txt").read_text().count("phd: warning: training data without a phrase") for f in folders]
        assert warned == [1, 0]
    # The same again does no run twice, and other steps are refused.
    stamp = (folders[0] / "result.json").stat().st_mtime_ns
    run([*command, "--only", names[0], *small])
    assert (folders[0] / "result.json").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match=f"holds results of steps {steps}, not 4"):
        run([*command, "--steps", "4", *small])
