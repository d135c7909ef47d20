"""Detect, track, confirm: on a detector and a tracker whose answers are written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_segmenter import FakeSegmenter, fill_box, make_contract
from scripted_concepts import Box, Found, Scripted, followed, frames, mask_of, seen, tracker_of

from phd.errors import UserError
from phd.video_concepts import ConceptTracker, ConceptTrackSettings
from phd.video_concepts.association import hidden_by_overlap, mask_iou

A: Box = (2, 2, 10, 10)
B: Box = (18, 18, 10, 10)
GHOST: Box = (2, 20, 8, 8)


def dog(*boxes: Box, score: float = 0.9) -> list[Found]:
    return [("dog", box, score) for box in boxes]


def test_things_that_appear_and_leave() -> None:
    path_a: list[Box | None] = [A, (3, 2, 10, 10), (4, 2, 10, 10), None, None]
    path_b: list[Box | None] = [None, None, B, B, B]
    model = Scripted([dog(A), dog((3, 2, 10, 10)), dog((4, 2, 10, 10), B), dog(B), dog(B)], path_a, path_b)
    tracker = tracker_of(model, delay=2)
    counts, answers = [], []
    for image in frames(5):
        ready = tracker.track(image)
        counts.append(len(ready))
        answers += ready
    assert counts == [0, 0, 1, 1, 1]
    answers += tracker.finish()
    assert [answer.frame for answer in answers] == [0, 1, 2, 3, 4]
    assert seen(answers) == [{1: A}, {1: (3, 2, 10, 10)}, {1: (4, 2, 10, 10), 2: B}, {2: B}, {2: B}]
    assert answers[3].ids == [1, 2]
    assert answers[3].present[0] < 0.5 < answers[3].present[1]
    assert answers[2].phrases == ["dog", "dog"]
    assert answers[2].detected == pytest.approx([0.9, 0.9], abs=1e-4)
    assert [frame for frame, _, _ in model.prompted] == [0, 2]  # each was prompted once, where it began


def test_a_video_that_begins_with_nothing() -> None:
    answers = followed(Scripted([[], [], dog(A), dog(A)], [None, None, A, A]))
    assert seen(answers) == [{}, {}, {1: A}, {1: A}]
    assert answers[0].presence == {"dog": pytest.approx(0.25)}
    assert answers[0].masks.shape == (0, 32, 32)
    assert answers[2].presence["dog"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("delay", "shown"), [(5, []), (3, [2])])
def test_what_the_detector_does_not_confirm_was_never_there(delay: int, shown: list[int]) -> None:
    """Found in frame 1 only, seen by the tracker ever after: in frames 2, 3 and 4 it is unconfirmed."""
    found = [dog(A), dog(A, GHOST), *[dog(A)] * 6]
    model = Scripted(found, [A] * 8, [GHOST] * 8)
    tracker = tracker_of(model, delay=delay, remove_unconfirmed=3)
    answers = list(tracker.follow(frames(8)))
    assert tracker.num_removed == (not shown)
    assert [answer.ids for answer in answers] == [[1], *[[1, *shown]] * 7]


def test_a_removed_object_leaves_no_gap_in_the_ids() -> None:
    found = [dog(A), dog(A, GHOST), dog(A), dog(A), dog(A), dog(A, B), dog(A, B)]
    model = Scripted(found, [A] * 7, [GHOST] * 7, [None] * 5 + [B] * 2)
    assert seen(followed(model, delay=5, remove_unconfirmed=3))[-1] == {1: A, 2: B}


def test_one_goes_in_the_frame_in_which_another_one_begins() -> None:
    found = [dog(A), dog(A, GHOST), dog(A), dog(A), dog(A, B), dog(A, B)]
    model = Scripted(found, [A] * 6, [GHOST] * 6, [None] * 4 + [B] * 2)
    answers = followed(model, delay=5, remove_unconfirmed=3)
    assert seen(answers) == [{1: A}] * 4 + [{1: A, 2: B}] * 2


def test_what_is_hidden_is_not_unconfirmed() -> None:
    model = Scripted([dog(A), [], [], [], dog(A)], [A, None, None, None, A])
    assert seen(followed(model, delay=6, remove_unconfirmed=2)) == [{1: A}, {}, {}, {}, {1: A}]


def test_scores_that_begin_and_scores_that_confirm() -> None:
    weak = [dog(A, score=0.9), *[dog(A, score=0.6)] * 4]
    tracker = tracker_of(Scripted(weak, [A] * 5), delay=5, remove_unconfirmed=2)
    assert seen(list(tracker.follow(frames(5)))) == [{1: A}] * 5
    assert seen(followed(Scripted([dog(A, score=0.6)] * 3, [A] * 3))) == [{}] * 3
    assert seen(followed(Scripted([dog(A, score=0.6)] * 3, [A] * 3), new_threshold=0.55)) == [{1: A}] * 3
    assert seen(followed(Scripted([dog(A, score=0.6)] * 3, [A] * 3), new_threshold=0.55, threshold=0.65)) == [{}] * 3


def test_the_younger_of_two_masklets_on_one_thing_goes() -> None:
    """B is found in frame 1, and the tracker takes it to A: both belong to A's detection from frame 2 on."""
    model = Scripted([dog(A), dog(A, B), *[dog(A)] * 6], [A] * 8, [B, B, *[A] * 6])
    tracker = tracker_of(model, delay=6, remove_duplicate=3)
    assert seen(list(tracker.follow(frames(8)))) == [{1: A}] * 8
    assert tracker.num_removed == 1
    # Found later than the delay allows, it stays.
    model = Scripted([dog(A), dog(A, B), *[dog(A)] * 6], [A] * 8, [B, B, *[A] * 6])
    assert seen(followed(model, delay=3, remove_duplicate=4))[-1] == {1: A, 2: A}


