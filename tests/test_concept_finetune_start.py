"""Stage 3's sources: whose answers supervise, which text encoder it begins with, and rounds of corrections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import torch
from tiny_concepts import rectangles, stage_of, student_with_text
from torch import Tensor

from phd.batches import ConceptBatch
from phd.errors import UserError
from phd.stages import ConceptFinetune, ConceptLosses, ConceptMix
from phd.stages.concept_answers import Answerer
from phd.stages.concept_losses import teacher_objects
from phd.stages.concept_prompts import ConceptPrompts
from phd.stages.concept_start import settle_text
from phd.student import Student, TextStudent
from phd.teachers import Teacher, load_teacher

ALONE = ConceptMix(phrase=1.0, exemplar=0.0, both=0.0)


@pytest.fixture(scope="module")
def teacher(toy_folder: Path) -> Teacher:
    return load_teacher(str(toy_folder))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher) -> tuple[Path, Path]:
    """A student that reads phrases, and a teacher that is sure that it sees something everywhere."""
    folder = tmp_path_factory.mktemp("start")
    student_with_text(teacher, folder / "student")
    sure = load_teacher(teacher.name)
    decoder = sure.heads.detector_model["detr_decoder"]
    with torch.no_grad():
        decoder.presence_head.layer3.bias.fill_(8.0)
        scoring = sure.heads.detector_model["dot_product_scoring"]
        scoring.query_proj.weight.mul_(8.0)
    sure.save(folder / "sure")
    return folder / "student", folder / "sure"


@pytest.fixture(scope="module")
def batch(teacher: Teacher) -> ConceptBatch:
    return rectangles(teacher.contract)


def values(stage: ConceptFinetune, batch: ConceptBatch) -> dict[str, float]:
    stage.learner.eval()
    with torch.no_grad():
        return {name: float(value) for name, value in stage.step(batch, train=True).terms.items()}


def other_truth(batch: ConceptBatch) -> ConceptBatch:
    return replace(batch, boxes=batch.boxes.flip(0) * 0.7, masks=1 - batch.masks)


def test_whose_answers_supervise(folders: tuple[Path, Path], batch: ConceptBatch) -> None:
    found: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
    for supervision in ("teacher", "ground_truth", "both"):
        stage = stage_of(*folders, supervision=supervision, prompts=ALONE)
        found[supervision] = (values(stage, batch), values(stage, other_truth(batch)))
    assert found["teacher"][0] == found["teacher"][1]  # the data's instances do not count
    assert found["teacher"][0]["mask_dice"] > 0
    for supervision in ("ground_truth", "both"):
        first, second = found[supervision]
        assert first["box_l1"] != second["box_l1"]
    mine = {name for name in found["both"][0] if not name.startswith("teacher_")}
    assert set(found["ground_truth"][0]) == mine
    assert {name: found["both"][0][name] for name in mine} == pytest.approx(found["ground_truth"][0], rel=1e-5)
    assert found["both"][0]["teacher_dice"] > 0


def test_without_teacher_terms_the_teacher_is_not_asked_in_training(
    folders: tuple[Path, Path], batch: ConceptBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = dict.fromkeys(("teacher_presence", "teacher_score", "teacher_focal", "teacher_dice"), 0.0)
    stage = stage_of(*folders, losses=ConceptLosses(**none), prompts=ALONE)
    assert stage.teacher is not None
    asked: list[int] = []
    detect = stage.teacher.model.detect
    monkeypatch.setattr(stage.teacher.model, "detect", lambda *a, **k: asked.append(1) or detect(*a, **k))
    terms = values(stage, batch)
    assert not asked
    assert "feature_mse" in terms
    assert stage.step(batch, train=False).concepts.teacher is not None  # type: ignore[union-attr]
    assert asked


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_teachers_masks_are_drawn_for_their_terms_alone(
    folders: tuple[Path, Path], batch: ConceptBatch, weight: float
) -> None:
    stage = stage_of(*folders, losses=ConceptLosses(teacher_focal=0.0, teacher_dice=weight), prompts=ALONE)
    assert stage.teacher is not None
    drawn: list[Any] = []
    for train in (True, False):
        with patch.object(stage.teacher.model, "detect", wraps=stage.teacher.model.detect) as detect:
            output = stage.step(batch, train)
        drawn.append(detect.call_args.args[-1])
        assert ("teacher_dice" in output.terms) == bool(weight)
    assert weight or not drawn[0].any()
    assert drawn[1] is None  # for the numbers of the teacher
    assert (drawn[0] is None) == bool(weight)


@pytest.mark.parametrize("supervision", ["ground_truth", "teacher"])
def test_rounds_show_what_was_missed(supervision: Any, folders: tuple[Path, Path], batch: ConceptBatch) -> None:
    asked: list[Tensor] = []

    class Watched(ConceptFinetune):
        def _corrected(self, prompts: ConceptPrompts, *rest: Any) -> ConceptPrompts:
            after = super()._corrected(prompts, *rest)
            asked.append(torch.zeros(len(prompts.visual), 0) if after.exemplars is None else after.exemplars.labels)
            return after

    mix = ConceptMix(phrase=1.0, exemplar=0.0, both=0.0, rounds=3)
    stage = stage_of(*folders, supervision=supervision, prompts=mix)
    stage.__class__ = Watched
    stage.learner.eval()
    assert stage.teacher is not None
    theirs = stage.teacher.model.encode(stage.contract.normalise(batch.images, batch.content), ("detector",))
    asked_alone = Answerer.of(stage.teacher.model, theirs, batch, torch.zeros(4, dtype=torch.bool), 4)
    saw = teacher_objects(asked_alone.reference()).any(1)
    assert 0 < saw.sum() < 4
    rounds, loop = set(), cast(Any, stage.trainer.fit_loop)
    for seen in range(8):
        loop.total_batch_idx = seen
        stage.step(batch, train=True)
        labels = asked.pop()
        rounds.add(labels.shape[1])
        if labels.shape[1] and supervision == "ground_truth":
            # An untrained student is sure of nothing: instances are missed, absent phrases are right.
            assert (labels[[0, 2]] == 1).all()
            assert (labels[[1, 3]] == -1).all()
        if labels.shape[1] and supervision == "teacher":
            # Nor is it of the teacher's objects, whatever the data say.
            assert torch.equal((labels == 1).any(1), saw)
    assert len(rounds) > 2
    assert max(rounds) <= 3
    stage.step(batch, train=False)
    assert not asked


def test_a_student_keeps_the_encoder_that_it_has(
    teacher: Teacher, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    student = student_with_text(teacher)
    before = student.text
    settle_text(student, "mobileclip_s0", None, False, None)
    assert student.text is before
    assert "kept (model.replace_text puts mobileclip_s0 there)" in "".join(capsys.readouterr())
    with pytest.raises(UserError, match=r"model\.text_context is 8, but .* reads 16 tokens"):
        settle_text(student, None, 8, False, None)
    with pytest.raises(UserError, match=r"model\.replace_text is set, but model\.text is empty"):
        settle_text(student, None, None, True, None)
    with pytest.raises(UserError, match="no teacher to inherit from"):
        settle_text(student, "teacher", None, True, None)
    settle_text(student, "teacher", 8, True, teacher)
    assert (student.config.text_context, student.text is before) == (8, False)
    assert "new weights" not in "".join(capsys.readouterr())
    settle_text(student, "mobileclip_s0", None, True, None)
    assert "mobileclip_s0 starts from new weights; `make text TEXT=mobileclip_s0`" in "".join(capsys.readouterr())


@pytest.mark.slow
def test_a_distilled_encoder_is_taken_from_its_folder(teacher: Teacher, tmp_path: Path, batch: ConceptBatch) -> None:
    text = TextStudent.create("mobileclip_s0", teacher)
    text.save(tmp_path / "text")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = Student.create("efficientvit_b0", teacher, pretrained=False)
    student.save(tmp_path / "student", stage="none")
    stage = stage_of(tmp_path / "student", teacher.name, text=str(tmp_path / "text"), prompts=ALONE)
    mine, theirs = stage.learner.text.state_dict(), text.text.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    stage.step(batch, train=True).loss.backward()
    unread = [name for name, p in stage.learner.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name in unread if name.startswith("text")]
