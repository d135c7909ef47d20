"""Training from a cache: the same as with the live teacher, without its trunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cached import Counting, build, builder, silent

from datamodules import SA1B
from datamodules.transforms import Augmentation
from phd.errors import UserError
from phd.stages import EncoderDistill, Phase
from phd.stages.encoder_distill import Losses
from phd.teachers import Teacher, load_teacher, new_toy

STEPS = 3
PHASE = Phase(feature_relative_mse=1.0, feature_cosine=1.0, dice=1.0)
QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_model_summary", "enable_progress_bar"], False)


@pytest.fixture(scope="module")
def teacher(toy_folder: Path) -> Teacher:
    return load_teacher(str(toy_folder))


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, teacher: Teacher) -> Path:
    """One of each type."""
    folder = tmp_path_factory.mktemp("caches")
    for dtype in ("int8", "fp16"):
        build(toy_shards, folder / dtype, teacher, dtype)
    return folder


class Watch(L.Callback):
    """The terms of each step, and how often the teacher's trunk ran."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []
        self.calls = 0
        self.start = torch.empty(0)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.start = weights(pl_module)

        def count(*_: object) -> None:
            self.calls += 1

        pl_module.teacher.model.trunk.register_forward_pre_hook(count)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *_: object) -> None:
        self.terms.append({name: float(value) for name, value in outputs["output"].terms.items()})


def weights(stage: EncoderDistill) -> torch.Tensor:
    """All trained weights in a row."""
    return torch.cat([value.detach().flatten() for value in stage.learner.parameters() if value.requires_grad])


def fit(shards: Path, source: Path, **data: Any) -> tuple[Watch, EncoderDistill]:
    """A few steps and a validation, all seeds fixed."""
    L.seed_everything(0, verbose=False)
    stage = EncoderDistill(teacher=str(source), pretrained=False, losses=Losses([PHASE]))
    watch = Watch()
    settings = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": STEPS, "limit_val_batches": 1}
    trainer = L.Trainer(callbacks=[watch], num_sanity_val_steps=0, use_distributed_sampler=False, **settings, **QUIET)
    trainer.fit(stage, datamodule=SA1B(str(shards), **{"val_samples": 2, "batch_size": 2, **data}))
    return watch, stage


@pytest.fixture(scope="module")
def straight(toy_shards: Path, toy_folder: Path) -> tuple[Watch, EncoderDistill]:
    """Training with the live teacher."""
    return fit(toy_shards, toy_folder)


@pytest.mark.parametrize(("dtype", "first", "later", "apart"), [("fp16", 1e-5, 1e-3, 0.05), ("int8", 2e-3, 1e-2, 0.3)])
def test_a_cache_trains_as_the_live_teacher(
    dtype: str,
    first: float,
    later: float,
    apart: float,
    straight: tuple,
    caches: Path,
    toy_shards: Path,
    toy_folder: Path,
) -> None:
    live, reference = straight
    assert live.calls == STEPS + 1  # the validation too
    watch, stage = fit(toy_shards, toy_folder, cache=str(caches / dtype))
    assert watch.calls == 0
    assert len(watch.terms) == STEPS
    for step, (mine, theirs) in enumerate(zip(watch.terms, live.terms, strict=True)):
        assert mine.keys() == theirs.keys() == {"feature_relative_mse", "feature_cosine", "dice"}
        assert mine == pytest.approx(theirs, rel=later if step else first)
    assert [step["feature_cosine"] for step in watch.terms] != [step["feature_cosine"] for step in live.terms]
    # AdamW moves a weight by its full rate however small the gradient is, so near zero a sign may differ.
    way, between = weights(reference) - live.start, weights(stage) - weights(reference)
    assert 0 < between.norm() / way.norm() < apart


def test_the_neck_makes_the_features_of_the_cache(caches: Path, toy_shards: Path, teacher: Teacher) -> None:
    data = SA1B(str(toy_shards), cache=str(caches / "int8"), contract=teacher.contract, batch_size=4, val_samples=4)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    with torch.no_grad():
        live = teacher.encode(teacher.contract.normalise(batch.images, batch.content))
        cached = teacher.neck(batch.cached.dequantised())
    assert live.branches.keys() == cached.keys() == {"tracker", "detector"}
    for branch, levels in live.branches.items():
        for mine, theirs in zip(cached[branch], levels, strict=True):
            error = (mine - theirs).square().mean() / theirs.square().mean()
            assert 0 < error < 5e-4


def test_the_student_sees_other_colours_and_the_teacher_does_not(
    caches: Path, toy_shards: Path, toy_folder: Path, straight: tuple
) -> None:
    colours = Augmentation(horizontal_flip=0, crop_probability=0, brightness=0.5)
    watch, _ = fit(toy_shards, toy_folder, cache=str(caches / "int8"), augmentation=colours)
    assert watch.calls == 0
    assert watch.terms[0]["feature_cosine"] != pytest.approx(straight[0].terms[0]["feature_cosine"], rel=1e-3)


def test_a_missing_shard_falls_back_to_the_live_teacher(
    tmp_path: Path, toy_shards: Path, toy_folder: Path, teacher: Teacher, straight: tuple
) -> None:
    partial = tmp_path / "partial"
    with pytest.raises(KeyboardInterrupt):
        builder(toy_shards, partial, teacher, "fp16").run(Counting(teacher, stop_after=16), 8, 1, silent)
    watch, _ = fit(toy_shards, toy_folder, cache=str(partial), cache_missing="live")
    assert 0 < watch.calls < STEPS + 1
    for mine, theirs in zip(watch.terms, straight[0].terms, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_a_cache_of_another_teacher(tmp_path: Path, toy_shards: Path, caches: Path) -> None:
    new_toy(64, seed=1).save(tmp_path / "other")
    with pytest.raises(UserError, match=r"made by another teacher, .*, than the run's, .*other with weights \w{12}"):
        fit(toy_shards, tmp_path / "other", cache=str(caches / "int8"))


def test_a_cache_without_a_teacher(toy_shards: Path, toy_folder: Path, caches: Path) -> None:
    stage = EncoderDistill(
        segmenter=str(toy_folder), supervision="ground_truth", losses=Losses([Phase(dice=1.0)]), train_heads=True
    )
    data = SA1B(str(toy_shards), cache=str(caches / "int8"), val_samples=2, batch_size=2)
    trainer = L.Trainer(accelerator="cpu", max_steps=1, use_distributed_sampler=False, **QUIET)
    with pytest.raises(UserError, match=r"data\.cache is set, but model\.teacher is empty"):
        trainer.fit(stage, datamodule=data)
