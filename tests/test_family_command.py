"""`phd family`, end to end, at its smallest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_experiments import EXPERIMENTS
from tiny_clips import clip_shards
from tiny_concepts import concept_shards

from phd.cli import run
from phd.errors import UserError
from phd.family.rows import MEASURES
from phd.loading import load_segmenter
from phd.student import Student

pytestmark = pytest.mark.slow
ONE_STEP = [f"--stage{stage}-steps={steps}" for stage, steps in ((1, 2), (2, 1), (3, 2))]
SMALL = ["--data.batch_size=2", "--data.val_samples=2", "--data.num_workers=0"]


def check_rows(whole: dict, names: list[str]) -> None:
    assert [row["name"] for row in whole["rows"]] == names
    for row in whole["rows"]:
        assert set(row["values"]) == {each.key for each in MEASURES}
        assert 0 <= row["values"]["box_miou"] <= 1
        assert 0 <= row["values"]["jf"] <= 1
        assert 0 <= row["values"]["cgf1"] <= 1
    teacher, student = whole["rows"][0]["values"], whole["rows"][1]
    assert student["shares"]["gmacs"] == pytest.approx(student["values"]["gmacs"] / teacher["gmacs"])


def test_one_student_on_the_embedded_world(tmp_path: Path, toy_folder: Path) -> None:
    out, results, numbers = tmp_path / "out", tmp_path / "docs" / "results.md", tmp_path / "numbers.json"
    sizes = {"train-scenes": 8, "train-clips": 4, "train-phrase-scenes": 8}
    sizes |= {"test-scenes": 2, "test-clips": 1, "test-phrase-scenes": 2}
    command = ["family", str(out), "--experiments", str(EXPERIMENTS), "--teacher", str(toy_folder)]
    command += [*(f"--{name}={size}" for name, size in sizes.items()), *ONE_STEP, "--rounds=1", "--jobs=2"]
    command += ["--stage1-small-steps=1", "--only", "efficientvit_b0", "--device=cpu"]
    command += ["--results", str(results), "--json", str(numbers)]
    run([*command, "--", *SMALL])
    whole = json.loads(numbers.read_text())
    check_rows(whole, ["teacher", "efficientvit_b0"])
    text = results.read_text()
    assert text.startswith("<!-- family begin -->")
    assert f"phd family out --only efficientvit_b0 --teacher {toy_folder.name} --stage1-small-steps 1" in text
    assert "`stage2.yaml` for 1 steps on 4 clips" in text.replace("\n", " ")
    folder = out / "runs" / "efficientvit_b0-seed0"
    student = load_segmenter(str(folder / "stage3" / "student"))
    assert student.verbs == ("encode", "segment", "track", "detect")
    assert isinstance(student, Student)
    assert (student.config.provenance or {})["stage"] == "ConceptFinetune"
    assert whole["rows"][1]["values"]["parameters"] == sum(p.numel() for p in student.parameters())
    assert not (folder / "stage1" / "checkpoints").exists()
    assert (folder / "stage1_small" / "student").is_dir()
    # The same again does nothing twice; other settings need another folder.
    kept = [folder / "result.json", folder / "stage1" / "student" / "model.safetensors", out / "costs.json"]
    written = [path.stat().st_mtime_ns for path in kept]
    run([*command, "--", *SMALL])
    assert [path.stat().st_mtime_ns for path in kept] == written
    assert json.loads(numbers.read_text())["rows"] == whole["rows"]
    with pytest.raises(UserError, match=r"of steps .*'stage3': 2.*, not .*'stage3': 3"):
        run([*command, "--stage3-steps=3", "--", *SMALL])


def test_real_recipes_with_data_of_ones_own(tmp_path: Path, toy_folder: Path, toy_shards: Path) -> None:
    """And a student whose backbone does not exist: its row says so, and the other one is done all the same."""
    experiments = tmp_path / "experiments"
    shutil.copytree(EXPERIMENTS, experiments)
    for file in (experiments / "backbone").iterdir():
        file.unlink() if file.stem != "efficientvit_b0" else None
    broken = experiments / "backbone" / "wrong.yaml"
    broken.write_text("model:\n  init_args:\n    backbone: no_such_trunk\n")
    clips, scenes = clip_shards(tmp_path / "clips", videos=4, frames=9), concept_shards(tmp_path / "scenes", images=6)
    shards = {"images": toy_shards, "videos": clips, "concepts": scenes}
    command = ["family", str(tmp_path / "out"), "--experiments", str(experiments), "--teacher", str(toy_folder)]
    command += [f"--{split}-{what}={root}" for split in ("data", "test") for what, root in shards.items()]
    command += [*ONE_STEP, "--rounds=1", "--jobs=1", "--text=teacher", "--device=cpu"]
    with pytest.raises(UserError, match=r"^failed: wrong \(stage1: backbone 'no_such_trunk'") as caught:
        run([*command, "--", *SMALL])
    log = tmp_path / "out" / "runs" / "wrong-seed0" / "log.txt"
    assert str(log) in str(caught.value)
    assert "no_such_trunk" in log.read_text()
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| wrong | failed |" in text
    assert "Failed, and without numbers: wrong (stage1: backbone 'no_such_trunk'" in text.replace("\n", " ")
    whole = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (whole["about"]["toy"], whole["rows"][2]["values"]) == (False, {})
    check_rows({"rows": whole["rows"][:2]}, ["teacher", "efficientvit_b0"])
    config = (tmp_path / "out" / "runs" / "efficientvit_b0-seed0" / "stage3" / "config.yaml").read_text()
    assert "callbacks.StageFreeze" in config
