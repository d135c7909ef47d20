"""Stage 3: what a step returns, what it trains, and what it leaves alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam, tiny_sam2
from tiny_concepts import rectangles, stage_of, student_with_text
from torch import Tensor

from phd.batches import ConceptBatch
from phd.concept_prompts import VISUAL
from phd.contract import Prompts
from phd.errors import UserError
from phd.stages import ConceptFinetune, ConceptLosses, ConceptMix, PartRates
from phd.stages.concept_answers import Answerer
from phd.stages.concept_features import feature_terms
from phd.teachers import load_teacher

LAYER = {"box_l1", "box_giou", "score"}
MASKS = {"mask_focal", "mask_dice"}
SEMANTIC = {"semantic_focal", "semantic_dice"}
TEACHER = {"teacher_presence", "teacher_score", "teacher_focal", "teacher_dice"}
LAST = {*LAYER, "presence", *MASKS, *SEMANTIC}
EARLIER = {f"{name}_auxiliary" for name in (*LAYER, "presence")}
BRANCH = {f"{name}_one_to_many" for name in LAYER | MASKS} | {f"{name}_one_to_many_auxiliary" for name in LAYER}
ALONE = ConceptMix(phrase=1.0, exemplar=0.0, both=0.0)


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Path:
    """A student with the teacher's text encoder."""
    folder = tmp_path_factory.mktemp("reader") / "student"
    student_with_text(load_teacher(str(toy_folder)), folder)
    return folder


@pytest.fixture(scope="module")
def stage(reader_folder: Path, toy_folder: Path) -> ConceptFinetune:
    stage = stage_of(reader_folder, toy_folder, prompts=ConceptMix(phrase=0.0, exemplar=0.5, both=0.5))
    stage.learner.train()
    stage.on_train_start()
    return stage


@pytest.fixture(scope="module")
def batch(stage: ConceptFinetune) -> ConceptBatch:
    return rectangles(stage.contract)


def gradients(stage: ConceptFinetune, batch: ConceptBatch) -> dict[str, Tensor]:
    stage.zero_grad(set_to_none=True)
    stage.step(batch, train=True).loss.backward()
    return {name: p.grad for name, p in stage.learner.named_parameters() if p.grad is not None}


def trained(stage: ConceptFinetune) -> set[str]:
    return {name for name, parameter in stage.learner.named_parameters() if parameter.requires_grad}


