"""The folder holds the best student, whole, and nothing of the teacher."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file
from tiny_stage import TinyStage, loader, trainer

from callbacks import LogMaskIoU, StudentArtefact


class Scripted(TinyStage):
    """Logs the given values, one per validation, and keeps the weights that were validated."""

    def __init__(self, values: list[float | None], seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.values = values
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_validation_epoch_end(self) -> None:
        value = self.values[self.current_epoch]
        self.log("val/other", 1.0)
        if value is not None:
            self.log("val/mask_iou", value)

    def validation_step(self, batch: object, batch_idx: int) -> dict:
        if batch_idx == 0:
            state = self.learner.state_dict()
            self.validated.append({name: value.clone() for name, value in state.items()})
        return super().validation_step(batch, batch_idx)


def epoch_of(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text())["epoch"]


def fit(folder: Path, stage: L.LightningModule, *callbacks: L.Callback, epochs: int, **settings: object) -> None:
    trainer(folder, *callbacks, max_epochs=epochs).fit(stage, loader(2), loader(1), **settings)


@pytest.mark.parametrize(
    ("mode", "values", "kept"),
    [
        ("max", [0.1, 0.5, 0.5, 0.3], 2),
        ("min", [0.4, 0.5, 0.2, 0.3], 2),
        ("max", [float("nan"), 0.1, float("nan")], 1),
    ],
)
def test_keeps_the_best(tmp_path: Path, mode: str, values: list, kept: int) -> None:
    stage = Scripted(values)
    fit(tmp_path, stage, StudentArtefact(mode=mode), epochs=len(values))
    assert epoch_of(tmp_path / "student") == kept
    saved = load_file(tmp_path / "student" / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in stage.validated[kept].items())
    assert set(saved) == set(stage.learner.state_dict())  # and nothing of the teacher
    assert [folder.name for folder in tmp_path.glob("student*")] == ["student"]


def test_says_what_it_is(tmp_path: Path) -> None:
    fit(tmp_path, TinyStage(), LogMaskIoU(), StudentArtefact(folder=tmp_path / "out"), epochs=1)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["stage"], config["epoch"], config["step"]) == ("TinyStage", 0, 2)
    assert 0 <= config["metrics"]["val/mask_iou"] <= 1


def test_averaged_weights_are_validated_and_saved(tmp_path: Path) -> None:
    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Scripted) -> None:
            self.trained = pl_module.learner.trunk[0].weight.detach().clone()

    stage, watch = Scripted([0.1, 0.2]), Watch()
    fit(tmp_path, stage, EMAWeightAveraging(decay=0.9), StudentArtefact(), watch, epochs=2)
    saved = load_file(tmp_path / "student" / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in stage.validated[1].items())
    # Training went on from its own weights, not from the averaged ones.
    assert (saved["trunk.0.weight"] - watch.trained).abs().max() > 1e-3


def test_training_is_the_same_with_and_without_saving(tmp_path: Path) -> None:
    ends = []
    for callbacks in ([EMAWeightAveraging(decay=0.9)], [EMAWeightAveraging(decay=0.9), StudentArtefact()]):
        stage = Scripted([0.1, 0.2, 0.3])
        fit(tmp_path, stage, *callbacks, epochs=3)
        ends.append(stage.learner.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_missing_monitor_keeps_the_latest_and_warns_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="val/mask_iou is not logged.*set monitor to one of: val/other") as record:
        fit(tmp_path, Scripted([None, None]), StudentArtefact(), epochs=2)
    assert sum("is not logged" in str(warning.message) for warning in record) == 1
    assert epoch_of(tmp_path / "student") == 1


def test_a_value_that_comes_later_is_an_improvement(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is not logged"):
        fit(tmp_path, Scripted([None, 0.2, 0.1]), StudentArtefact(), epochs=3)
    assert epoch_of(tmp_path / "student") == 1


def test_without_validation_the_last_is_written(tmp_path: Path) -> None:
    stage = TinyStage()
    trainer(tmp_path, StudentArtefact(), max_epochs=2, limit_val_batches=0).fit(stage, loader(2))
    saved = load_file(tmp_path / "student" / "model.safetensors")
    assert torch.equal(saved["trunk.0.weight"], stage.learner.trunk[0].weight)


def test_the_sanity_check_does_not_count(tmp_path: Path) -> None:
    stage = Scripted([0.1])
    trainer(tmp_path, StudentArtefact(), num_sanity_val_steps=1, max_epochs=1).fit(stage, loader(2), loader(1))
    untrained, trained = (state["trunk.0.weight"] for state in stage.validated)
    saved = load_file(tmp_path / "student" / "model.safetensors")["trunk.0.weight"]
    assert torch.equal(saved, trained)
    assert not torch.equal(saved, untrained)


def test_a_dry_run_leaves_no_files(tmp_path: Path) -> None:
    dry = trainer(tmp_path, StudentArtefact(), fast_dev_run=True, default_root_dir=tmp_path)
    dry.fit(Scripted([0.1]), loader(1), loader(1))
    assert not list(tmp_path.rglob("config.json"))


def test_only_nan_writes_nothing_and_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="val/mask_iou was NaN in every validation"):
        fit(tmp_path, Scripted([float("nan")]), StudentArtefact(), epochs=1)
    assert not (tmp_path / "student").exists()


def resume(folder: Path, values: list[float | None], into: Path, stop_after: int) -> None:
    """Fit, then resume after the given number of epochs into another folder."""
    checkpoints = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    fit(folder, Scripted(values), StudentArtefact(), checkpoints, epochs=stop_after)
    checkpoint = folder / f"epoch={stop_after - 1}.ckpt"
    fit(into, Scripted(values), StudentArtefact(), epochs=len(values), ckpt_path=checkpoint, weights_only=True)


def test_a_resumed_run_remembers_the_best(tmp_path: Path) -> None:
    resume(tmp_path / "one", [0.5, 0.4, 0.3], tmp_path / "two", stop_after=1)
    assert epoch_of(tmp_path / "two" / "student") == 0


def test_a_resumed_run_still_improves(tmp_path: Path) -> None:
    resume(tmp_path / "one", [0.5, 0.4, 0.6], tmp_path / "two", stop_after=2)
    assert epoch_of(tmp_path / "two" / "student") == 2


def test_an_interrupted_swap_is_mended(tmp_path: Path) -> None:
    (tmp_path / "student.replaced").mkdir()
    (tmp_path / "student.replaced" / "config.json").write_text('{"epoch": 7}')
    (tmp_path / "student.partial").mkdir()
    with pytest.warns(UserWarning, match="no student is written"):
        fit(tmp_path, Scripted([float("nan")]), StudentArtefact(), epochs=1)
    assert [folder.name for folder in tmp_path.glob("student*")] == ["student"]
    assert epoch_of(tmp_path / "student") == 7
