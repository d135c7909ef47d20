"""Which rows of a rollout teach what, and how much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from phd.errors import UserError
from phd.heads.memory.video import TrackedFrame
from phd.losses.tracking import tracking_loss
from phd.stages.clip_objects import ClipObjects
from phd.stages.clip_terms import TrackingLosses, supervising, tracking_terms
from phd.stages.rollout import Answer, Rollout

WEIGHTS = {"focal": 20.0, "dice": 1.0, "iou": 1.0, "object_score": 1.0}
LIKE = torch.zeros(1)


def tracked(objects: int, candidates: int, seed: int) -> TrackedFrame:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(objects, candidates, 4, 4, generator=generator)
    scores = torch.rand(objects, candidates, generator=generator)
    nothing = torch.zeros(objects, 1)
    return TrackedFrame(
        logits, scores, torch.randn(objects, generator=generator), nothing, nothing[..., None, None], nothing
    )


@pytest.fixture
def rollout() -> Rollout:
    """Two objects in three frames: given, tracked with three candidates, corrected to one."""
    answers = [
        Answer(0, tracked(2, 1, 0), decoded=False),
        Answer(1, tracked(2, 3, 1)),
        Answer(2, tracked(2, 3, 2)),
        Answer(2, tracked(2, 1, 3)),
    ]
    return Rollout(answers, [answers[0].tracked, answers[1].tracked, answers[3].tracked])


@pytest.fixture
def objects() -> ClipObjects:
    """The second object is hidden in the last frame."""
    target = (torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(9)) > 0.5).float()
    target[2, 1] = 0
    return ClipObjects(
        torch.tensor([0, 0]), target, torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    )


def row(answer: Answer, objects: ClipObjects, item: int) -> dict[str, Any]:
    one = slice(item, item + 1)
    return tracking_loss(
        answer.tracked.logits[one],
        answer.tracked.scores[one],
        answer.tracked.object_logits[one],
        objects.target[answer.frame, one],
        objects.void[answer.frame, one],
        WEIGHTS,
    )


def test_every_row_counts_once(rollout: Rollout, objects: ClipObjects) -> None:
    terms = tracking_terms(rollout, [objects], WEIGHTS, LIKE)
    decoded = rollout.answers[1:]
    rows = [row(answer, objects, item) for answer in decoded for item in range(2)]
    shown = [row(decoded[0], objects, 0), row(decoded[0], objects, 1), row(decoded[1], objects, 0)]
    shown.append(row(decoded[2], objects, 0))
    for name in ("focal", "dice", "iou"):
        torch.testing.assert_close(terms[name], torch.stack([part[name] for part in shown]).mean())
    torch.testing.assert_close(terms["object_score"], torch.stack([part["object_score"] for part in rows]).mean())


def test_frames_without_ground_truth_do_not_count(rollout: Rollout, objects: ClipObjects) -> None:
    known = objects.labelled.clone()
    known[2] = False
    terms = tracking_terms(rollout, [replace(objects, labelled=known)], WEIGHTS, LIKE)
    only = Rollout(rollout.answers[:2], rollout.final[:2])
    for name, value in tracking_terms(only, [objects], WEIGHTS, LIKE).items():
        torch.testing.assert_close(terms[name], value)
    nothing = tracking_terms(rollout, [replace(objects, labelled=torch.zeros_like(known))], WEIGHTS, LIKE)
    assert {name: float(value) for name, value in nothing.items()} == dict.fromkeys(WEIGHTS, 0.0)
    assert tracking_terms(None, [], WEIGHTS, LIKE) == dict.fromkeys(WEIGHTS, torch.tensor(0.0))


def test_who_supervises(rollout: Rollout, objects: ClipObjects) -> None:
    known = replace(objects, labelled=torch.zeros_like(objects.labelled))
    assert supervising("ground_truth", known, rollout) == [known]
    assert supervising("teacher", known, None) == [known]  # a clip without the teacher
    (guided,) = supervising("teacher", known, rollout)
    assert guided.labelled.all()  # the teacher answers in every frame
    assert torch.equal(guided.target, (rollout.masks > 0).float())
    assert len(supervising("both", known, rollout)) == 2
    mean = tracking_terms(rollout, supervising("both", objects, rollout), {"object_score": 1.0}, LIKE)["object_score"]
    parts = [
        tracking_terms(rollout, [part], {"object_score": 1.0}, LIKE)["object_score"]
        for part in supervising("both", objects, rollout)
    ]
    torch.testing.assert_close(mean, torch.stack(parts).mean())


def test_weights() -> None:
    assert TrackingLosses().tracking() == {"focal": 20.0, "dice": 1.0, "iou": 1.0, "object_score": 1.0}
    assert not TrackingLosses(feature_mse=0.0, memory_mse=0.0).distils
    with pytest.raises(UserError, match=r"losses\.dice is -1"):
        TrackingLosses(dice=-1.0)