def test_two_detections_of_one_thing_begin_one_masklet() -> None:
    near: Box = (3, 2, 10, 10)
    model = Scripted([[*dog(A), *dog(near, score=0.95)]] * 3, [near] * 3)
    assert seen(followed(model)) == [{1: near}] * 3


def test_an_occlusion_and_a_return() -> None:
    hidden: list[Box | None] = [A, A, None, None, B, B]
    found = [dog(A), dog(A), [], [], dog(B), dog(B)]
    # The memory finds it again: it keeps its id, and the detection confirms it.
    assert seen(followed(Scripted(found, hidden))) == [{1: A}, {1: A}, {}, {}, {1: B}, {1: B}]
    # Only the detector does: a new object.
    lost = Scripted(found, [A, A, None, None, None, None], [None, None, None, None, B, B])
    assert seen(followed(lost)) == [{1: A}, {1: A}, {}, {}, {2: B}, {2: B}]


def test_a_swap_hides_the_one_that_was_hidden_last() -> None:
    """Both are hidden one after the other, and the second comes back on the first one's place."""
    found = [dog(A, B), dog(B), dog(B), dog(A), *[dog(A)] * 2]
    model = Scripted(found, [A, None, A, A, A, A], [B, B, B, None, A, A])
    assert [sorted(boxes) for boxes in seen(followed(model))] == [[1, 2], [2], [1, 2], [1], [1], [1]]
    model = Scripted([dog(A, B), dog(A), dog(A)], [A, A, A], [B, A, A])
    assert sorted(seen(followed(model))[-1]) == [1, 2]  # neither was hidden before, so nobody knows which is right


def test_hidden_by_overlap_by_hand() -> None:
    masks = torch.stack([mask_of(A), mask_of((2, 2, 10, 8)), mask_of(B)])
    assert mask_iou(masks, masks)[0].tolist() == pytest.approx([1, 0.8, 0])
    one_phrase, last = torch.zeros(3, dtype=torch.long), torch.tensor([3, 5, 4])
    assert hidden_by_overlap(masks, one_phrase, last, 0.7).tolist() == [False, True, False]
    assert hidden_by_overlap(masks, one_phrase, last, 0.85).tolist() == [False] * 3
    assert hidden_by_overlap(masks, torch.tensor([0, 1, 0]), last, 0.7).tolist() == [False] * 3
    assert hidden_by_overlap(masks, one_phrase, torch.tensor([-1, 5, 4]), 0.7).tolist() == [False] * 3
    assert hidden_by_overlap(masks, one_phrase, torch.tensor([5, 3, 4]), 0.7).tolist() == [True, False, False]


