"""The start of the embedded teacher's detector: spread, of size 1, and able to learn."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tiny_concepts import rectangles, stage_of
from torch import Tensor

from phd.contract import Detections
from phd.stages import ConceptLosses, ConceptMix, PartRates
from phd.stages.concept_rates import parameter_groups
from phd.teachers import Teacher, load_teacher
from phd.teachers.toy_detector import settle_detector, spread_boxes

PHRASES = ["red ring", "blue star", "heart", "green striped arrow"]


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 64, 64, generator=generator)


@pytest.fixture(scope="module")
def teacher(images: Tensor) -> Teacher:
    teacher = load_teacher("toy-teacher", 64).eval()
    settle_detector(teacher, images, PHRASES)
    return teacher


@torch.no_grad()
def answers(teacher: Teacher, images: Tensor) -> Detections:
    pairs = torch.arange(len(PHRASES))
    features = teacher.encode(images, ("detector",))
    return teacher.detect(features, teacher.encode_text(PHRASES), pairs % 2, text_index=pairs, auxiliary=True)


def test_references_fill_the_image() -> None:
    boxes = spread_boxes(24)
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    assert (low >= 0).all()
    assert (high <= 1).all()
    distances = torch.cdist(boxes[:, :2], boxes[:, :2]) + torch.eye(24)
    assert distances.min() > 0.05
    quadrants = (boxes[:, :2] > 0.5).long() @ torch.tensor([1, 2])
    assert torch.bincount(quadrants, minlength=4).min() >= 4


def test_boxes_start_at_their_references(teacher: Teacher, images: Tensor) -> None:
    answer = answers(teacher, images)
    for layer in (answer, *answer.auxiliary):
        assert torch.allclose(layer.boxes, spread_boxes(24).expand_as(layer.boxes), atol=1e-5)


def test_everything_starts_at_size_one(teacher: Teacher, images: Tensor) -> None:
    for level in teacher.encode(images, ("detector",)).branches["detector"]:
        assert level.std().item() == pytest.approx(1, abs=0.01)
        assert level.mean((0, 2, 3)).abs().max() < 1e-3
    answer = answers(teacher, images)
    assert answer.logits.std().item() == pytest.approx(1, abs=0.05)
    queries = torch.arange(24)
    masks = torch.cat([answer.masks_at(torch.full_like(queries, pair), queries) for pair in range(len(PHRASES))])
    assert masks.std().item() == pytest.approx(1, abs=0.05)


def test_a_query_looks_at_its_own_box(teacher: Teacher) -> None:
    decoder = teacher.heads.detector_model["detr_decoder"]
    box = torch.tensor([[[0.25, 0.5, 0.25, 0.25]]])
    bias = decoder._get_rpb_matrix(box, (torch.tensor(8), torch.tensor(8)))[0, 0, 0].view(8, 8)
    assert bias[4, 2] > bias[4, 6] + 2  # inside, and far to the right
    assert bias[4, 2] > bias[0, 2] + 1
    wide = decoder._get_rpb_matrix(box, (torch.tensor(8), torch.tensor(8)))[0, 3, 0]
    assert wide.std() < bias.std()


def test_the_tracker_is_left_alone(teacher: Teacher) -> None:
    before = load_teacher("toy-teacher", 64).model.state_dict()
    after = teacher.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    parts = ("vision_encoder.neck", "text_encoder.text_model.embeddings", "detr_decoder", "mask_decoder", "dot_product")
    assert all(name.startswith("detector_model.") and any(part in name for part in parts) for name in changed)


@pytest.mark.parametrize("masks", [0.0, 1.0])
def test_masks_are_drawn_for_their_terms_alone(teacher: Teacher, tmp_path: Path, masks: float) -> None:
    teacher.save(tmp_path / "toy")
    weights = dict.fromkeys(("mask_focal", "semantic_focal", "semantic_dice", "feature_mse", "one_to_many"), 0.0)
    losses = ConceptLosses(**weights, mask_dice=masks)
    stage = stage_of(segmenter=str(tmp_path / "toy"), supervision="ground_truth", losses=losses)
    batch = rectangles(stage.contract, counts=((2, 0), (1, 0), (1, 1)))
    with patch.object(stage.learner, "detect", wraps=stage.learner.detect) as detect:
        output = stage.step(batch, train=True)
    drawn = detect.call_args.args[-1]
    assert drawn.tolist() == [bool(masks and there) for there in (1, 0, 1, 0, 1, 1)]
    assert ("mask_dice" in output.terms) == bool(masks)
    output.loss.backward()


@pytest.mark.slow
def test_it_learns_a_batch(teacher: Teacher, tmp_path: Path) -> None:
    """From where it starts, boxes leave their references within some steps; the loss goes with them."""
    teacher.save(tmp_path / "toy")
    stage = stage_of(
        segmenter=str(tmp_path / "toy"),
        supervision="ground_truth",
        rates=PartRates(trunk=0.0, neck=0.3, text=1.0),
        prompts=ConceptMix(phrase=1.0, exemplar=0.0, both=0.0),
        losses=ConceptLosses(feature_mse=0.0, one_to_many=0.0, auxiliary_matches=3),
    )
    stage.learner.eval()
    batch = rectangles(stage.contract)
    optimizer = torch.optim.AdamW(parameter_groups(stage._rated(), 5e-4, 0.0))
    seen = []
    for _ in range(30):
        output = stage.step(batch, train=True)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        seen.append({name: float(value.detach()) for name, value in output.terms.items()})
    for name, share in (("box_l1", 0.7), ("mask_dice", 0.7), ("presence", 0.3)):
        assert seen[-1][name] < share * seen[0][name], name
