"""The family table: shares by hand, failed rows, the section, and what a model costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_clips import tiny_student, tiny_teacher

from phd.ablation.plan import Run, Variant
from phd.ablation.run import Outcome
from phd.cli import run
from phd.errors import UserError
from phd.family.cost import family_costs
from phd.family.report import findings, section
from phd.family.rows import MEASURES, as_plain, family_rows, family_table, share
from phd.student.account import students_table

QUALITY = {"box_miou": 0.8, "jf": 0.5, "cgf1": 0.4, "il_mcc": 0.0}


def outcome(name: str, **values: float | None) -> Outcome:
    return Outcome(Run(Variant(name, ()), 0), {**QUALITY, **values})


def cost(parameters: float, gmacs: float, cpu_ms: float) -> dict[str, float]:
    return {"parameters": parameters, "gmacs": gmacs, "cpu_ms": cpu_ms, "image_size": 64}


OUTCOMES = [
    outcome("teacher"),
    outcome("small", box_miou=0.6, jf=0.55, cgf1=None, il_mcc=0.3),
    Outcome(Run(Variant("broken", ()), 0), None, "stage 2: the disk is full"),
    outcome("large", box_miou=0.7, cgf1=0.1, jf=float("nan")),
]
COSTS = {"teacher": cost(8e6, 4.0, 100.0), "small": cost(2e6, 1.0, 30.04), "large": cost(10e6, 6.0, 120.0)}


def test_every_number_has_its_share_of_the_teachers() -> None:
    rows = family_rows(OUTCOMES, COSTS)
    assert [row.name for row in rows] == ["teacher", "small", "broken", "large"]
    small = rows[1].shares
    assert small == {
        "parameters": 0.25,
        "gmacs": 0.25,
        "cpu_ms": pytest.approx(0.3004),
        "box_miou": pytest.approx(0.75),
        "jf": pytest.approx(1.1),
        "cgf1": None,  # it has none
        "il_mcc": None,  # the teacher's is 0
    }
    assert rows[3].values["jf"] is rows[3].shares["jf"] is None
    assert set(rows[0].shares) == {each.key for each in MEASURES}
    assert (rows[2].values, rows[2].error) == ({}, "stage 2: the disk is full")
    assert json.loads(json.dumps(as_plain(rows)))[1]["shares"]["box_miou"] == small["box_miou"]
    assert share(0.5, -0.2) is None
    assert share(0.0, 0.5) == 0


def test_the_table() -> None:
    lines = family_table(family_rows(OUTCOMES, COSTS), "toy-teacher").splitlines()
    assert lines[0] == "| model | parameters, M | GMACs | CPU ms | box mIoU | J&F | cgF1 | IL_MCC |"
    assert lines[2] == "| toy-teacher (teacher) | 8.00 | 4.00 | 100.0 | 0.800 | 0.500 | 0.400 | 0.000 |"
    small = "| small | 2.00 (25.0%) | 1.00 (25.0%) | 30.0 (30.0%) | 0.600 (75.0%) | 0.550 (110.0%) | - | 0.300 (-) |"
    assert lines[3] == small
    assert lines[4] == "| broken | failed |  |  |  |  |  |  |"
    assert "| 0.700 (87.5%) | - | 0.100 (25.0%) | 0.000 (-) |" in lines[5]


def test_a_failed_teacher_leaves_no_shares() -> None:
    outcomes = [Outcome(Run(Variant("teacher", ()), 0), None, "out of memory"), OUTCOMES[1]]
    rows = family_rows(outcomes, {"small": COSTS["small"]})
    assert set(rows[1].shares.values()) == {None}
    assert "| t (teacher) | failed |" in family_table(rows, "t")


def test_what_comes_out_is_said_from_the_numbers() -> None:
    said = findings(family_rows(OUTCOMES, COSTS))
    # J&F and cgF1 are known of one student only, which makes no order.
    assert said[0] == "The highest of the students: box mIoU large (0.700), IL_MCC small (0.300)."
    assert said[1] == "Failed, and without numbers: broken (stage 2: the disk is full)."
    assert findings(family_rows(OUTCOMES[:2], COSTS)) == []
    alike = family_rows([outcome("teacher"), outcome("small"), outcome("large")], COSTS)
    assert "box mIoU all alike (0.800)" in findings(alike)[0]


def test_the_section_says_how() -> None:
    about: dict[str, Any] = {
        name: f"<{name}>"
        for name in ("command", "date", "cpu", "cores", "torch", "minutes", "training", "trunks", "rounds")
    }
    counts = ("num_images", "num_instances", "num_videos", "num_objects", "num_datapoints", "num_negative")
    about |= {"counts": {name: number for number, name in enumerate(counts, start=101)}, "teacher": "toy-teacher"}
    about |= {"protocol": "sav", "image_size": 64, "toy": True}
    text = section(family_rows(OUTCOMES, COSTS), about)
    whole = text.replace("\n", " ")
    assert text.startswith("```bash\n<command>\n```\n\n<date>, <cpu>, <cores> cores, torch <torch>; the runs took")
    assert "(images: 101, instances: 102)" in whole
    assert "(pairs of image and phrase: 105, of them negative: 106)" in whole
    assert "median of <rounds> rounds in which all models take turns) are those of one image of 64 pixels" in whole
    assert "These are short runs on the embedded world" in whole
    assert "short runs" not in section(family_rows(OUTCOMES, COSTS), {**about, "toy": False})
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))


def test_costs_are_those_of_the_account() -> None:
    """Parameters and GMACs of a student that does not fold are the ones that `phd students` prints."""
    teacher = tiny_teacher()
    student = tiny_student(teacher, memory=None)
    [row] = students_table(teacher.contract, teacher.config, ["efficientvit_b0"])
    found = family_costs({"teacher": teacher, "student": student}, rounds=1)
    assert found["student"]["parameters"] == row["total_params"] == sum(p.numel() for p in student.parameters())
    whole = row["trunk_gmacs"] + row["neck_gmacs"] + row["heads_gmacs"]
    assert found["student"]["gmacs"] == pytest.approx(whole, rel=0.01)
    assert found["teacher"]["parameters"] == sum(p.numel() for p in teacher.model.parameters())
    assert found["teacher"]["gmacs"] > found["student"]["gmacs"] > 0
    assert all(each["cpu_ms"] > 0 and each["image_size"] == 64 for each in found.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--test-images", "x"], "--data-images: missing beside --test-images; give all six"),
        (["--only", "mobilenet"], r"--only mobilenet: no .*mobilenet.yaml; there are repvit_m0_9, repvit_m1_1"),
        (["--only", "tinyvit_5m", "tinyvit_5m"], "tinyvit_5m is named twice"),
        (["--jobs", "0"], "--jobs is 0; give at least 1"),
        (["--stage2-steps", "0"], "--stage2-steps is 0"),
        (["--test-clips", "0"], "--test-clips is 0; give at least 1"),
        (["--train-seed", "5", "--test-seed", "5"], "--test-seed is 5, which is trained on"),
        (["--teacher", "nowhere/x"], "nowhere/x"),
        (["--device", "tpu9"], "--device tpu9: this machine has no such device"),
        (["--device", "cuda:1"], "--device cuda:1: students share the GPUs out"),
        (["--experiments", "nowhere"], "no YAML files; run in the checkout or set --experiments"),
    ],
)
def test_bad_settings_are_named_before_anything_is_done(words: list[str], said: str, tmp_path: Path) -> None:
    experiments = Path(__file__).resolve().parents[1] / "experiments"
    out = tmp_path / "out"
    with pytest.raises(UserError, match=said):
        run(["family", str(out), "--experiments", str(experiments), *words])
    assert not (out / "data").exists()
    assert not (out / "runs").exists()


def test_own_data_is_checked_before_anything_is_done(tmp_path: Path, toy_folder: Path, toy_shards: Path) -> None:
    experiments = Path(__file__).resolve().parents[1] / "experiments"
    six = [f"--{split}-{what}={toy_shards}" for split in ("data", "test") for what in ("images", "videos", "concepts")]
    family = ["family", str(tmp_path / "out"), "--experiments", str(experiments), "--teacher", str(toy_folder)]
    with pytest.raises(UserError, match=r"--data-videos .*: holds image data, not video data"):
        run([*family, *six])
    with pytest.raises(UserError, match="--train-clips: is for the embedded world; leave it out beside --data-images"):
        run([*family, *six, "--train-clips", "3"])
    assert not (tmp_path / "out" / "runs").exists()


def test_a_teacher_that_cannot_detect_is_refused(tmp_path: Path) -> None:
    from tiny import tiny_sam2

    tiny_sam2().save(tmp_path / "sam2")
    experiments = Path(__file__).resolve().parents[1] / "experiments"
    words = ["--experiments", str(experiments), "--teacher", str(tmp_path / "sam2")]
    with pytest.raises(UserError, match="does not detect; the three stages take a SAM 3"):
        run(["family", str(tmp_path / "out"), *words])
