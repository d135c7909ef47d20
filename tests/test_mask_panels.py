"""The panels show each image with its own prompt and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from tiny_stage import CONTRACT, TinyBatches, TinyStage, loader, trainer

from callbacks import MaskPanels
from callbacks.mask_panels import draw_row
from phd.batches import ImageBatch
from phd.contract import Prompts
from phd.outputs import MaskPrediction


def batch() -> ImageBatch:
    out = TinyBatches(1)[0]
    out.images.zero_()
    return out


def prediction(image_index: list[int]) -> MaskPrediction:
    """Student: the left half; teacher: the right half; ground truth: everything."""
    count = len(image_index)
    student = torch.full((count, 8, 8), -1.0)
    student[:, :, :4] = 1
    points = torch.tensor([[[4.0, 4.0], [12.0, 4.0], [0.0, 0.0]]] * count)
    prompts = Prompts(torch.tensor(image_index), points=points, labels=torch.tensor([[1, 0, -1]] * count))
    return MaskPrediction(prompts, student, -student, torch.ones(count, 8, 8, dtype=torch.uint8))


def test_a_row_shows_prompt_teacher_student_truth() -> None:
    row = draw_row(batch(), 0, "point", prediction([0, 0, 1]), CONTRACT)
    assert [caption for _, caption in row] == [
        "a0: point",
        "teacher",
        "student, IoU 0.00 (teacher), IoU 0.50 (ground truth)",
        "ground truth",
    ]
    prompt, teacher, student, truth = (np.array(picture) for picture, _ in row)
    assert prompt[4, 4].tolist() == [0, 200, 0]  # Pillow (x 4, y 4): positive
    assert prompt[4, 12].tolist() == [220, 0, 0]
    assert prompt[0, 0].sum() == 0  # padding is no point
    assert (student.sum(axis=2) > 0).tolist() == [[True] * 8 + [False] * 8] * 16
    assert (teacher.sum(axis=2) > 0).tolist() == [[False] * 8 + [True] * 8] * 16
    assert (truth.sum(axis=2) > 0).all()


def test_padding_is_cut_off() -> None:
    row = draw_row(batch(), 1, "point", prediction([1]), CONTRACT)
    assert {picture.size for picture, _ in row} == {(16, 8)}


def test_an_image_without_a_prompt_has_no_row() -> None:
    assert draw_row(batch(), 1, "point", prediction([0]), CONTRACT) == []


def test_missing_references_are_left_out() -> None:
    alone = prediction([0])
    alone.teacher = alone.target = None
    assert [caption for _, caption in draw_row(batch(), 0, "box", alone, CONTRACT)] == ["a0: box", "student"]


def test_writes_every_nth_epoch(tmp_path: Path) -> None:
    run = trainer(tmp_path, MaskPanels(num_images=3, every_n_epochs=2), max_epochs=3, num_sanity_val_steps=1)
    run.fit(TinyStage(), loader(1), loader(2))
    files = sorted((tmp_path / "media").iterdir())
    assert [file.name for file in files] == ["epoch_000.jpg", "epoch_002.jpg"]
    # Four tiles wide, three rows high; a tile is 256 px, its caption and the gaps are less than 40.
    width, height = Image.open(files[0]).size
    assert (width // 256, height // 256) == (4, 3)


def test_fast_dev_run_leaves_no_files(tmp_path: Path) -> None:
    trainer(tmp_path, MaskPanels(), fast_dev_run=True, default_root_dir=tmp_path).fit(TinyStage(), loader(1), loader(1))
    assert list(tmp_path.rglob("*.jpg")) == []


def test_goes_to_wandb_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    seen: list[tuple] = []
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, key, images, step: seen.append((key, images, step)))
    loggers = [CSVLogger(tmp_path, name="", version=""), WandbLogger(save_dir=tmp_path)]
    trainer(tmp_path, MaskPanels(), max_epochs=1, logger=loggers).fit(TinyStage(), loader(2), loader(1))
    assert [(key, step) for key, _, step in seen] == [("val/panels", 2)]
    assert (tmp_path / "media" / "epoch_000.jpg").exists()
