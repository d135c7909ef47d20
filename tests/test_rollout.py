"""Rollouts: equal to streaming, differentiable through time, guided by other masks where asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from teacher_cases import stirred
from tiny_clips import MEMORY, squares, tiny_student, tiny_teacher
from torch import Tensor

from phd.batches import ClipBatch
from phd.contract import ImageFeatures, ObjectPrompt
from phd.heads.memory.rules import RULES, TrackRules
from phd.heads.memory.tokens import MemoryTokens
from phd.stages.clip_objects import ClipObjects
from phd.stages.clip_prompts import ClipMix, ClipPlan, first_prompts
from phd.stages.rollout import Rollout, roll_out, upsampled
from phd.student import Student

FRAMES = 4
MASK = ClipPlan("mask")


@pytest.fixture(scope="module")
def student() -> Student:
    teacher = stirred(tiny_teacher())
    student = tiny_student(teacher).eval()
    with torch.no_grad():  # objects are there, and all memories matter
        student.heads.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    return student


@pytest.fixture(scope="module")
def batch(student: Student) -> ClipBatch:
    return squares(student.contract, (2, 1), FRAMES)


@pytest.fixture(scope="module")
def features(student: Student, batch: ClipBatch) -> ImageFeatures:
    with torch.no_grad():
        return student.encode(student.contract.normalise(batch.frames.flatten(0, 1)), ("tracker",))


def run(student: Student, features: ImageFeatures, batch: ClipBatch, plan: ClipPlan = MASK, **settings: Any) -> Rollout:
    objects = ClipObjects.of(batch, student.contract)
    first = None
    if plan.kind != "mask":
        first = first_prompts(plan.kind, ClipMix(), objects.target[0], student.contract.image_size, None)
    generator = torch.Generator().manual_seed(0)
    size = student.contract.image_size
    return roll_out(student.heads, features, objects, plan, first, image_size=size, generator=generator, **settings)


def test_objects_of_a_batch(student: Student, batch: ClipBatch) -> None:
    objects = ClipObjects.of(batch, student.contract)
    assert objects.clip_index.tolist() == [0, 0, 1]
    assert objects.target.shape == (FRAMES, 3, student.contract.mask_size, student.contract.mask_size)
    assert torch.equal(objects.target[2, 2], batch.masks[1, 2, 0].float())
    assert not objects.void.any()
    labels = batch.labelled.clone()
    labels[1, 3] = False
    assert ClipObjects.of(replace(batch, labelled=labels), student.contract).labelled[3].tolist() == [True, True, False]


ALWAYS_EXCHANGED = TrackRules(exclusive=True, exchange_ratio=9.0)


@pytest.mark.parametrize("rules", [*RULES.values(), ALWAYS_EXCHANGED], ids=[*RULES, "exchanged"])
@pytest.mark.parametrize("kind", ["mask", "box", "point"])
def test_a_rollout_is_what_streaming_answers(
    kind: Any, rules: TrackRules, student: Student, features: ImageFeatures, batch: ClipBatch
) -> None:
    size = student.contract.image_size
    objects = ClipObjects.of(batch, student.contract)
    with torch.no_grad():
        rollout = run(student, features, batch, ClipPlan(kind), binary=True, rules=rules)
    # Objects that another one hides are not remembered.
    assert any(bool((answer.object_logits < 0).any()) for answer in rollout.final) == rules.exclusive
    for clip, ids in ((0, [0, 1]), (1, [2])):
        asked = {}
        for number in ids:
            mask = objects.target[0, number]
            given = None if kind == "mask" else first_prompts(kind, ClipMix(), mask[None], size, None)
            asked[number] = ObjectPrompt(
                points=None if given is None or given.points is None else given.points[0],
                labels=None if given is None or given.labels is None else given.labels[0],
                box=None if given is None or given.boxes is None else given.boxes[0],
                mask=upsampled(mask[None], size)[0] if given is None else None,
            )
        state = None
        for frame in range(FRAMES):
            levels = tuple(level[clip * FRAMES + frame][None] for level in features.tracker)
            with torch.no_grad():
                now = asked if frame == 0 else None
                state = student.track(ImageFeatures({"tracker": levels}), state, now, rules)
            assert state.answer is not None
            torch.testing.assert_close(rollout.final[frame].masks[ids], state.answer.masks, atol=1e-4, rtol=1e-4)
    assert len(rollout.answers) == FRAMES
    assert [answer.decoded for answer in rollout.answers] == [kind != "mask", True, True, True]


def latents_gradient(student: Student, rollout: Rollout, frame: int = FRAMES - 1) -> float:
    student.zero_grad(set_to_none=True)
    rollout.final[frame].logits.square().mean().backward()
    gradient = student.heads.compressor.latents_2d.grad
    return 0.0 if gradient is None else float(gradient.abs().sum())


def test_the_last_frame_teaches_the_latents(student: Student, features: ImageFeatures, batch: ClipBatch) -> None:
    assert latents_gradient(student, run(student, features, batch)) > 0
    assert latents_gradient(student, run(student, features, batch, truncate=1)) == 0


def test_the_gradient_goes_through_time(
    student: Student, features: ImageFeatures, batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last frame it reaches the memory of every frame before; cut off after two, only those since."""
    compressor = student.heads.compressor
    written: list[Tensor] = []

    def noted(memory: Tensor, positions: Tensor) -> MemoryTokens:
        tokens = type(compressor).forward(compressor, memory, positions)
        tokens.values.retain_grad()
        written.append(tokens.values)
        return tokens

    monkeypatch.setattr(compressor, "forward", noted)
    for truncate, reached in ((None, [True, True, True, False]), (2, [False, False, True, False])):
        written.clear()
        latents_gradient(student, run(student, features, batch, truncate=truncate))
        assert [tokens.grad is not None and bool(tokens.grad.any()) for tokens in written] == reached