def test_a_good_detection_prompts_its_masklet_anew() -> None:
    drifted: Box = (2, 2, 10, 9)  # IoU 0.9 with A

    def model(score: float = 0.9, path: Box = drifted) -> Scripted:
        return Scripted([dog(A, score=score)] * 6, [A, *[path] * 5])

    prompts = model()
    answers = followed(prompts, reprompt_every=4)
    assert prompts.prompted == [(0, 1, A), (4, 1, A)]
    assert [boxes[1] for boxes in seen(answers)] == [A, drifted, drifted, drifted, A, drifted]
    own = model()
    followed(own, reprompt_every=4, reprompt_with="masklet")
    assert own.prompted == [(0, 1, A), (4, 1, drifted)]
    for quiet in (model(score=0.79), model(path=(2, 2, 10, 7))):
        followed(quiet, reprompt_every=4)
        assert len(quiet.prompted) == 1
    doubtful = model()
    doubtful.present = 1.0  # 0.73
    followed(doubtful, reprompt_every=4)
    assert len(doubtful.prompted) == 1
    never = model()
    followed(never, reprompt_every=0)
    assert len(never.prompted) == 1


def test_phrases_do_not_mix() -> None:
    """One thing with two names is two objects, and neither confirms the other."""
    found: list[list[Found]] = [[*dog(A), ("pet", A, 0.8)], *[dog(A)] * 5]
    model = Scripted(found, [A] * 6)
    answers = followed(model, ["pet", "dog", "pet"], delay=5, remove_unconfirmed=3)
    assert [answer.phrases for answer in answers] == [["dog"]] * 6
    assert model.phrases == ["pet", "dog"]
    assert list(answers[0].presence) == ["pet", "dog"]


def test_unconfirmed_objects_are_hidden_on_request_and_come_back() -> None:
    found = [dog(A), dog(A), [], [], [], dog(A), dog(A)]
    hidden = followed(Scripted(found, [A] * 7), hide_unconfirmed=True, keep_alive=2, delay=0)
    assert [sorted(boxes) for boxes in seen(hidden)] == [[1], [1], [1], [], [], [], [1]]
    assert [sorted(boxes) for boxes in seen(followed(Scripted(found, [A] * 7), delay=0))] == [[1]] * 7


def test_no_more_objects_than_allowed() -> None:
    found = [[*dog(A, score=0.8), *dog(B, score=0.95)], dog(A, B)]
    tracker = tracker_of(Scripted(found, [A] * 2, [B] * 2), max_objects=1)
    assert seen(list(tracker.follow(frames(2)))) == [{1: B}] * 2
    assert tracker.num_over_limit == 2


def test_a_second_video() -> None:
    tracker = tracker_of(Scripted([dog(A), dog(A)], [A, A]))
    first = seen(list(tracker.follow(frames(2))))
    tracker.reset()
    assert seen(list(tracker.follow(frames(2)))) == first == [{1: A}] * 2


def test_errors() -> None:
    model = Scripted([dog(A)], [A])
    with pytest.raises(UserError, match="phrase 1 is empty"):
        tracker_of(model, [""])
    with pytest.raises(UserError, match="no phrase"):
        ConceptTracker(model, [], "cpu")
    with pytest.raises(UserError, match=r"threshold is 1\.5"):
        tracker_of(model, threshold=1.5)
    with pytest.raises(UserError, match="remove_duplicate is 0; give at least 1"):
        tracker_of(model, remove_duplicate=0)
    with pytest.raises(UserError, match="segments single images and cannot track"):
        ConceptTracker(FakeSegmenter(make_contract(), fill_box(make_contract())), ["dog"], "cpu")
    with pytest.warns(UserWarning, match="1 of 2 phrases are longer"):
        tracker_of(model, ["dog", "a very long phrase indeed"])
    tracker = tracker_of(model)
    tracker.track(next(frames(1)))
    with pytest.raises(UserError, match="another size"):
        tracker.track(np.zeros((8, 8, 3), dtype=np.uint8))
    assert ConceptTrackSettings(delay=0, reprompt_every=0).check() is None
