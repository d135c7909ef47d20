"""Panels of stage 3: each image with a true and a false phrase, and what was found of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_stage import CONTRACT, TinyStage, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks import MaskPanels
from callbacks.concept_rows import concept_rows
from phd.batches import ConceptBatch
from phd.outputs import ConceptPrediction, FoundInstances, PhraseTargets, StepOutput

CELL, GRID = 8, 16  # pixels of a cell, and cells of the mask grid
WIDE = replace(CONTRACT, image_size=CELL * GRID, mask_size=GRID)
PHRASES = ["red ring", "blue ring", "red star", "star"]


def squares(*places: int) -> Tensor:
    """Masks (K, m, m) of 4 x 4 cells, by their upper left corner on the diagonal."""
    masks = torch.zeros(len(places), GRID, GRID, dtype=torch.bool)
    for number, place in enumerate(places):
        masks[number, place : place + 4, place : place + 4] = True
    return masks


def batch() -> ConceptBatch:
    """Two black images of 128 x 128 and 64 x 128 pixels (height x width)."""
    return ConceptBatch(
        images=torch.zeros(2, 3, WIDE.image_size, WIDE.image_size, dtype=torch.uint8),
        content=torch.tensor([[128, 128], [64, 128]]),
        phrases=PHRASES,
        image_index=torch.tensor([0, 0, 0, 1]),
        exhaustive=torch.tensor([True, False, True, True]),
        hard=torch.zeros(4, dtype=torch.bool),
        phrase_index=torch.tensor([0, 3]),
        boxes=torch.zeros(2, 4),
        masks=torch.cat([squares(10), squares(2)]).to(torch.uint8),
        keys=["a", "b"],
    )


def found(presence: list[float], pairs: list[int], scores: list[float], masks: Tensor) -> FoundInstances:
    return FoundInstances(torch.tensor(presence), torch.tensor(pairs), torch.tensor(scores), masks)


def prediction(**changes: Any) -> ConceptPrediction:
    """The teacher finds what is there; the student misses it and finds four of the false phrase "red star"."""
    truth = PhraseTargets(
        torch.tensor([1, 0, 0, 1]),
        torch.tensor([True, False, True, True]),
        torch.zeros(2, 4),
        torch.cat([squares(10), squares(2)]),
    )
    teacher = found([0.9, 0.5, 0.1, 0.8], [0, 3], [0.75, 0.7], torch.cat([squares(10), squares(2)]))
    scores = [0.9, 0.8, 0.7, 0.6]
    student = found([0.25, 0.5, 0.95, 0.3], [2] * 4, scores, squares(10, 10, 10, 10))
    values: dict[str, Any] = {"student": student, "teacher": teacher, **changes}
    return ConceptPrediction(truth, PHRASES, torch.tensor([0, 0, 0, 1]), ["a", "b"], 0, **values)


def painted(tile: Any) -> np.ndarray:
    return np.asarray(tile).max(axis=2) > 0


def test_a_true_and_a_false_phrase() -> None:
    true, false = concept_rows(batch(), 0, prediction(), WIDE)
    assert [caption for _, caption in true] == [
        "a: red ring, 1 of them",
        "teacher: presence 0.90; 0.75",
        "student: presence 0.25; none",
    ]
    # "blue ring" is not annotated exhaustively: that it has no instance says nothing.
    assert [caption for _, caption in false] == [
        "a: red star, none",
        "teacher: presence 0.10; none",
        "student: presence 0.95; 0.90 0.80 0.70...",
    ]
    inside = (slice(CELL * 11, CELL * 13), slice(CELL * 11, CELL * 13))
    shown = [painted(picture)[inside].all() for row in (true, false) for picture, _ in row]
    assert shown == [True, True, False, False, False, True]
    empty = [not painted(picture).any() for row in (true, false) for picture, _ in row]
    assert empty == [False, False, True, True, True, False]
    assert not painted(true[1][0])[CELL * 14 :].any()  # below the instance


def test_padding_is_cut_off_and_an_image_may_have_true_phrases_only() -> None:
    (row,) = concept_rows(batch(), 1, prediction(), WIDE)
    assert row[0][1] == "b: star, 1 of them"
    assert {painted(picture).shape for picture, _ in row} == {(64, 128)}
    assert painted(row[0][0])[CELL * 3 : CELL * 5, CELL * 3 : CELL * 5].all()


def test_without_teacher() -> None:
    rows = concept_rows(batch(), 0, prediction(teacher=None), WIDE)
    assert [len(row) for row in rows] == [2, 2]
    assert rows[0][1][1].startswith("student")


class ConceptStage(TinyStage):
    """Validates on the images above."""

    def __init__(self) -> None:
        super().__init__()
        self.contract = WIDE

    def validation_step(self, batch: ConceptBatch, batch_idx: int) -> dict:  # type: ignore[override]
        loss = nn.functional.mse_loss(self.learner(batch.images), torch.zeros(2, 64, 64))
        return {"loss": loss, "output": StepOutput(loss, {}, 2, concepts=prediction())}


def test_a_run_writes_the_rows_of_each_image(tmp_path: Path) -> None:
    images = DataLoader([batch(), batch()], batch_size=None)  # type: ignore[arg-type]
    trainer(tmp_path, MaskPanels(num_images=3)).validate(ConceptStage(), images, verbose=False)
    (file,) = (tmp_path / "media").iterdir()
    width, height = Image.open(file).size
    # Truth, teacher and student; two rows of the first image, one of the second, two of the first again.
    assert (width // 256, height // 256) == (3, 5)
