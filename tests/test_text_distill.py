"""Distilling a text encoder from phrases: losses by hand, data, and a run that a student takes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from callbacks import LogTextCosine
from datamodules.phrases import Phrases, hold_out, read_phrases
from phd.cli import run
from phd.errors import UserError
from phd.losses.text import text_cosine, text_mse
from phd.stages import TextDistill
from phd.student import Student, TextStudent
from phd.teachers import load_teacher

ROOT = Path(__file__).resolve().parents[1]
PHRASES = [f"{colour} {shape}" for colour in ("red", "blue", "green", "pink") for shape in ("ring", "star", "heart")]


def test_losses_by_hand() -> None:
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [9.0, 9.0]]])
    student = torch.tensor([[[1.0, 1.0], [0.0, 1.0]], [[4.0, 3.0], [float("nan"), 7.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert text_mse(student, teacher, mask).item() == pytest.approx((0 + 1 + 0 + 1 + 1 + 1) / 6)
    assert text_cosine(student, teacher, mask).item() == pytest.approx(1 - (0.5**0.5 + 1 + 0.96) / 3)
    with pytest.raises(ValueError, match="mask"):
        text_mse(student, teacher, mask[:1])
    with pytest.raises(ValueError, match="tokens"):
        text_cosine(student[:, :1], teacher, mask)


def test_padding_has_no_gradient() -> None:
    student = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    loss = text_mse(student, torch.randn(2, 3, 4), mask) + text_cosine(student, torch.randn(2, 3, 4), mask)
    loss.backward()
    assert student.grad is not None
    assert torch.equal(student.grad.abs().sum(dim=-1) > 0, mask)


def test_reading_phrases(tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_text("red ring\n\n  blue star \nred ring\n")
    with pytest.warns(UserWarning, match="1 of 4 lines are blank"):
        assert read_phrases(str(file)) == ["red ring", "blue star"]
    file.write_text("\n")
    with pytest.raises(UserError, match=r"phrases.txt: holds no phrase"):
        read_phrases(str(file))
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="cannot be read as text"):
        read_phrases(str(file))
    with pytest.raises(UserError, match=r"missing.txt: no such file; give a text file"):
        read_phrases(str(tmp_path / "missing.txt"))


def test_shards_without_phrases(toy_shards: Path) -> None:
    with pytest.raises(UserError, match="of the form image and have no phrases"):
        read_phrases(str(toy_shards))


def test_holding_out_is_spread(tmp_path: Path) -> None:
    train, val = hold_out([str(number) for number in range(10)], 3, "x")
    assert val == ["0", "3", "6"]
    assert train == ["1", "2", "4", "5", "7", "8", "9"]
    with pytest.raises(UserError, match="holds out 10 of its 10 phrases"):
        hold_out(train + val, 10, "x")


def test_batches_are_a_plan(tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_text("\n".join(PHRASES))
    data = Phrases(str(file), val_phrases=2, batch_size=5)
    data.setup("validate")
    batches = list(data.train_dataloader())
    assert [len(batch) for batch in batches] == [5, 5]
    (held_out,) = data.val_dataloader()
    order = [phrase for batch in batches for phrase in batch]
    assert sorted([*order, *held_out]) == sorted(PHRASES)
    assert order != [phrase for phrase in PHRASES if phrase not in held_out]


def small(file: Path, teacher: Path, folder: Path, *more: str) -> list[str]:
    files = [word for name in ("trainer.yaml", "toy/text.yaml") for word in ("-c", str(ROOT / "experiments" / name))]
    limits = ["max_epochs=2", "log_every_n_steps=1", "accelerator=cpu", f"default_root_dir={folder}"]
    settings = [f"--model.teacher={teacher}", f"--data.root={file}", "--data.batch_size=5", "--data.val_phrases=2"]
    return ["fit", *files, *settings, *(f"--trainer.{limit}" for limit in limits), *more]


def test_a_run_and_its_student(tmp_path: Path, toy_folder: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_text("\n".join(PHRASES))
    run(small(file, toy_folder, tmp_path / "run"))
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    cosines = [float(row["val/text_cosine"]) for row in rows if row.get("val/text_cosine")]
    losses = [float(row["train/loss/text_mse"]) for row in rows if row.get("train/loss/text_mse")]
    assert len(cosines) == 2
    assert len(losses) == 4
    assert cosines[1] > cosines[0]
    assert not any(name.startswith("val/mask_iou") for name in rows[0])
    teacher = load_teacher(str(toy_folder))
    torch.manual_seed(0)
    student = Student.create("efficientvit_b0", teacher, pretrained=False, text=str(tmp_path / "run" / "student"))
    student.eval()
    teacher.eval()
    with torch.no_grad():
        held_out = [PHRASES[0], PHRASES[6]]
        mine, theirs = student.encode_text(held_out), teacher.encode_text(held_out)
        cosine = torch.nn.functional.cosine_similarity(mine.tokens, theirs.tokens, dim=-1)[mine.mask].mean()
    # The artefact is the best one, and what was logged is what it does.
    assert cosine.item() == pytest.approx(max(cosines), abs=1e-4)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(name.startswith("learner.text.") for name in checkpoint["state_dict"])


def test_settings(toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"text_context is 32, but .* reads at most 16 tokens"):
        TextDistill(teacher=str(toy_folder), text_context=32)
    with pytest.raises(UserError, match=r"model\.teacher: empty"):
        TextDistill()
    text = TextStudent({"text": "mobileclip_s0", "text_context": 16, "vocab_size": 512, "width": 32, "teacher": "x"})
    text.config["model_type"] = "phd_text"
    text.save(tmp_path / "text")
    with pytest.raises(UserError, match=r"vocabulary and width \(512, 32\), but the teacher's are \(512, 128\)"):
        TextDistill(teacher=str(toy_folder), init_from=str(tmp_path / "text"))


def test_cut_phrases_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    logger = LogTextCosine()
    values = {"text_cosine": torch.tensor(0.5), "text_cut": torch.tensor(0.25)}
    assert logger.summarise({**values, "text_cut": torch.tensor(0.0)}).keys() == values.keys()
    assert capsys.readouterr().err == ""
    logger.summarise(values)
    logger.summarise(values)
    said = capsys.readouterr().err
    assert said.startswith("25.0% of the phrases for validation are longer than the text encoder reads")
    assert said.count("\n") == 1
