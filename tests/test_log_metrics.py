"""The logged values equal those computed by hand over the same batches."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from tiny_stage import TinyBatches, TinyStage, loader, trainer
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import LogFeatureMSE, LogMaskIoU
from phd.contract import ImageFeatures, Prompts
from phd.errors import UserError
from phd.outputs import MaskPrediction, StepOutput


def masks(*rows: list[int]) -> Tensor:
    """(P, 8, 8) with the given cells of the first row set."""
    out = torch.zeros(len(rows), 8, 8, dtype=torch.uint8)
    for mask, row in zip(out, rows, strict=True):
        mask[0, : len(row)] = torch.tensor(row)
    return out


def logits(of: Tensor) -> Tensor:
    return of.float() * 2 - 1


def output(kinds: dict[str, tuple[Tensor, Tensor | None, Tensor | None]]) -> StepOutput:
    """Student's, teacher's and true masks by prompt kind."""
    predictions = {
        kind: MaskPrediction(
            prompts=Prompts(torch.zeros(len(student), dtype=torch.long)),
            student=logits(student),
            teacher=None if teacher is None else logits(teacher),
            target=target,
        )
        for kind, (student, teacher, target) in kinds.items()
    }
    return StepOutput(torch.tensor(0.0), {}, 1, masks=predictions)


class Returns(TinyStage):
    """Its validation returns one prepared output per batch."""

    def __init__(self, *outputs: StepOutput) -> None:
        super().__init__()
        self.outputs = outputs

    def validation_step(self, batch: object, batch_idx: int) -> dict:
        return {"output": self.outputs[batch_idx], "loss": torch.tensor(0.0)}


def validate(folder: Path, callback: L.Callback, *outputs: StepOutput) -> dict[str, float]:
    return trainer(folder, callback).validate(Returns(*outputs), loader(len(outputs)), verbose=False)[0]


A, B, C = [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]  # IoU: A-B 1/2, A-C 1/2, B-C 0


def test_mask_iou_by_reference_and_kind(tmp_path: Path) -> None:
    first = output({"box": (masks(A, A), masks(A, B), masks(B, B)), "point": (masks(B), masks(C), masks(B))})
    second = output({"box": (masks(B), masks(A), masks(C))})
    assert validate(tmp_path, LogMaskIoU(), first, second) == pytest.approx(
        {
            "val/mask_iou": (1 + 0.5 + 0 + 0.5) / 4,
            "val/mask_iou/teacher/box": (1 + 0.5 + 0.5) / 3,
            "val/mask_iou/teacher/point": 0,
            "val/mask_iou/ground_truth/box": (0.5 + 0.5 + 0) / 3,
            "val/mask_iou/ground_truth/point": 1,
            "val/teacher_mask_iou/ground_truth/box": (0.5 + 1 + 0.5) / 3,
            "val/teacher_mask_iou/ground_truth/point": 0,
        }
    )


def test_mask_iou_without_a_teacher_is_against_the_ground_truth(tmp_path: Path) -> None:
    values = validate(tmp_path, LogMaskIoU(), output({"box": (masks(A), None, masks(B))}))
    assert values == {"val/mask_iou": 0.5, "val/mask_iou/ground_truth/box": 0.5}


def test_reference_fixes_the_headline(tmp_path: Path) -> None:
    both = output({"box": (masks(A), masks(A), masks(B))})
    assert validate(tmp_path, LogMaskIoU("ground_truth"), both)["val/mask_iou"] == 0.5
    assert validate(tmp_path, LogMaskIoU("teacher"), both)["val/mask_iou"] == 1
    with pytest.raises(UserError, match="reference is ground_truth, but the step has no such masks"):
        validate(tmp_path, LogMaskIoU("ground_truth"), output({"box": (masks(A), masks(A), None)}))


def test_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'scribble'; add it to kinds"):
        validate(tmp_path, LogMaskIoU(), output({"scribble": (masks(A), masks(A), None)}))


def features(*levels: Tensor) -> ImageFeatures:
    return ImageFeatures({"tracker": levels})


def test_feature_mse_and_cosine_on_content_only(tmp_path: Path) -> None:
    fine, coarse = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4)
    fine[:, 0], coarse[:, 0] = 1, 1
    other_fine, other_coarse = fine.clone(), coarse.clone()
    other_fine[:, :2, :4] = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)  # content: 1 of 4 channels off by 1
    other_fine[:, :, 4:] = torch.nan  # padding
    other_coarse[:, :, :2] = torch.tensor([0.0, 2.0, 0.0, 0.0]).view(1, 4, 1, 1)  # off by 1 and 2, orthogonal
    out = output({})
    out.student_features, out.teacher_features = features(fine, coarse), features(other_fine, other_coarse)
    out.content = torch.tensor([[8, 16]])
    assert validate(tmp_path, LogFeatureMSE(), out) == pytest.approx(
        {
            "val/feature_mse": (0.25 + 1.25) / 2,
            "val/feature_mse/tracker_0": 0.25,
            "val/feature_mse/tracker_1": 1.25,
            "val/feature_cosine": 0.5**0.5 / 2,
            "val/feature_cosine/tracker_0": 0.5**0.5,
            "val/feature_cosine/tracker_1": 0,
        },
        abs=1e-6,
    )


def test_features_without_a_teacher_log_nothing(tmp_path: Path) -> None:
    out = output({})
    out.student_features = features(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4))
    assert validate(tmp_path, LogFeatureMSE(), out) == {}


def test_each_validation_starts_anew_and_the_sanity_check_logs_nothing(tmp_path: Path) -> None:
    logged: list[dict] = []

    class Watch(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: TinyStage) -> None:
            logged.append({k: float(v) for k, v in trainer.callback_metrics.items() if k == "val/mask_iou"})

    class Alternating(Returns):
        def validation_step(self, batch: object, batch_idx: int) -> dict:
            return super().validation_step(batch, self.current_epoch)

    stage = Alternating(output({"box": (masks(A), masks(B), None)}), output({"box": (masks(A), masks(A), None)}))
    run = trainer(tmp_path, LogMaskIoU(), Watch(), num_sanity_val_steps=1)
    run.fit(stage, loader(1), loader(1))
    assert logged == [{}, {"val/mask_iou": 0.5}, {"val/mask_iou": 1.0}]


def test_test_values_have_their_own_names(tmp_path: Path) -> None:
    values = trainer(tmp_path, LogMaskIoU(), LogFeatureMSE()).test(TinyStage(), loader(2), verbose=False)[0]
    assert all(name.startswith("test/") for name in values)
    assert {"test/mask_iou/teacher/box", "test/feature_mse", "test/feature_cosine/tracker_1"} <= set(values)


class Halves(TinyStage):
    """Rank 0 sees the first 3 of 4 validation batches and rank 1 the last; values go to a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def val_dataloader(self) -> DataLoader:
        batches = [TinyBatches(4)[i] for i in range(4)]
        return DataLoader(batches[:3] if self.global_rank == 0 else batches[3:], batch_size=None)

    def on_validation_end(self) -> None:
        values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        torch.save(values, f"{self.file}{self.global_rank}")


def test_two_processes_add_up_to_one(tmp_path: Path) -> None:
    alone = trainer(tmp_path, LogMaskIoU(), LogFeatureMSE()).validate(TinyStage(), loader(4), verbose=False)[0]
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    run = trainer(tmp_path, LogMaskIoU(), LogFeatureMSE(), devices=2, strategy=strategy)
    run.validate(Halves(tmp_path / "rank"), verbose=False)
    for rank in range(2):
        assert torch.load(tmp_path / f"rank{rank}") == pytest.approx(alone, abs=1e-6)