def test_a_training_step(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    before = {name: value.clone() for name, value in stage.learner.state_dict().items()}
    output = stage.step(batch, train=True)
    assert set(output.terms) == LAST | EARLIER | BRANCH | TEACHER | {"feature_mse"}
    weights, root = asdict(ConceptLosses()), len(batch.phrases) ** 0.5
    expected = 0.0
    for name, value in output.terms.items():
        plain = name.removesuffix("_auxiliary").removesuffix("_one_to_many")
        factor = 2.0 if "_one_to_many" in name else 1.0
        expected += (1.0 if name == "feature_mse" else root) * factor * weights[plain] * float(value.detach())
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert output.batch_size == 2
    # Batch norms keep their statistics, and nothing else moves in a step.
    assert all(torch.equal(before[name], value) for name, value in stage.learner.state_dict().items())
    concepts = output.concepts
    assert concepts is not None
    assert concepts.truth.counts.tolist() == [2, 0, 1, 0]
    assert concepts.truth.exhaustive.tolist() == [True, True, True, False]
    assert (concepts.phrases, concepts.keys, concepts.student) == (batch.phrases, batch.keys, None)


def test_gradients_reach_all_that_is_trained(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    found = gradients(stage, batch)
    assert found.keys() == trained(stage)
    silent = {name for name, gradient in found.items() if not gradient.any()}
    # Attention does not read the biases of keys, and nothing is taught about the next query's distance here.
    assert not {name for name in silent if not name.endswith(("k_proj.bias",))}
    assert not any(name.startswith(("heads.tracker_model", "heads.compressor")) for name in found)
    for part in ("trunk", "neck.fusion", "neck.branches.detector", "neck.branches.tracker", "text", "heads"):
        assert any(name.startswith(part) for name in found), part
    assert stage.teacher is not None
    assert all(parameter.grad is None for parameter in stage.teacher.model.parameters())


def test_validation_asks_phrases_alone(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    stage.learner.eval()
    with torch.no_grad():
        first, second = (stage.step(batch, train=False) for _ in range(2))
        answers = stage.learner.detect(
            stage.learner.encode(stage.contract.normalise(batch.images)),
            stage.learner.encode_text(batch.phrases),
            batch.image_index,
        )
    stage.learner.train()
    stage.on_train_batch_start(batch, 0)
    assert set(first.terms) == LAST | TEACHER | {"feature_mse"}
    assert {name: float(v) for name, v in first.terms.items()} == {n: float(v) for n, v in second.terms.items()}
    assert first.concepts is not None
    for found in (first.concepts.student, first.concepts.teacher):
        assert found is not None
        assert found.presence.shape == (4,)
        assert len(found.pair) == len(found.scores) == len(found.masks)
        assert (found.scores >= 0.5).all()
    assert first.concepts.student is not None
    assert answers.presence is not None
    assert torch.allclose(first.concepts.student.presence, answers.presence.sigmoid(), atol=1e-5)
    assert len(first.concepts.student.pair) == int((answers.scores >= 0.5).sum())


@pytest.mark.parametrize(
    ("rates", "parts", "branches"),
    [
        (PartRates(trunk=0.0), {"neck.branches.detector", "text", "heads"}, ("detector",)),
        (PartRates(trunk=0.0, neck=0.0, text=0.0), {"heads"}, ()),
        (PartRates(trunk=0.0, neck=0.0, heads=0.0), {"text", "heads"}, ()),
        (PartRates(neck=0.0, text=0.0), {"trunk", "neck.fusion", "neck.branches.tracker", "heads"}, None),
    ],
)
def test_frozen_parts(
    rates: PartRates,
    parts: set[str],
    branches: tuple[str, ...] | None,
    reader_folder: Path,
    toy_folder: Path,
    batch: ConceptBatch,
) -> None:
    stage = stage_of(reader_folder, toy_folder, rates=rates)
    stage.learner.train()
    stage.on_train_batch_start(batch, 0)
    names = trained(stage)
    prefixes = ("trunk", "neck.fusion", "neck.branches.tracker", "neck.branches.detector", "text", "heads")
    assert {prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)} == parts
    assert stage.branches == (("tracker", "detector") if branches is None else branches)
    found = gradients(stage, batch)
    assert found.keys() <= names
    assert any("presence_head" in name for name in found)
    if rates.heads == 0:
        assert all(".presence_" in name for name in names if name.startswith("heads"))
    assert not stage.learner.heads.tracker_model.training
    assert stage.learner.heads.detector_model.training == (rates.heads > 0)
    assert stage.learner.text.training == (rates.text > 0)  # type: ignore[attr-defined]


def test_with_a_frozen_trunk_points_answer_as_before(
    reader_folder: Path, toy_folder: Path, batch: ConceptBatch
) -> None:
    stage = stage_of(reader_folder, toy_folder, rates=PartRates(trunk=0.0))
    point = Prompts(torch.tensor([0]), points=torch.tensor([[[20.0, 30.0]]]), labels=torch.tensor([[1]]))
    pixels = stage.contract.normalise(batch.images)

    def answers() -> Tensor:
        stage.learner.eval()
        with torch.no_grad():
            return stage.learner.segment(stage.learner.encode(pixels, ("tracker",)), point).logits

    def detections() -> Tensor:
        with torch.no_grad():
            features = stage.learner.encode(pixels, ("detector",))
            return stage.learner.detect(features, stage.learner.encode_text(["red ring"]), batch.image_index).logits

    before, found = answers(), detections()
    optimizer = stage.configure_optimizers()["optimizer"]
    stage.learner.train()
    stage.on_train_batch_start(batch, 0)
    stage.step(batch, train=True).loss.backward()
    optimizer.step()
    assert torch.equal(answers(), before)
    assert not torch.allclose(detections(), found)


def test_each_distinct_phrase_is_encoded_once(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    stage.learner.eval()
    features = stage.learner.encode(stage.contract.normalise(batch.images), ("detector",))
    visual = torch.tensor([False, False, True, False])
    mine = Answerer.of(stage.learner, features, batch, visual, at_once=3)
    assert len(mine.text) == 3
    assert mine.text_index.tolist() == [0, 1, 2, 1]
    together = mine.ask(auxiliary=True, one_to_many=True)
    repeated = stage.learner.encode_text(["red ring", "blue star", VISUAL, "blue star"])
    alone = stage.learner.detect(features, repeated, batch.image_index, auxiliary=True, one_to_many=True)
    assert together.one_to_many is not None
    assert alone.one_to_many is not None
    pairs = ((together, alone), (together.auxiliary[0], alone.auxiliary[0]), (together.one_to_many, alone.one_to_many))
    for answer, expected in pairs:
        assert torch.allclose(answer.logits, expected.logits, atol=1e-5)
        assert torch.allclose(answer.boxes, expected.boxes, atol=1e-5)
    index = torch.tensor([0, 3])
    assert torch.allclose(together.masks_at(index, index), alone.masks_at(index, index), atol=1e-4)
    assert together.semantic is not None
    assert together.semantic.shape == (4, 1, 32, 32)
    # The gradient of a phrase that is asked twice is the sum of both.
    gathered = [
        torch.autograd.grad(answer.logits.square().sum(), stage.learner.text.projection.weight, retain_graph=True)[0]  # type: ignore[attr-defined]
        for answer in (together, alone)
    ]
    assert torch.allclose(*gathered, rtol=1e-3, atol=1e-6 * float(gathered[1].abs().max()))
    stage.learner.train()
    stage.on_train_batch_start(batch, 0)


def test_recomputed_answers_have_the_same_gradients(reader_folder: Path, toy_folder: Path, batch: ConceptBatch) -> None:
    found = []
    for recompute in (False, True):
        stage = stage_of(reader_folder, toy_folder, prompts=ALONE, gradient_checkpointing=recompute, pairs_at_once=3)
        stage.learner.eval()
        found.append(gradients(stage, batch))
    assert found[0].keys() == found[1].keys()
    size = torch.stack([gradient.norm() for gradient in found[0].values()]).max()
    for name, gradient in found[0].items():
        assert (gradient - found[1][name]).norm() < 1e-3 * gradient.norm() + 1e-6 * size, name


def test_feature_terms_by_hand(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    assert stage.teacher is not None
    stage.learner.eval()
    pixels = stage.contract.normalise(batch.images)
    with torch.no_grad():
        mine, theirs = stage.learner.encode(pixels), stage.teacher.model.encode(pixels)
        losses = ConceptLosses(feature_mse=1.0, feature_relative_mse=1.0)
        found = feature_terms(mine, theirs, ("tracker", "detector"), batch.content, stage.contract, losses)
    pairs = [pair for name in ("tracker", "detector") for pair in zip(mine.branches[name], theirs.branches[name])]  # noqa: B905
    squared = [float((m - t).square().mean()) for m, t in pairs]
    power = [float(t.square().mean()) for _, t in pairs]
    assert float(found["feature_mse"]) == pytest.approx(sum(squared) / 6, rel=1e-4)
    relative = sum(a / b for a, b in zip(squared, power, strict=True)) / 6
    assert float(found["feature_relative_mse"]) == pytest.approx(relative, rel=1e-4)
    stage.learner.train()
    stage.on_train_batch_start(batch, 0)


@pytest.mark.parametrize("empty", [((), ()), ((0,), ())])
def test_batches_without_instances(empty: Any, stage: ConceptFinetune) -> None:
    batch = rectangles(stage.contract, empty)
    output = stage.step(batch, train=True)
    assert output.terms.keys() == stage.step(rectangles(stage.contract), train=True).terms.keys()
    assert all(torch.isfinite(value) for value in output.terms.values())
    output.loss.backward()


def test_without_a_phrase_nothing_moves(reader_folder: Path) -> None:
    stage = stage_of(reader_folder, supervision="ground_truth")
    found = gradients(stage, rectangles(stage.contract, ((),)))
    assert len(found) == 1
    assert not any(gradient.any() for gradient in found.values())


def test_an_empty_phrase_names_its_sample(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    for empty in ("", "  ", "?!"):
        phrases = [*batch.phrases[:3], empty]
        with pytest.raises(UserError, match="sample image1: its phrase"):
            stage.step(replace(batch, phrases=phrases), train=True)


def test_long_phrases_are_counted(stage: ConceptFinetune, batch: ConceptBatch) -> None:
    phrases = ["red " * 20 + "ring", "star", "blue " * 30, "star"]
    concepts = stage.step(replace(batch, phrases=phrases), train=False).concepts
    assert concepts is not None
    assert concepts.cut == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "model.init_from: empty"),
        ({"segmenter": "toy-random"}, "model.teacher: empty, but model.supervision is 'both'"),
        (
            {"segmenter": "toy-random", "supervision": "ground_truth", "losses": ConceptLosses()},
            r"model\.losses\.feature_mse or losses\.feature_relative_mse",
        ),
        ({"segmenter": "toy-random", "supervision": "ground_truth", "text": "mobileclip_s0"}, "only a student can"),
        ({"segmenter": "toy-random", "supervision": "ground_truth", "pairs_at_once": 0}, "model.pairs_at_once is 0"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ConceptFinetune(**settings)


def test_a_model_without_detector_is_refused(tmp_path: Path, student_folder: Path, toy_folder: Path) -> None:
    for name, teacher in (("sam", tiny_sam()), ("sam2", tiny_sam2())):
        teacher.save(tmp_path / name)
        with pytest.raises(UserError, match="reads no phrases; take a SAM 3"):
            ConceptFinetune(segmenter=str(tmp_path / name), supervision="ground_truth")
    with pytest.raises(UserError, match=r"model\.text: empty, but .* reads no phrases yet"):
        stage_of(student_folder, toy_folder)
