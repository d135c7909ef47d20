"""The container: created from a teacher, saved, loaded, folded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_sam, tiny_sam2
from transformers import AutoConfig

from phd.contract import Contract, Masks, Prompts
from phd.errors import UserError
from phd.segmenter import Segmenter
from phd.student import Student, StudentConfig
from phd.teachers import Teacher, new_toy

BOXES = Prompts(torch.tensor([0, 1]), boxes=torch.tensor([[10.0, 10.0, 40.0, 40.0], [20.0, 20.0, 60.0, 60.0]]))


@pytest.fixture(scope="module")
def sam() -> Teacher:
    return tiny_sam().eval()


@pytest.fixture(scope="module")
def original(sam: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "student"
    new_student(sam).save(folder)
    return folder


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "student")


def new_student(teacher: Teacher, backbone: str = "efficientvit_b0", neck: str = "light") -> Student:
    return Student.create(backbone, teacher, neck=neck, pretrained=False)  # type: ignore[arg-type]


def answer(model: Segmenter, images: torch.Tensor) -> Masks:
    with torch.no_grad():
        return model.segment(model.encode(images), BOXES)


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2, new_toy])
def test_inherits_every_weight_of_the_heads(make: Callable[[], Teacher]) -> None:
    teacher = make().eval()
    student = new_student(teacher, neck="teacher").eval()
    assert isinstance(student, Segmenter)
    assert student.contract == teacher.contract
    for account in student.inheritance.values():
        assert (account.new, account.missing, account.mismatched) == ([], [], [])
    # Given the same features, the same heads answer the same.
    with torch.no_grad():
        features = teacher.encode(images())
        mine, theirs = student.segment(features, BOXES), teacher.segment(features, BOXES)
    assert torch.equal(mine.logits, theirs.logits)
    assert torch.equal(mine.scores, theirs.scores)


@pytest.mark.parametrize(
    ("backbone", "make"), [("efficientvit_b0", new_toy), ("repvit_m0_9", tiny_sam), ("tinyvit_5m", tiny_sam2)]
)
def test_round_trip_is_exact(backbone: str, make: Callable[[], Teacher], tmp_path: Path) -> None:
    teacher = make()
    student = new_student(teacher, backbone)
    assert all(tensor.isfinite().all() for tensor in student.state_dict().values())
    student.encode(images(1))  # moves the batch norms' statistics
    student.eval().save(tmp_path / "student", stage="EncoderDistill", metrics={"val/mask_iou": 0.5})
    loaded = Student.from_pretrained(tmp_path / "student", expect=teacher.contract)
    assert not loaded.training
    expected = answer(student, images())
    assert torch.equal(answer(loaded, images()).logits, expected.logits)
    assert loaded.config.to_dict() == student.config.to_dict()
    folded = loaded.fold()
    assert count(folded) < count(loaded)
    torch.testing.assert_close(answer(folded, images()).logits, expected.logits, atol=1e-3, rtol=1e-3)
    with pytest.raises(UserError, match="folded"):
        folded.save(tmp_path / "folded")
    assert count(loaded) == count(student)  # folding makes a copy


def count(student: Student) -> int:
    return sum(parameter.numel() for parameter in student.parameters())


def test_gradient_reaches_the_first_layer(sam: Teacher) -> None:
    student = new_student(sam)
    student.gradient_checkpointing()
    masks = student.segment(student.encode(images(), ["tracker"]), BOXES)
    masks.logits.square().mean().backward()
    first = next(student.trunk.parameters()).grad
    assert first is not None
    assert first.abs().sum() > 0


def test_the_account_is_printed(sam: Teacher, capsys: pytest.CaptureFixture) -> None:
    new_student(sam)
    assert capsys.readouterr().err.splitlines() == [
        "trunk efficientvit_b0: random weights; neck light",
        "heads of tiny-sam: 137 inherited (prompt_encoder 17, mask_decoder 120), 0 new, 0 missing",
    ]


def test_folder_says_what_it_is(sam: Teacher, tmp_path: Path) -> None:
    student = new_student(sam)
    student.save(tmp_path / "s", stage="EncoderDistill", metrics={"val/mask_iou": 0.5}, folder_of_run=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    assert config["teacher"] == "tiny-sam"
    assert Contract.from_dict(config["contract"]) == sam.contract
    assert config["provenance"] == {
        "trunk_weights": "random",
        "stage": "EncoderDistill",
        "metrics": {"val/mask_iou": 0.5},
        "folder_of_run": str(tmp_path),
    }
    card = (tmp_path / "s" / "README.md").read_text()
    assert "efficientvit_b0, a student of tiny-sam" in card
    assert "| val/mask_iou | 0.5 |" in card
    assert "| trunk | 0.68 M |" in card
    assert isinstance(AutoConfig.from_pretrained(tmp_path / "s"), StudentConfig)


def test_save_replaces_the_earlier_student(saved: Path, sam: Teacher) -> None:
    student = Student.from_pretrained(saved)
    with torch.no_grad():
        next(student.trunk.parameters()).fill_(0.25)
    student.save_pretrained(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["student"]
    again = Student.from_pretrained(saved)
    assert next(again.trunk.parameters()).eq(0.25).all()
    assert again.name == str(saved)


def test_save_spares_other_files(saved: Path) -> None:
    student = Student.from_pretrained(saved)
    (saved / "last.ckpt").write_text("precious")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        student.save(saved)
    assert (saved / "last.ckpt").read_text() == "precious"


def test_another_contract(saved: Path, sam: Teacher) -> None:
    with pytest.raises(UserError, match="mean"):
        Student.from_pretrained(saved, expect=replace(sam.contract, mean=(0.0, 0.0, 0.0)))


def damage(folder: Path, change: Callable[[dict], None]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"no config\.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a student"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 100), "damaged"),
        (lambda folder: damage(folder, lambda c: c.update(model_type="sam")), "not a student"),
        (lambda folder: damage(folder, lambda c: c.update(neck="heavy")), "neck 'heavy'"),
        (lambda folder: damage(folder, lambda c: c.update(backbone="tinyvit_12m")), "tinyvit_11m"),
        (lambda folder: damage(folder, lambda c: c["contract"].pop("mean")), "contract is incomplete"),
        (lambda folder: damage(folder, lambda c: c.pop("teacher_config")), "teacher_config"),
        (lambda folder: damage(folder, lambda c: c.update(backbone="efficientvit_b1")), "does not fit"),
    ],
)
def test_a_damaged_folder(change: Callable[[Path], None], message: str, saved: Path) -> None:
    change(saved)
    with pytest.raises(UserError, match=message):
        Student.from_pretrained(saved)


def test_truncated_weights(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match="damaged"):
        Student.from_pretrained(saved)


def test_one_weight_less_and_one_of_another_shape(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    first, *_, last = state
    del state[first]
    state[last] = torch.zeros(7, 7, 7)
    save_file(state, saved / "model.safetensors")
    with pytest.raises(UserError, match="1 weights missing, 0 unexpected, 1 of another shape"):
        Student.from_pretrained(saved)


def test_no_such_folder() -> None:
    with pytest.raises(UserError, match="no such folder"):
        Student.from_pretrained("runs/nowhere/student")


def test_no_such_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phd.student.artefact.hub_unreachable", lambda _: "no network")
    with pytest.raises(UserError, match="no network"):
        Student.from_pretrained("someone/student")


def test_no_such_neck(sam: Teacher) -> None:
    with pytest.raises(UserError, match="neck 'heavy' does not exist; choose one of light, teacher"):
        new_student(sam, neck="heavy")
