"""`phd fit` with the recipe of stage 3 on a few scenes, exact resume, and two processes against one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_experiments import ROOT, columns, fit_of, made, parsed, two_steps
from test_joint import Loss, assert_equal_gradients, in_two_processes
from test_joint import gradients as all_gradients
from test_resume import EVERY_STEP, Killed, assert_same_end, state_of
from tiny_concepts import concept_shards, images_of, rectangles, stage_of, student_with_text
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from phd.loading import load_segmenter
from phd.stages import ConceptMix
from phd.student import Student
from phd.teachers import load_teacher

SMALL = ["--data.max_positives=1", "--data.max_negatives=1", "--data.batch_size=1", "--data.val_samples=2"]
KILL = ["--trainer.callbacks+=test_resume.Kill", "--trainer.callbacks.batch=1"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return concept_shards(tmp_path_factory.mktemp("scenes") / "shards")


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "student"
    student_with_text(load_teacher(str(toy_folder)), folder)
    return folder


def test_a_student_of_stage_2_learns_concepts(
    tmp_path: Path, shards: Path, toy_folder: Path, student_folder: Path
) -> None:
    more = [f"--model.teacher={toy_folder}", f"--model.init_from={student_folder}", *SMALL]
    folder = two_steps("toy/stage3.yaml", tmp_path, shards, *more)
    metrics = columns(folder)
    for name in (
        "val/cgf1",
        "val/il_mcc",
        "val/pmf1",
        "val/presence_ece",
        "val/teacher_cgf1",
        "val/teacher_presence_ece",
    ):
        assert -1 <= metrics[name][-1] <= 1, name
    terms = ("box_l1", "box_giou", "score", "presence", "mask_focal", "mask_dice", "semantic_focal", "semantic_dice")
    for term in (*terms, "teacher_presence", "teacher_score", "teacher_dice", "feature_relative_mse"):
        assert len(metrics[f"train/loss/{term}"]) == 2, term
        assert metrics[f"val/loss/{term}"], term
    assert metrics["train/loss/box_l1_auxiliary"]
    assert metrics["val/feature_mse"]
    student, before = load_segmenter(str(folder / "student")), Student.from_pretrained(student_folder)
    assert isinstance(student, Student)
    assert student.verbs == ("encode", "segment", "track", "detect")
    assert student.config.text == "teacher"
    provenance = student.config.provenance
    assert provenance is not None
    assert provenance["stage"] == "ConceptFinetune"
    assert provenance["metrics"]["val/cgf1"] == pytest.approx(metrics["val/cgf1"][-1], abs=1e-5)
    after = student.state_dict()
    moved = {name for name, value in before.state_dict().items() if not torch.equal(value, after[name])}
    assert any(name.startswith("heads.detector_model.") for name in moved)
    assert any(name.startswith("trunk.") for name in moved)
    assert not any(name.startswith(("heads.tracker_model", "heads.compressor")) for name in moved)
    assert not any("running_mean" in name for name in moved)


def test_the_toy_learns_from_ground_truth(tmp_path: Path, shards: Path, toy_folder: Path) -> None:
    more = [f"--model.segmenter={toy_folder}", *SMALL]
    folder = two_steps("toy/teacher_concepts.yaml", tmp_path, shards, *more)
    metrics = columns(folder)
    assert metrics["val/cgf1"]
    assert not any("teacher" in name for name in metrics)
    assert metrics["train/loss/semantic_dice"]
    assert load_segmenter(str(folder / "student")).verbs[-1] == "detect"


def test_presence_moves_below_frozen_heads(tmp_path: Path, shards: Path, toy_folder: Path, reader_folder: Path) -> None:
    freeze = ["--trainer.callbacks+=callbacks.StageFreeze", "--trainer.callbacks.modules={heads: 1, trunk: null}"]
    more = [f"--model.teacher={toy_folder}", f"--model.init_from={reader_folder}", *SMALL, *freeze]
    folder = two_steps("toy/stage3.yaml", tmp_path, shards, *more)
    before, after = (Student.from_pretrained(path).state_dict() for path in (reader_folder, folder / "student"))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    heads = {name for name in moved if name.startswith("heads.")}
    assert any("presence_head" in name for name in heads)
    assert all(".presence_" in name for name in heads)
    assert any(name.startswith("neck.branches.detector") for name in moved)
    assert not any(name.startswith("trunk.") for name in moved)


def test_the_recipe_parses(capsys: pytest.CaptureFixture[str]) -> None:
    config = parsed(fit_of("stage3.yaml", "--model.rates.text=0", "--model.losses.presence=7"), capsys)
    model: dict[str, Any] = config["model"]["init_args"]
    assert (model["rates"]["text"], model["rates"]["trunk"], model["losses"]["presence"]) == (0, 0.3125, 7)
    assert config["trainer"]["gradient_clip_val"] == 0.1
    names = [callback["class_path"] for callback in config["trainer"]["callbacks"]]
    assert names[-1] == "callbacks.StageFreeze"
    assert "callbacks.LogConcepts" in names


@pytest.mark.parametrize("settings", [[], ["INIT=elsewhere", "TEXT=mobileclip_s1"]])
def test_make_stage3_takes_the_student_of_stage_2(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    config = made("stage3", "BACKBONE=tinyvit_11m", *settings, capsys=capsys)
    model = config["model"]["init_args"]
    assert config["model"]["class_path"] == "phd.stages.ConceptFinetune"
    student = "elsewhere" if settings else "runs/stage2/tinyvit_11m/student"
    assert (model["init_from"], model["teacher"]) == (student, "T")
    assert "mobileclip_s" in model["text"]
    assert (config["data"]["init_args"]["root"], config["trainer"]["max_steps"]) == ("D", 7)
    assert config["trainer"]["default_root_dir"] == "runs/stage3/tinyvit_11m"


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been(
    tmp_path: Path, shards: Path, toy_folder: Path, reader_folder: Path
) -> None:
    corrections = "--model.prompts={phrase: 0.2, exemplar: 0.4, both: 0.4, rounds: 2}"
    recipe = [f"--model.teacher={toy_folder}", f"--model.init_from={reader_folder}", *SMALL, corrections]

    def fit(folder: Path, *more: str) -> None:
        two_steps("toy/stage3.yaml", folder, shards, *recipe, *EVERY_STEP, "--trainer.max_steps=3", *more)

    longer = ["--trainer.limit_train_batches=3"]
    fit(tmp_path / "straight", *longer)
    with pytest.raises(Killed):
        fit(tmp_path / "run", *longer, *KILL)
    fit(tmp_path / "run", *longer, "--ckpt_path=last")
    assert_same_end(state_of(tmp_path / "run"), state_of(tmp_path / "straight"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "counts",
    [((3, 0), (1,), (1, 0), (0,)), ((2, 0), (1,), (0,), (0,)), ((1, 0), (1,), (), ())],
    ids=["uneven", "no instances on one", "no phrases on one"],
)
def test_gradients_are_those_of_the_joint_batch(
    counts: Any, tmp_path: Path, toy_folder: Path, reader_folder: Path
) -> None:
    alone = ConceptMix(phrase=1.0, exemplar=0.0, both=0.0)  # draws nothing, so that both sides ask the same
    stage = stage_of(reader_folder, toy_folder, prompts=alone).eval()
    stage.losses.phrase_scaling = False  # its root is that of a process's share of the phrases
    batch = rectangles(stage.contract, counts)

    def work(rank: int) -> dict[str, Tensor | None]:
        wrapped = DistributedDataParallel(Loss(stage), find_unused_parameters=True)  # type: ignore[arg-type]
        for _ in range(2):
            stage.zero_grad(set_to_none=True)
            wrapped(images_of(batch, 2 * rank, 2 * rank + 2)).backward()
        return all_gradients(stage)

    first, second = in_two_processes(work, tmp_path)
    Loss(stage)(batch).backward()  # type: ignore[arg-type]
    joint = all_gradients(stage)
    size = max(float(value.norm()) for value in joint.values() if value is not None)
    scaled = [
        {name: None if value is None else value / size for name, value in found.items()} for found in (first, joint)
    ]
    assert_equal_gradients(*scaled)
    assert all(value is None or torch.equal(value, second[name]) for name, value in first.items())
