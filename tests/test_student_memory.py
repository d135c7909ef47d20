"""A student's memory: attached, accounted for, saved and loaded, and the verb that uses it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_clips import MEMORY, tiny_student, tiny_teacher
from tiny_video import tiny_sam2_video

from phd.contract import ObjectPrompt
from phd.errors import UserError
from phd.heads.memory.compressors import Dense, MemorySettings
from phd.heads.memory.perceiver import SpatialPerceiver
from phd.segmenter import Segmenter
from phd.student import Student
from phd.teachers import Teacher

BOX = {1: ObjectPrompt(box=torch.tensor([10.0, 12.0, 40.0, 50.0]))}


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return tiny_teacher()


def tracked(model: Segmenter, frames: int = 3) -> torch.Tensor:
    """Logits (1, K, m, m) of the last of some frames of noise."""
    side, state = model.contract.image_size, None
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for number in range(frames):
            image = torch.randn(1, 3, side, side, generator=generator)
            state = model.track(image, state, BOX if number == 0 else None)
    assert state is not None
    assert state.answer is not None
    assert state.frame == frames - 1
    return state.answer.logits


def test_a_new_student_remembers_as_its_teacher(teacher: Teacher) -> None:
    student = tiny_student(teacher, memory=None)
    assert student.config.memory is None
    assert isinstance(student.heads.compressor, Dense)
    assert student.verbs == ("encode", "segment", "track")
    assert teacher.verbs == (*student.verbs, "detect")  # the student has no text encoder yet
    assert "compressor" not in " ".join(student.state_dict())


@pytest.mark.parametrize("kind", ["none", "flat", "spatial", "both", "pool", "state_space"])
def test_round_trip_is_exact(kind: str, teacher: Teacher, tmp_path: Path) -> None:
    student = tiny_student(teacher, memory=None)
    settings = replace(MEMORY, kind=kind)
    student.set_memory(settings, layers=1)
    student.eval().save(tmp_path / "student")
    loaded = Student.from_pretrained(tmp_path / "student")
    assert (loaded.config.memory, loaded.config.memory_layers) == (asdict(settings), 1)
    assert len(loaded.heads.tracker_model.memory_attention.layers) == 1
    expected = tracked(student)
    assert torch.equal(tracked(loaded), expected)
    assert expected.isfinite().all()


def test_the_account(teacher: Teacher, capsys: pytest.CaptureFixture[str]) -> None:
    student = tiny_student(teacher, memory=None)
    before = student.heads.state_dict()
    capsys.readouterr()
    student.set_memory(MEMORY, layers=1)
    said = capsys.readouterr().err
    assert "heads with a memory of 7 tokens for each frame (both)" in said
    assert "new: compressor.latents_1d" in said
    assert "missing: tracker_model.memory_attention" in said
    account = student.inheritance["memory"]
    after = student.heads.state_dict()
    assert {*account.inherited, *account.new} == after.keys()
    assert set(account.missing) == before.keys() - after.keys()
    assert all("memory_attention.layers.1." in name for name in account.missing)
    assert all(torch.equal(before[name], after[name]) for name in account.inherited)


def test_a_memory_of_another_size_keeps_what_fits(teacher: Teacher) -> None:
    student = tiny_student(teacher)
    before = student.heads.compressor.state_dict()
    student.set_memory(replace(MEMORY, num_global=5))
    compressor = student.heads.compressor
    assert isinstance(compressor, SpatialPerceiver)
    assert compressor.num_tokens == 9
    account = student.inheritance["memory"]
    assert account.new == ["compressor.latents_1d"]
    assert account.mismatched == [("compressor.latents_1d", (5, 64), (3, 64))]
    assert torch.equal(compressor.latents_2d, before["latents_2d"])


@pytest.mark.parametrize(
    ("settings", "layers", "message"),
    [
        (MemorySettings("both", windows=3), None, "choose one of 1, 2, 4, 8"),
        (MEMORY, 3, "memory_layers is 3; give 1 to 2"),
        (MEMORY, 0, "memory_layers is 0"),
    ],
)
def test_illegal_settings(settings: MemorySettings, layers: int | None, message: str, teacher: Teacher) -> None:
    with pytest.raises(UserError, match=message):
        tiny_student(teacher, memory=None).set_memory(settings, layers)


def test_sam_has_no_memory() -> None:
    sam = tiny_sam().eval()
    assert sam.verbs == ("encode", "segment")
    with pytest.raises(UserError, match="cannot track"):
        sam.track(torch.zeros(1, 3, 128, 128), None, BOX)
    with pytest.raises(UserError, match="SAM 1"):
        Student.create("efficientvit_b0", sam, pretrained=False).set_memory(MEMORY)


def test_teachers_track_and_correct(teacher: Teacher) -> None:
    assert tracked(teacher, 2).shape == (1, 1, 32, 32)  # the toy tracks with one candidate
    sam2 = tiny_sam2_video().eval()
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = sam2.track(image, None, BOX)
        click = ObjectPrompt(points=torch.tensor([[20.0, 30.0]]), labels=torch.tensor([0]))
        corrected = sam2.correct(image, state, {1: click})
    assert corrected.frame == state.frame == 0
    assert corrected.answer is not None
    assert state.answer is not None
    assert not torch.equal(corrected.answer.logits, state.answer.logits)
    with pytest.raises(UserError, match="one at a time"):
        sam2.track(image.expand(2, -1, -1, -1), None, BOX)
