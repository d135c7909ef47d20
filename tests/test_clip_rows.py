"""Film strips of the clips of a validation: each clip with its own objects, padding cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_stage import CONTRACT, TinyStage, trainer
from torch import nn
from torch.utils.data import DataLoader

from callbacks import MaskPanels
from callbacks.clip_rows import clip_rows
from phd.batches import ClipBatch
from phd.outputs import ClipPrediction, StepOutput

FRAMES = 3


def batch() -> ClipBatch:
    """Two black clips of 16 x 16 and 8 x 16 pixels (height x width)."""
    side, grid = CONTRACT.image_size, CONTRACT.mask_size
    return ClipBatch(
        frames=torch.zeros(2, FRAMES, 3, side, side, dtype=torch.uint8),
        content=torch.tensor([[16, 16], [8, 16]]),
        masks=torch.zeros(2, FRAMES, 1, grid, grid, dtype=torch.uint8),
        labelled=torch.ones(2, FRAMES, dtype=torch.bool),
        valid=torch.ones(2, 1, dtype=torch.bool),
        void=torch.zeros(2, FRAMES, grid, grid, dtype=torch.bool),
        numbers=torch.tensor([[0, 4, 8]] * 2),
        keys=["a", "b"],
    )


def prediction(clips: list[int]) -> ClipPrediction:
    """The truth is the left half of the grid, the student has the upper left quarter, the teacher everything."""
    grid, count = CONTRACT.mask_size, len(clips)
    target = torch.zeros(FRAMES, count, grid, grid, dtype=torch.bool)
    target[..., :4] = True
    student = torch.full((FRAMES, count, grid, grid), -1.0)
    student[..., :4, :4] = 1
    return ClipPrediction(
        student,
        torch.ones_like(student),
        target,
        torch.ones(FRAMES, count, dtype=torch.bool),
        torch.zeros_like(target),
        torch.tensor(clips),
        ["a", "b"],
    )


def painted(tile: object) -> np.ndarray:
    return np.asarray(tile).any(axis=2)


def test_rows_of_a_clip() -> None:
    rows = clip_rows(batch(), 0, prediction([0, 1]))
    assert [[caption for _, caption in row] for row in rows] == [
        ["a: frame 0", "a: frame 4", "a: frame 8"],
        ["teacher, J 0.50"] * 3,
        ["student, J 0.50"] * 3,
    ]
    truth, teacher, student = (painted(row[0][0]) for row in rows)
    assert truth[:, :8].all()
    assert not truth[:, 8:].any()
    assert teacher.all()
    assert student[:8, :8].all()
    assert not student[9:].any()


def test_padding_is_cut_off() -> None:
    rows = clip_rows(batch(), 1, prediction([0, 1]))
    assert {painted(picture).shape for row in rows for picture, _ in row} == {(8, 16)}
    assert rows[0][0][1] == "b: frame 0"


def test_void_cells_count_neither_way() -> None:
    found = prediction([0])
    found.void[..., 4:, :] = True  # the lower half, which the student misses
    rows = clip_rows(batch(), 0, found)
    assert rows[2][0][1] == "student, J 1.00"


def test_a_clip_without_objects_has_no_rows() -> None:
    assert clip_rows(batch(), 1, prediction([0])) == []


def test_frames_without_truth_are_not_compared() -> None:
    found = prediction([0])
    found.labelled[1] = False
    rows = clip_rows(batch(), 0, found)
    assert [caption for _, caption in rows[2]] == ["student, J 0.50", "student", "student, J 0.50"]


def test_no_more_columns_than_asked() -> None:
    rows = clip_rows(batch(), 0, prediction([0]), columns=2)
    assert [caption for _, caption in rows[0]] == ["a: frame 0", "a: frame 8"]


class ClipStage(TinyStage):
    """Validates on the clips above."""

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> dict:
        loss = nn.functional.mse_loss(self.learner(batch.frames[:, 0]), batch.masks[:, 0, 0].float())
        return {"loss": loss, "output": StepOutput(loss, {}, 1, clip=prediction([0, 1]))}


def test_a_run_writes_three_rows_for_each_clip(tmp_path: Path) -> None:
    clips = DataLoader([batch(), batch()], batch_size=None)
    run = trainer(tmp_path, MaskPanels(num_images=3))
    run.validate(ClipStage(), clips, verbose=False)
    (file,) = (tmp_path / "media").iterdir()
    width, height = Image.open(file).size
    assert (width // 256, height // 256) == (FRAMES, 3 * 3)
