"""cgF1, presence and their warnings, as the callback logs them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from tiny_stage import CONTRACT, TinyBatches, TinyStage, loader, trainer
from torch import Tensor

from callbacks import LogConcepts
from phd.outputs import ConceptPrediction, FoundInstances, PhraseTargets, StepOutput

GRID = 8


def squares(*places: int) -> Tensor:
    masks = torch.zeros(len(places), GRID, GRID, dtype=torch.bool)
    for number, place in enumerate(places):
        masks[number, place : place + 2, place : place + 2] = True
    return masks


def found(presence: list[float], pairs: list[int], *places: int) -> FoundInstances:
    pair = torch.tensor(pairs, dtype=torch.long)
    return FoundInstances(torch.tensor(presence), pair, torch.full((len(pairs),), 0.9), squares(*places))


def concepts(**changes: Any) -> ConceptPrediction:
    """Two instances, one found; a negative that was answered, one that was not; a phrase not annotated whole."""
    truth = PhraseTargets(
        torch.tensor([2, 0, 0, 0]), torch.tensor([True, True, True, False]), torch.zeros(2, 4), squares(0, 4)
    )
    values: dict[str, Any] = {
        "truth": truth,
        "phrases": ["ring", "star", "heart", "disk"],
        "image_index": torch.zeros(4, dtype=torch.long),
        "keys": ["a"],
        "cut": 1,
        "student": found([0.9, 0.6, 0.2, 0.7], [0, 1, 3], 0, 2, 6),
        "teacher": found([1.0, 0.0, 0.0, 0.0], [0, 0], 0, 4),
    }
    return ConceptPrediction(**{**values, **changes})


class ConceptStage(TinyStage):
    """The tiny stage, whose steps return given concepts."""

    def __init__(self, given: ConceptPrediction) -> None:
        super().__init__(teacher=False)
        self.given = given

    def step(self, batch: Any) -> StepOutput:
        return replace(super().step(batch), concepts=self.given)


def validated(folder: Path, given: ConceptPrediction) -> tuple[dict[str, float], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (values,) = trainer(folder, LogConcepts()).validate(ConceptStage(given), loader(2), verbose=False)
    return dict(values), [str(warning.message) for warning in caught if "phrase" in str(warning.message)]


def test_numbers_by_hand(tmp_path: Path) -> None:
    values, said = validated(tmp_path, concepts())
    f1 = 2 / 3  # one of two found, nothing false where something is there
    assert values["val/pmf1"] == pytest.approx(f1, abs=1e-3)
    # Of three pairs annotated whole: found, wrongly answered, rightly not answered.
    mcc = 1 / (2 * 1 * 2 * 1) ** 0.5
    assert values["val/il_mcc"] == pytest.approx(mcc, abs=1e-3)
    assert values["val/cgf1"] == pytest.approx(f1 * mcc, abs=1e-3)
    assert values["val/presence_ece"] == pytest.approx((0.1 + 0.6 + 0.2) / 3, abs=1e-6)
    assert values["val/teacher_cgf1"] == pytest.approx(1, abs=1e-3)
    assert values["val/teacher_presence_ece"] == pytest.approx(0, abs=1e-6)
    assert not any("_negatives" in name or "_cut" in name for name in values)
    assert any("2 times in validation a phrase was longer" in line for line in said)
    assert not any("absent for certain" in line for line in said)


def test_without_teacher_and_without_negatives(tmp_path: Path) -> None:
    given = concepts(teacher=None, cut=0)
    given.truth.exhaustive = torch.tensor([True, False, False, False])
    values, said = validated(tmp_path, given)
    assert values["val/cgf1"] == 0
    assert values["val/pmf1"] > 0
    assert not any("teacher" in name for name in values)
    (line,) = said
    assert line.startswith("validation data without a phrase that is absent for certain, cgF1 is 0")


def test_other_stages_log_nothing(tmp_path: Path) -> None:
    (values,) = trainer(tmp_path, LogConcepts()).validate(TinyStage(), loader(1), verbose=False)
    assert not any(name in values for name in ("val/cgf1", "val/il_mcc", "val/presence_ece"))


def fitted(folder: Path, given: ConceptPrediction, **settings: Any) -> list[str]:
    fit = trainer(folder, LogConcepts(), **{"limit_val_batches": 0, **settings})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit.fit(ConceptStage(given), loader(3))
    return [str(warning.message) for warning in caught if "phrase" in str(warning.message)]


def test_the_first_epoch_is_counted(tmp_path: Path) -> None:
    given = concepts(student=None, teacher=None)
    assert fitted(tmp_path / "a", given) == [
        "3 times in the first epoch a phrase was longer than the text encoder's context and lost its end; a longer "
        "model.text_context reads more"
    ]
    given.truth.exhaustive, given.cut = torch.tensor([True, False, False, False]), 0
    (said,) = fitted(tmp_path / "b", given)
    assert said.startswith("training data without a phrase that is absent for certain, presence is not learned")


def test_halves_add_up() -> None:
    whole, half = LogConcepts(), LogConcepts()
    module: Any = SimpleNamespace(contract=CONTRACT, device=torch.device("cpu"))
    for callback in (whole, half):
        callback.on_validation_epoch_start(L.Trainer(logger=False, barebones=True), module)
    output = replace(TinyStage().step(TinyBatches(1)[0]), concepts=concepts())
    for _ in range(2):
        whole.update(output, CONTRACT)
    half.update(output, CONTRACT)
    for name, metric in half.metrics.items():
        for state in metric._defaults:
            assert torch.allclose(2 * getattr(metric, state), getattr(whole.metrics[name], state)), (name, state)
