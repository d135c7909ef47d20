"""A student at another image size: its contract, its weights, and what has no other size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from phd.errors import UserError
from phd.heads.memory.compressors import MemorySettings
from phd.loading import load_segmenter
from phd.student import Student
from phd.teachers import Teacher, load_teacher

SETTINGS = r"\(model\.image_size, --image-size\)"


def test_a_student_goes_to_another_size_and_back(student_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    own, larger = load_segmenter(str(student_folder)), load_segmenter(str(student_folder), 128)
    assert isinstance(own, Student)
    assert isinstance(larger, Student)
    teacher = load_teacher(str(toy_folder), 128)
    assert larger.contract == teacher.contract != own.contract
    assert larger.config.teacher_config == teacher_config(teacher)
    with torch.no_grad():
        levels = larger.encode(torch.zeros(1, 3, 128, 128), ("tracker",)).tracker
    assert [level.shape[-1] for level in levels] == [level.size for level in larger.contract.tracker]
    larger.save(tmp_path / "larger", stage="none")
    back = load_segmenter(str(tmp_path / "larger"), 64)
    assert load_segmenter(str(tmp_path / "larger")).contract == larger.contract
    assert isinstance(back, Student)
    assert back.contract == own.contract
    assert back.config.teacher_config == own.config.teacher_config
    state = back.state_dict()
    assert state.keys() == own.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())


def test_at_its_own_size_nothing_changes(student_folder: Path) -> None:
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64)
        first, again = (load_segmenter(str(student_folder), size).encode(images) for size in (None, 64))
    for name, levels in first.branches.items():
        assert all(torch.equal(*pair) for pair in zip(levels, again.branches[name], strict=True))


def test_sizes_that_do_not_fit(student_folder: Path, tiny_teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"image size 60 {SETTINGS}: SAM 3 needs a multiple of its patch of 8 pixels"):
        load_segmenter(str(student_folder), 60)
    Student.create("efficientvit_b0", tiny_teacher, pretrained=False).save(tmp_path / "sam", stage="none")
    with pytest.raises(UserError, match=rf"image size 64 {SETTINGS}: only SAM 3 runs at another size"):
        load_segmenter(str(tmp_path / "sam"), 64)
    student = Student.from_pretrained(student_folder)
    student.set_memory(MemorySettings("spatial", 0, 8, 1))
    student.save(tmp_path / "windows", stage="none")
    with pytest.raises(UserError, match="windows"):
        load_segmenter(str(tmp_path / "windows"), 32)


def teacher_config(teacher: Teacher) -> dict[str, object]:
    """As a student keeps it."""
    made = Student.create("efficientvit_b0", teacher, pretrained=False).config.teacher_config
    assert made is not None
    return made
