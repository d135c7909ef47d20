"""`detect` of teachers and students, against the library's own forward of `Sam3Model`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from teacher_cases import assert_close, pixels, stirred
from tiny import tiny_sam, tiny_sam2
from torch import Tensor

from phd.concept_prompts import VISUAL, Exemplars, TextFeatures
from phd.contract import Detections, ImageFeatures, QueryMasks
from phd.errors import UserError
from phd.student import Student
from phd.teachers import Teacher, new_toy

SIDE = 64
PHRASES = ["red ring", "star", "a large striped blue crescent"]
# Edges in contract pixels, x and y apart; the second pair has a positive and a negative, the third one box.
BOXES = torch.tensor(
    [[[0.0] * 4] * 2, [[4.0, 10.0, 30.0, 25.0], [33.0, 2.0, 60.0, 50.0]], [[8.0, 8.0, 20.0, 40.0]] * 2]
)
LABELS = torch.tensor([[-1, -1], [1, 0], [1, -1]])
IMAGE_INDEX, TEXT_INDEX = torch.tensor([1, 0, 1]), torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return stirred(new_toy(SIDE))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pixels(2, SIDE)


@pytest.fixture(scope="module")
def features(teacher: Teacher, images: Tensor) -> ImageFeatures:
    with torch.no_grad():
        return teacher.encode(images, ("detector",))


def all_masks(answer: Detections) -> Tensor:
    assert isinstance(answer.masks, QueryMasks)
    return torch.einsum("pqc,pchw->pqhw", answer.masks.embeddings, answer.masks.pixels)


def library(teacher: Teacher, image: Tensor, phrase: str, boxes: Tensor | None, labels: Tensor | None) -> Any:
    """The library's answer to one image and one phrase; boxes are edges in pixels."""
    tokens = teacher.text.tokenizer([phrase], teacher.text.context)
    more: dict[str, Any] = {}
    if boxes is not None and labels is not None:
        centres = torch.cat([boxes[:, :2] + boxes[:, 2:], 2 * (boxes[:, 2:] - boxes[:, :2])], dim=1) / (2 * SIDE)
        more = {"input_boxes": centres[None], "input_boxes_labels": labels[None]}
    with torch.no_grad():
        detector = teacher.model.detector_model
        return detector(pixel_values=image[None], input_ids=tokens.ids, attention_mask=tokens.mask.long(), **more)


def check_equal(answer: Detections, pair: int, theirs: Any) -> None:
    cx, cy, w, h = answer.boxes[pair].unbind(-1)
    corners = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    assert answer.presence is not None
    assert answer.semantic is not None
    assert_close(answer.logits[pair], theirs.pred_logits[0])
    assert_close(corners, theirs.pred_boxes[0])
    assert_close(answer.presence[pair], theirs.presence_logits[0, 0])
    assert_close(answer.semantic[pair], theirs.semantic_seg[0])
    masks = all_masks(answer)[pair]
    assert_close(masks, theirs.pred_masks[0])
    queries = torch.arange(len(masks))
    assert_close(answer.masks_at(torch.full_like(queries, pair), queries), masks)


@torch.no_grad()
def test_text_only(teacher: Teacher, images: Tensor, features: ImageFeatures) -> None:
    answer = teacher.detect(features, teacher.encode_text(PHRASES), IMAGE_INDEX, text_index=TEXT_INDEX)
    assert answer.logits.shape == (3, 24)
    assert all_masks(answer).shape[-1] == teacher.contract.mask_size
    for pair, (image, phrase) in enumerate(zip(IMAGE_INDEX, PHRASES, strict=True)):
        check_equal(answer, pair, library(teacher, images[image], phrase, None, None))
    # Answers differ, or equality would show nothing.
    assert (answer.logits[0] - answer.logits[2]).abs().max() > 0.01
    assert answer.masks_at(torch.tensor([0, 2, 2]), torch.tensor([3, 0, 5])).shape == (3, 32, 32)


@torch.no_grad()
def test_text_and_exemplars(teacher: Teacher, images: Tensor, features: ImageFeatures) -> None:
    exemplars = Exemplars(BOXES, LABELS)
    answer = teacher.detect(features, teacher.encode_text(PHRASES), IMAGE_INDEX, exemplars, TEXT_INDEX)
    check_equal(answer, 0, library(teacher, images[1], PHRASES[0], None, None))
    check_equal(answer, 1, library(teacher, images[0], PHRASES[1], BOXES[1], LABELS[1]))
    check_equal(answer, 2, library(teacher, images[1], PHRASES[2], BOXES[2, :1], LABELS[2, :1]))
    # Where the padding lies, and what its boxes hold, does not matter.
    swapped = Exemplars(BOXES.flip(1), LABELS.flip(1))
    again = teacher.detect(features, teacher.encode_text(PHRASES), IMAGE_INDEX, swapped, TEXT_INDEX)
    assert_close(again.logits[2], answer.logits[2])
    assert_close(again.boxes[0], answer.boxes[0])


