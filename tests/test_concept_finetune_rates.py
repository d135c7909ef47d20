"""Learning rates by part, the schedule, and what `StageFreeze` may not freeze."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_concepts import stage_of, student_with_text

from callbacks import StageFreeze
from phd.errors import UserError
from phd.stages import ConceptFinetune, PartRates
from phd.stages.concept_rates import layer_decays, parameter_groups, presence_parameters, rated_parameters
from phd.student.backbones import build_trunk
from phd.teachers import Teacher, load_teacher, new_toy

RATES = PartRates(trunk=0.5, neck=0.8, text=0.25, heads=1.0, layer_decay=0.9)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return new_toy(64)


def factors(model: Any, rates: PartRates, tracker: bool = True) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rated = [(names[id(parameter)], factor) for factor, parameter in rated_parameters(model, rates, tracker)]
    assert len(rated) == len(dict(rated))
    return dict(rated)


def test_rates_of_a_student(teacher: Teacher) -> None:
    student = student_with_text(teacher)
    found = factors(student, RATES)
    assert found["neck.fusion.laterals.0.0.weight"] == 0.5  # both branches read it
    assert found["neck.branches.tracker.0.project.weight"] == 0.5
    assert found["neck.branches.detector.0.project.weight"] == 0.8
    assert found["text.projection.weight"] == 0.25
    assert found["heads.detector_model.detr_decoder.query_embed.weight"] == 1.0
    assert not any(name.startswith(("heads.tracker_model", "heads.compressor")) for name in found)
    trunk = [found[name] for name in found if name.startswith("trunk.")]
    assert trunk == sorted(trunk)  # the nearer to the image, the slower
    assert max(trunk) == pytest.approx(0.5 * 0.9)
    assert not any("branches.tracker" in name for name in factors(student, RATES, tracker=False))
    student.requires_grad_(True)
    untrained = {name for name, _ in student.named_parameters()} - found.keys()
    elsewhere = re.compile(r"heads\.(tracker_model|compressor)\.|pixel_decoder\.(conv_layers|norms)\.2\.")
    assert all(elsewhere.search(name) for name in untrained)


def test_rates_of_a_teacher(teacher: Teacher) -> None:
    found = factors(teacher, RATES)
    layers = [f"model.detector_model.vision_encoder.backbone.layers.{n}.mlp.fc1.weight" for n in range(6)]
    assert [found[name] for name in layers] == pytest.approx([0.5 * 0.9 ** (6 - n) for n in range(6)])
    embeddings = "model.detector_model.vision_encoder.backbone.embeddings."
    assert found[embeddings + "patch_embeddings.projection.weight"] == pytest.approx(0.5 * 0.9**7)
    assert found[embeddings + "position_embeddings"] == 0.5
    assert found["model.detector_model.vision_encoder.neck.fpn_layers.2.proj1.weight"] == 0.8
    assert found["model.tracker_neck.fpn_layers.2.proj1.weight"] == 0.5
    assert not any("fpn_layers.3" in name for name in found)  # a level that no head reads


@pytest.mark.parametrize(("backbone", "blocks"), [("efficientvit_b0", 10), ("repvit_m0_9", 23), ("tinyvit_5m", 15)])
def test_blocks_of_the_trunks(backbone: str, blocks: int) -> None:
    names = [name for name, _ in build_trunk(backbone, False).named_parameters()]
    decays = layer_decays(names, 0.5)
    assert len(set(decays)) == blocks + 1  # and the stem
    assert max(decays) == 0.5
    assert decays == sorted(decays)


def test_frozen_heads_leave_presence(teacher: Teacher) -> None:
    frozen = PartRates(trunk=0.0, neck=0.0, text=0.0, heads=0.0)
    student = student_with_text(teacher)
    rated = list(rated_parameters(student, frozen, tracker=False))
    assert {factor for factor, _ in rated} == {1.0}
    assert {id(parameter) for _, parameter in rated} == {id(p) for p in presence_parameters(student)}
    assert len(rated) == 9  # a token, a norm, and a head of three layers


def test_vectors_do_not_decay() -> None:
    matrix, vector, other = (torch.nn.Parameter(torch.zeros(*shape)) for shape in ((2, 2), (2,), (3, 3)))
    groups = parameter_groups([(1.0, matrix), (1.0, vector), (0.5, other)], lr=0.2, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.2, 0.1, 1),
        (0.2, 0.0, 1),
        (0.1, 0.1, 1),
    ]


def test_settings_out_of_range() -> None:
    with pytest.raises(UserError, match=r"model\.rates\.text is -1"):
        PartRates(text=-1)
    with pytest.raises(UserError, match=r"model\.rates\.layer_decay is 0"):
        PartRates(layer_decay=0)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> ConceptFinetune:
    folder = tmp_path_factory.mktemp("reader") / "student"
    student_with_text(load_teacher(str(toy_folder)), folder)
    return stage_of(folder, toy_folder, rates=RATES, schedule="reciprocal_sqrt", lr=0.1, warmup=0.2)


def test_the_schedule_reaches_every_group(stage: ConceptFinetune) -> None:
    optimised = stage.configure_optimizers()
    optimizer, scheduler = optimised["optimizer"], optimised["lr_scheduler"]["scheduler"]
    assert {p for group in optimizer.param_groups for p in group["params"]} == {
        p for p in stage.learner.parameters() if p.requires_grad
    }
    heads = next(group for group in optimizer.param_groups if group["initial_lr"] == 0.1)
    text = next(group for group in optimizer.param_groups if group["initial_lr"] == 0.025)
    rates = []
    for _ in range(10):
        rates.append(heads["lr"])
        assert text["lr"] == pytest.approx(heads["lr"] / 4)
        optimizer.step()
        scheduler.step()
    # Two steps of warm-up, the reciprocal root of the step over 2, and two steps down to 0.
    expected = [
        0.5,
        1,
        1,
        (2 / 3) ** 0.5,
        0.5**0.5,
        (2 / 5) ** 0.5,
        (1 / 3) ** 0.5,
        (2 / 7) ** 0.5,
        0.5,
        (2 / 9) ** 0.5 / 2,
    ]
    assert rates == pytest.approx([0.1 * rate for rate in expected])


@pytest.mark.parametrize("schedule", [{"heads": 2}, {"heads.detector_model*": None}, ["heads", "neck"]])
def test_presence_trains_while_the_heads_are_frozen(schedule: Any, stage: ConceptFinetune) -> None:
    freeze = StageFreeze(schedule)
    trainer: Any = SimpleNamespace(current_epoch=0, optimizers=[], strategy=_single())
    freeze.setup(trainer, stage, "fit")
    trainer.optimizers = [stage.configure_optimizers()["optimizer"]]
    freeze.on_train_start(trainer, stage)
    freeze.on_train_epoch_start(trainer, stage)
    presence = {id(parameter) for parameter in presence_parameters(stage.learner)}
    heads = list(stage.learner.heads.detect_parameters())
    assert {id(parameter) for parameter in heads if parameter.requires_grad} == presence
    assert presence <= {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    trainer.current_epoch = 2
    freeze.on_train_epoch_start(trainer, stage)
    assert all(parameter.requires_grad for parameter in heads) == (schedule == {"heads": 2})
    for parameter in freeze._parameters:  # as it was, for the next case
        parameter.requires_grad = True


def _single() -> Any:
    from lightning.pytorch.strategies import SingleDeviceStrategy

    return SingleDeviceStrategy(torch.device("cpu"))