def test_a_lead_in_changes_no_answer_and_cuts_the_gradient(
    student: Student, features: ImageFeatures, batch: ClipBatch
) -> None:
    def gradients(rollout: Rollout) -> dict[str, Tensor]:
        student.zero_grad(set_to_none=True)
        torch.stack([answer.logits.square().mean() for answer in rollout.final[2:]]).sum().backward()
        return {name: each.grad.clone() for name, each in student.named_parameters() if each.grad is not None}

    led = run(student, features, batch, replace(MASK, lead_in=2))
    assert [answer.frame for answer in led.answers] == [2, 3]
    assert not any(frame.logits.requires_grad for frame in led.final[:2])
    cut, whole = run(student, features, batch, truncate=2), run(student, features, batch)
    assert torch.equal(led.masks, whole.masks)
    assert torch.equal(led.remembered, whole.remembered[1:])
    # Frames 0 and 1 without gradients are a gradient that is cut off after two frames.
    found, expected = gradients(led), gradients(cut)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert any(not torch.equal(found.get(name, 0 * each), each) for name, each in gradients(whole).items())
    with torch.no_grad():
        assert not run(student, features, batch, replace(MASK, lead_in=2)).masks.requires_grad


def test_corrections(student: Student, features: ImageFeatures, batch: ClipBatch) -> None:
    with torch.no_grad():
        rollout = run(student, features, batch, ClipPlan("box", (0, 2), clicks=2))
        plain = run(student, features, batch, ClipPlan("box"))
    assert [answer.frame for answer in rollout.answers] == [0, 0, 0, 1, 2, 2, 2, 3]
    assert torch.equal(rollout.answers[0].tracked.logits, plain.answers[0].tracked.logits)
    assert rollout.final[0] is rollout.answers[2].tracked
    assert not torch.allclose(rollout.final[0].masks, plain.final[0].masks)
    assert not torch.allclose(rollout.final[3].masks, plain.final[3].masks)


def test_clicks_say_nothing_where_there_is_no_truth(
    student: Student, features: ImageFeatures, batch: ClipBatch
) -> None:
    other = batch.masks.clone()
    other[:, 2] = 1 - other[:, 2]

    def corrected(masks: Tensor, known: bool) -> Tensor:
        labelled = torch.tensor([[True, True, known, True]] * 2)
        changed = replace(batch, masks=masks, labelled=labelled)
        with torch.no_grad():
            return run(student, features, changed, ClipPlan("mask", (2,), clicks=1)).masks

    assert torch.equal(corrected(batch.masks, known=False), corrected(other, known=False))
    assert not torch.allclose(corrected(batch.masks, known=True), corrected(other, known=True))


def test_masks_of_others_go_into_the_memory(student: Student, features: ImageFeatures, batch: ClipBatch) -> None:
    with torch.no_grad():
        own = run(student, features, batch)
        truth = run(student, features, batch, masks="ground_truth")
        guided = run(student, features, batch, masks="teacher", guide=truth)
        hidden = replace(batch, labelled=torch.tensor([[True, False, False, False]] * 2))
        unknown = run(student, features, hidden, masks="ground_truth")
    same = [torch.allclose(one.masks, other.masks) for one, other in zip(own.final, truth.final, strict=True)]
    assert same == [True, True, False, False]  # the first mask is given in any case
    # Guided by a rollout, the memory holds what that rollout answered, which differs from frame 2 on.
    same = [torch.allclose(one.masks, other.masks) for one, other in zip(own.final, guided.final, strict=True)]
    assert same == [True, True, True, False]
    # Where a frame has no ground truth, the own mask is used.
    torch.testing.assert_close(unknown.masks, own.masks)


def test_guided_by_itself_nothing_changes(student: Student, features: ImageFeatures, batch: ClipBatch) -> None:
    with torch.no_grad():
        own = run(student, features, batch)
        torch.testing.assert_close(run(student, features, batch, masks="teacher", guide=own).masks, own.masks)


def test_tokens(student: Student) -> None:
    assert student.heads.compressor.num_tokens == MEMORY.num_global + MEMORY.windows**2
