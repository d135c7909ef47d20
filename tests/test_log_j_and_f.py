"""J and F in validation, and the schedule of clip lengths."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_clips import clip_shards
from tiny_stage import CONTRACT

from callbacks import ClipLength, LogJAndF
from callbacks.log_j_and_f import scores
from datamodules import Clips
from phd.errors import UserError
from phd.outputs import ClipPrediction, StepOutput


def clip() -> ClipPrediction:
    """Two objects in three frames of 16 x 16: the first found rightly, the second one cell off in frame 2."""
    target = torch.zeros(3, 2, 16, 16, dtype=torch.bool)
    target[:, 0, 2:6, 2:6] = True
    target[:2, 1, 10:12, 10:12] = True
    target[2, 1, 10:12, 9:11] = True
    student = torch.where(target, 5.0, -5.0)
    student[2, 1] = student[1, 1]
    labelled = torch.ones(3, 2, dtype=torch.bool)
    void = torch.zeros(3, 2, 16, 16, dtype=torch.bool)
    return ClipPrediction(student, None, target, labelled, void, torch.tensor([0, 0]), ["a"])


def test_scores_by_hand() -> None:
    first, second = scores(clip().student, clip())
    assert first == ([1.0, 1.0], [1.0, 1.0])  # the given frame does not count
    assert second[0] == [1.0, pytest.approx(2 / 6)]
    assert second[1][0] == 1.0
    assert second[1][1] == 1.0  # a boundary of one cell off is within the tolerance of 1 cell


def test_void_and_frames_without_ground_truth() -> None:
    case = clip()
    case.void[2, 1, 10:12, 9] = case.void[2, 1, 10:12, 11] = True
    assert scores(case.student, case)[1][0] == [1.0, 1.0]
    case = clip()
    case.labelled[2, 1] = False
    assert [len(j) for j, _ in scores(case.student, case)] == [2, 1]
    case.labelled[1, 1] = False
    assert len(scores(case.student, case)) == 1  # nothing to score of the second object


def test_what_is_logged() -> None:
    callback = LogJAndF()
    callback.metrics, callback.tokens = callback.build(CONTRACT), 7
    case = clip()
    case.teacher = torch.where(case.target, 5.0, -5.0)
    callback.update(StepOutput(torch.tensor(0.0), {}, 3), CONTRACT)  # a batch without objects
    callback.update(StepOutput(torch.tensor(0.0), {}, 3, clip=case), CONTRACT)
    values = {name: metric.compute() for name, metric in callback.metrics.items()}
    logged = {name: float(value) for name, value in callback.summarise(values).items()}
    assert logged == {
        "j": pytest.approx((1 + 2 / 3) / 2),
        "f": 1.0,
        "jf": pytest.approx(((1 + 2 / 3) / 2 + 1) / 2),
        "teacher_j": 1.0,
        "teacher_f": 1.0,
        "teacher_jf": 1.0,
        "memory_tokens": 7.0,
    }
    assert callback.summarise({}) == {}


def test_clips_grow(tmp_path: Path) -> None:
    data = Clips(str(clip_shards(tmp_path / "shards", videos=4)), clip_length=2, val_samples=1, contract=CONTRACT)
    data.setup("fit")
    ClipLength({1: 3, 2: 4}).setup(SimpleNamespace(datamodule=data), SimpleNamespace(), "fit")  # type: ignore[arg-type]
    lengths = []
    for epoch in range(4):
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        lengths.append({batch.frames.shape[1] for batch in loader})
    assert lengths == [{2}, {3}, {4}, {4}]
    assert next(iter(data.val_dataloader())).frames.shape[1] == 2


def test_lengths_out_of_range() -> None:
    with pytest.raises(UserError, match="lengths has 0: 0"):
        ClipLength({0: 0})
    with pytest.raises(UserError, match="no clips"):
        ClipLength({0: 8}).setup(SimpleNamespace(datamodule=None), SimpleNamespace(), "fit")  # type: ignore[arg-type]