@torch.no_grad()
def test_exemplars_only(teacher: Teacher, images: Tensor, features: ImageFeatures) -> None:
    answer = teacher.detect(features, None, IMAGE_INDEX[1:], Exemplars(BOXES[1:], LABELS[1:]))
    check_equal(answer, 0, library(teacher, images[0], VISUAL, BOXES[1], LABELS[1]))
    check_equal(answer, 1, library(teacher, images[1], VISUAL, BOXES[2, :1], LABELS[2, :1]))
    positive = teacher.detect(features, None, IMAGE_INDEX[1:2], Exemplars(BOXES[1:2], LABELS[1:2].abs().clamp(min=1)))
    assert (positive.logits[0] - answer.logits[0]).abs().max() > 1e-3  # a negative box says something else


@torch.no_grad()
def test_one_text_for_all(teacher: Teacher, features: ImageFeatures) -> None:
    both = teacher.detect(features, teacher.encode_text(["star"]), torch.tensor([0, 1]))
    one = teacher.detect(
        features, teacher.encode_text(["heart", "star"]), torch.tensor([1]), text_index=torch.tensor([1])
    )
    assert_close(both.logits[1], one.logits[0])


def test_earlier_layers(teacher: Teacher, images: Tensor, features: ImageFeatures) -> None:
    text = teacher.encode_text(PHRASES)
    answer = teacher.detect(features, text, IMAGE_INDEX, auxiliary=True)
    assert teacher.detect(features, text, IMAGE_INDEX).auxiliary == []
    first, second = answer.auxiliary
    assert (first.masks, first.semantic, second.masks) == (None, None, None)
    # A model whose decoder ends after the first layer gives that layer's answer.
    short = stirred(new_toy(SIDE))
    decoder = short.model.detector_model.detr_decoder
    decoder.layers = decoder.layers[:1]
    with torch.no_grad():
        theirs = short.detect(features, short.encode_text(PHRASES), IMAGE_INDEX)
    assert_close(first.logits, theirs.logits)
    assert_close(first.boxes, theirs.boxes)
    assert_close(first.presence, theirs.presence)


def test_the_one_to_many_branch_is_the_decoder_without_self_attention(features: ImageFeatures) -> None:
    teacher = stirred(new_toy(SIDE))
    text = teacher.encode_text(PHRASES)
    usual = teacher.detect(features, text, IMAGE_INDEX, auxiliary=True, one_to_many=True)
    assert usual.one_to_many is not None
    assert (usual.one_to_many.logits - usual.logits).abs().max() > 1e-3
    assert usual.one_to_many.presence is None
    with torch.no_grad():
        for layer in teacher.model.detector_model.detr_decoder.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.self_attn.o_proj.bias.zero_()
        silent = teacher.detect(features, text, IMAGE_INDEX, auxiliary=True, one_to_many=True)
    assert silent.one_to_many is not None
    for mine, theirs in ((silent.one_to_many, silent), (silent.one_to_many.auxiliary[0], silent.auxiliary[0])):
        assert_close(mine.logits, theirs.logits)
        assert_close(mine.boxes, theirs.boxes)
    assert_close(all_masks(silent.one_to_many), all_masks(silent))
    # It does not read the self-attention at all.
    assert_close(silent.one_to_many.logits, usual.one_to_many.logits)


def total(answer: Detections) -> Tensor:
    assert answer.presence is not None
    assert answer.semantic is not None
    boxes = answer.boxes.sum() + sum(layer.boxes.sum() for layer in answer.auxiliary)
    return answer.logits.sum() + boxes + answer.presence.sum() + all_masks(answer).mean() + answer.semantic.mean()


def test_gradients_reach_every_part(images: Tensor) -> None:
    teacher = stirred(new_toy(SIDE)).train()
    with torch.inference_mode():  # a validation before: cached codes of positions must not break training
        teacher.detect(teacher.encode(images), teacher.encode_text(PHRASES), IMAGE_INDEX, Exemplars(BOXES, LABELS))
    features, text = teacher.encode(images, ("detector",)), teacher.encode_text(PHRASES)
    total(teacher.detect(features, text, IMAGE_INDEX, Exemplars(BOXES, LABELS), auxiliary=True)).backward()
    missing = [p.shape for p in teacher.heads.detect_parameters() if p.grad is None]
    assert missing == []
    rest = {id(p) for p in teacher.heads.detector_model.parameters()} - {
        id(p) for p in teacher.heads.detect_parameters()
    }
    assert len(rest) == 4  # the third upsampling stage: convolution and norm
    assert all(p.grad is not None for p in teacher.text.parameters() if p.requires_grad)
    assert all(p.grad is not None for p in teacher.trunk.parameters())
    assert teacher.model.tracker_neck.fpn_layers[0].proj1.weight.grad is None


@torch.no_grad()
def test_autocast(teacher: Teacher, images: Tensor, features: ImageFeatures) -> None:
    exact = teacher.detect(features, teacher.encode_text(PHRASES), IMAGE_INDEX, Exemplars(BOXES, LABELS))
    with torch.autocast("cpu", torch.bfloat16):
        answer = teacher.detect(
            teacher.encode(images, ("detector",)),
            teacher.encode_text(PHRASES),
            IMAGE_INDEX,
            Exemplars(BOXES, LABELS),
            auxiliary=True,
            one_to_many=True,
        )
    assert answer.presence is not None
    assert answer.logits.dtype == answer.boxes.dtype == answer.presence.dtype == torch.float32
    assert (answer.boxes - exact.boxes).abs().mean() < 0.05


def test_verbs_and_errors(teacher: Teacher, features: ImageFeatures) -> None:
    assert teacher.verbs == ("encode", "segment", "track", "detect")
    one = torch.tensor([0])
    text = teacher.encode_text(["star"])
    with pytest.raises(UserError, match="neither a phrase nor an exemplar"):
        teacher.detect(features, None, one)
    with pytest.raises(UserError, match="no detector branch"):
        teacher.detect(ImageFeatures({"tracker": features.branches["detector"]}), text, one)
    with pytest.raises(UserError, match="3 phrases for 2 pairs; give text_index"):
        teacher.detect(features, teacher.encode_text(PHRASES), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="1 pairs, but text_index or exemplars"):
        teacher.detect(features, text, one, Exemplars(BOXES, LABELS))
    for other in (tiny_sam(), tiny_sam2()):
        assert "detect" not in other.verbs
        with pytest.raises(UserError, match="does not read phrases; take a model of SAM 3"):
            other.encode_text(["star"])
        with pytest.raises(UserError, match="does not read phrases; take a model of SAM 3"):
            other.detect(features, text, one)


def student_of(teacher: Teacher, **settings: Any) -> Student:
    torch.manual_seed(0)
    return Student.create("efficientvit_b0", teacher, pretrained=False, **settings).eval()


def test_a_student_detects_with_the_teachers_heads(
    teacher: Teacher, features: ImageFeatures, images: Tensor, tmp_path: Path
) -> None:
    student = student_of(teacher, text="teacher")
    assert student.verbs == teacher.verbs
    parts = ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "dot_product_scoring")
    for part in parts:
        assert any(n.startswith(f"detector_model.{part}.") for n in student.inheritance["heads"].inherited)
    assert student.inheritance["text"].new == student.inheritance["heads"].new == []
    exemplars = Exemplars(BOXES, LABELS)
    with torch.no_grad():
        theirs = teacher.detect(features, teacher.encode_text(PHRASES), IMAGE_INDEX, exemplars)
        mine = student.detect(features, student.encode_text(PHRASES), IMAGE_INDEX, exemplars)
        assert_close(mine.logits, theirs.logits)
        assert_close(all_masks(mine), all_masks(theirs))
        own = student.encode(images, ("detector",))
        assert [tuple(level.shape[1:]) for level in own.branches["detector"]] == [
            (level.channels, level.size, level.size) for level in teacher.contract.detector
        ]
        before = student.detect(own, student.encode_text(PHRASES), IMAGE_INDEX, exemplars)
        student.save(tmp_path / "student")
        loaded = Student.from_pretrained(tmp_path / "student")
        assert loaded.verbs == student.verbs
        after = loaded.detect(loaded.encode(images), loaded.encode_text(PHRASES), IMAGE_INDEX, exemplars)
    assert torch.equal(after.logits, before.logits)


def test_a_student_without_text_says_so(teacher: Teacher, features: ImageFeatures) -> None:
    student = student_of(teacher)
    assert student.verbs == ("encode", "segment", "track")
    with pytest.raises(UserError, match="has no text encoder yet; give it one with set_text"):
        student.encode_text(["star"])
    with pytest.raises(UserError, match="has no text encoder yet"):
        student.detect(features, None, torch.tensor([0]), Exemplars(BOXES[:1], LABELS[:1]))


def test_text_features_detach(teacher: Teacher) -> None:
    text = teacher.encode_text(["star"])
    assert isinstance(text, TextFeatures)
    assert text.tokens.requires_grad
    assert not text.detach().tokens.requires_grad
    assert replace(text, cut=2).detach().cut == 2


@torch.no_grad()
def test_masks_of_some_pairs(teacher: Teacher, features: ImageFeatures) -> None:
    text = teacher.encode_text(PHRASES)
    whole = teacher.detect(features, text, IMAGE_INDEX)
    drawn = torch.zeros(len(PHRASES), dtype=torch.bool)
    drawn[1] = True
    some = teacher.detect(features, text, IMAGE_INDEX, drawn=drawn)
    assert isinstance(some.masks, QueryMasks)
    assert len(some.masks.pixels) == 1
    assert_close(some.logits, whole.logits)
    pair, query = torch.tensor([1, 1]), torch.tensor([3, 0])
    assert_close(some.masks_at(pair, query), whole.masks_at(pair, query))
    assert some.semantic is not None
    assert whole.semantic is not None
    assert_close(some.semantic[1], whole.semantic[1])
    assert (some.semantic[~drawn] == 0).all()
    # Without any, one pair's are made all the same, so that every weight has a gradient.
    none = teacher.detect(features, text, IMAGE_INDEX, drawn=torch.zeros_like(drawn))
    assert isinstance(none.masks, QueryMasks)
    assert none.masks.rows is not None
    assert none.masks.rows.tolist() == [0, *[-1] * (len(PHRASES) - 1)]
