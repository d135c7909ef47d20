"""What is remembered and who gets a place, by hand and through whole videos."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import refused
from evaluated_videos import write_davis
from teacher_cases import stirred
from tiny_clips import tiny_student
from tiny_video import tiny_sam2_video, tiny_sam3_video
from torch import Tensor

from phd import VideoPredictor, load_segmenter
from phd.cli import run
from phd.contract import ObjectPrompt
from phd.heads.memory.rules import PLAIN, SELECTIVE, TrackRules, own_places
from phd.heads.memory.streaming import TrackState, correct, track
from phd.heads.memory.video import ABSENT, TrackedFrame
from phd.teachers import Teacher

NOBODY = torch.full((1, 3), 7.0)
EXCLUSIVE, SELECTING = TrackRules(exclusive=True), TrackRules(select_memory=True)


def answer(canvas: Tensor, object_logits: list[float] | None = None, scores: list[float] | None = None) -> TrackedFrame:
    """Of N objects with these logits (N, S, S)."""
    count = len(canvas)
    there = torch.tensor(object_logits or [4.0] * count)
    iou = torch.tensor(scores or [0.9] * count)[:, None]
    return TrackedFrame(canvas[:, None], iou, there, torch.zeros(count, 3), torch.zeros(count), canvas)


def rows(*lines: list[float]) -> Tensor:
    """Logits (N, 1, cells): one line of cells for each object."""
    return torch.tensor(lines, dtype=torch.float32)[:, None]


NONE = torch.tensor([False, False])


class TestSettled:
    def test_a_cell_goes_to_the_largest_logit(self) -> None:
        found = EXCLUSIVE.settled(answer(rows([5, 5, 2, -3], [-1, 1, 4, 6])), NONE, NOBODY)
        assert found.canvas[:, 0].tolist() == [[5, 5, -10, -10], [-10, -10, 4, 6]]
        assert found.object_logits.tolist() == [4, 4]
        assert not found.pointers.any()

    def test_an_object_that_loses_most_of_its_mask_is_not_there_and_gives_its_cells_back(self) -> None:
        # The second one keeps one of four cells, less than 0.3, so all are the first one's.
        before = answer(rows([5, 5, 5, 1], [4, 4, 4, 2]))
        found = EXCLUSIVE.settled(before, NONE, NOBODY)
        assert found.canvas[:, 0].tolist() == [[5, 5, 5, 1], [ABSENT] * 4]
        assert found.object_logits.tolist() == [4, -10]
        assert found.pointers.tolist() == [[0, 0, 0], [7, 7, 7]]
        assert found.masks[1].max() == ABSENT
        assert before.object_logits.tolist() == [4, 4]

    def test_with_three_of_ten_cells_it_is_there(self) -> None:
        found = EXCLUSIVE.settled(answer(rows([5.0] * 7 + [1.0] * 3, [4.0] * 7 + [2.0] * 3)), NONE, NOBODY)
        assert found.object_logits.tolist() == [4, 4]

    def test_one_without_any_cell_stays_as_it_is(self) -> None:
        found = EXCLUSIVE.settled(answer(rows([5, 5], [-4, -4])), NONE, NOBODY)
        assert found.object_logits.tolist() == [4, 4]
        assert found.canvas[1, 0].tolist() == [-10, -10]

    def test_a_prompted_mask_stays_whole_and_comes_first(self) -> None:
        given = torch.tensor([True, False, True])
        found = EXCLUSIVE.settled(answer(rows([1, 1, -9, -9], [5, 5, 5, 5], [-9, 1, 1, -9])), given, NOBODY)
        assert found.canvas[:, 0].tolist() == [[1, 1, -9, -9], [ABSENT] * 4, [-9, 1, 1, -9]]
        assert found.object_logits.tolist() == [4, -10, 4]

    def test_objects_of_other_videos_claim_nothing(self) -> None:
        canvas, video = rows([5, 5], [6, 6], [4, -4], [-4, 4]), torch.tensor([0, 1, 1, 0])
        found = EXCLUSIVE.settled(answer(canvas), torch.zeros(4, dtype=torch.bool), NOBODY, video)
        assert found.canvas[:, 0].tolist() == [[5, 5], [6, 6], [ABSENT] * 2, [ABSENT] * 2]
        apart = own_places(canvas, torch.zeros(4, dtype=torch.bool), torch.arange(4))
        assert apart.all()

    def test_of_equal_claims_the_first_has_the_place(self) -> None:
        mine = own_places(rows([2, 5, ABSENT], [2, 6, ABSENT], [1, 6, ABSENT]), torch.zeros(3, dtype=torch.bool))
        assert mine[:, 0].tolist() == [[True, False, True], [False, True, False], [False, False, False]]

    def test_without_the_rule_and_for_one_object_nothing_changes(self) -> None:
        both = answer(rows([5, 5], [4, 4]))
        assert PLAIN.settled(both, NONE, NOBODY) is both
        alone = answer(rows([5, 5]))
        assert EXCLUSIVE.settled(alone, NONE[:1], NOBODY) is alone

    def test_gradients_go_through(self) -> None:
        canvas = rows([5, 1], [1, 4]).requires_grad_()
        EXCLUSIVE.settled(answer(canvas), NONE, NOBODY).canvas.sum().backward()
        assert canvas.grad is not None
        assert canvas.grad[:, 0].tolist() == [[1, 0], [0, 1]]


def test_remembered_is_what_is_seen() -> None:
    """0.01 of `(2 p - 1) * IoU`: p of logit 0.03 is 0.5075, so 0.015 of IoU 1, and 0.0075 of IoU 0.5."""
    found = answer(rows(*[[1.0]] * 6), [4.0, -0.1, 0.03, 0.03, 4.0, -9.0], [0.9, 1.0, 1.0, 0.5, 0.005, 1.0])
    given = torch.tensor([False] * 5 + [True])
    assert SELECTING.remembered(found, given).tolist() == [0, 2, 5]
    assert PLAIN.remembered(found, given).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module", params=[tiny_sam2_video, tiny_sam3_video], ids=["sam2", "sam3"])
def teacher(request: pytest.FixtureRequest) -> Teacher:
    return stirred(request.param())


def bias(teacher: Teacher) -> Tensor:
    return teacher.heads.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias


def roll(
    teacher: Teacher, frames: Tensor, prompts: dict[int, dict[int, ObjectPrompt]], rules: TrackRules, hidden: set[int]
) -> dict[int, TrackState]:
    """Track; in the frames `hidden` nothing is there."""
    states: dict[int, TrackState] = {}
    state, shown = None, bias(teacher).detach().clone()
    with torch.no_grad():
        for number in range(len(frames)):
            bias(teacher).fill_(-50.0 if number in hidden else 8.0)
            features = teacher.encode(frames[number][None], ("tracker",))
            state = states[number] = track(teacher.heads, features, state, prompts.get(number), rules)
        bias(teacher).copy_(shown)
    return states


def settled(state: TrackState) -> TrackedFrame:
    """The answer that a user gets."""
    assert state.answer is not None
    return state.answer


def noise(teacher: Teacher, count: int) -> Tensor:
    side = teacher.contract.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


BOX = ObjectPrompt(box=torch.tensor([10.0, 31.0, 97.0, 64.0]))
POINT = ObjectPrompt(points=torch.tensor([[40.0, 71.0]]), labels=torch.tensor([1]))


def test_frames_without_the_object_are_as_if_they_had_not_been(teacher: Teacher) -> None:
    """Tracked over more hidden frames than there are slots, the answer is that of a video without them."""
    frames, prompts, hidden = noise(teacher, 14), {0: {1: BOX}, 1: {2: POINT}}, {3, *range(5, 13)}
    seen = [number for number in range(14) if number not in hidden]
    whole = roll(teacher, frames, prompts, SELECTING, hidden)[13]
    short = roll(teacher, frames[seen], prompts, SELECTING, set())[len(seen) - 1]
    plain = roll(teacher, frames, prompts, PLAIN, hidden)[13]
    torch.testing.assert_close(settled(whole).logits, settled(short).logits, atol=1e-5, rtol=1e-5)
    assert (settled(plain).logits - settled(short).logits).abs().max() > 1e-3


def test_where_all_is_seen_selecting_changes_nothing(teacher: Teacher) -> None:
    frames, prompts = noise(teacher, 9), {0: {1: BOX}, 2: {2: POINT}, 5: {1: POINT}}
    for one, other in zip(
        roll(teacher, frames, prompts, SELECTING, set()).values(),
        roll(teacher, frames, prompts, PLAIN, set()).values(),
        strict=True,
    ):
        assert torch.equal(settled(one).logits, settled(other).logits)


def test_a_correction_frees_what_a_wrong_mask_had_hidden(teacher: Teacher) -> None:
    """The same prompt again settles the frame anew from what was decoded, not from what was settled."""
    frames = noise(teacher, 3)
    states = roll(teacher, frames, {0: {1: BOX, 2: BOX}}, EXCLUSIVE, set())
    first = states[1]
    assert first.decoded is not None
    assert (settled(first).object_logits > 0).tolist() == [True, False]
    assert (first.decoded.object_logits > 0).all()
    with torch.no_grad():
        bias(teacher).fill_(8.0)
        features = teacher.encode(frames[1][None], ("tracker",))
        away = ObjectPrompt(mask=torch.zeros(teacher.contract.image_size, teacher.contract.image_size))
        again = correct(teacher.heads, features, first, {1: away}, EXCLUSIVE)
    assert (settled(again).object_logits > 0).tolist() == [False, True]


def test_rules_come_from_the_configuration(tmp_path: Path) -> None:
    """The embedded teacher selects, from a folder too, and its students; without the names it is the library's way."""
    toy = tiny_sam3_video()
    everything = replace(SELECTIVE, border_cells=5)
    assert TrackRules.of(toy.heads.tracker_model.config) == everything
    toy.save(tmp_path / "toy")
    assert VideoPredictor(load_segmenter(str(tmp_path / "toy"))).rules == everything
    assert TrackRules.of(tiny_student(toy).heads.tracker_model.config) == everything
    sam2 = tiny_sam2_video()
    assert VideoPredictor(sam2).rules == PLAIN
    config = copy.deepcopy(sam2.heads.tracker_model.config)
    config.use_memory_selection, config.mf_threshold = True, 0.2
    config.contested_mask_iou, config.exchanged_look_ratio, config.guided_filter_cells = 0.6, 0.7, 2
    assert TrackRules.of(config) == TrackRules(
        select_memory=True, least_score=0.2, contested_iou=0.6, exchange_ratio=0.7, border_cells=2
    )
    assert VideoPredictor(sam2, rules=EXCLUSIVE).rules == EXCLUSIVE


def test_masks_of_a_predictor_overlap_only_where_they_may(teacher: Teacher) -> None:
    overlaps: dict[str, float] = {}
    with torch.no_grad():
        bias(teacher).fill_(8.0)
    for name, rules in (("plain", PLAIN), ("exclusive", EXCLUSIVE)):
        predictor, most = VideoPredictor(teacher, rules=rules), 0
        frames = np.random.default_rng(0).integers(0, 255, (5, 60, 90, 3), dtype=np.uint8)
        for number, frame in enumerate(frames):
            if number == 0:
                predictor.add(4, box=[5, 5, 60, 50])
                predictor.add(9, points=[[40, 30]])
            masks = predictor.track(frame).masks
            most = max(most, int(masks.sum(0).max()) if number else 0)
        overlaps[name] = most
    assert overlaps == {"plain": 2, "exclusive": 1}


def test_the_command_line_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_davis(tmp_path / "raw", ("one",), frames=4)
    base = ["evaluate", "video", "--davis", str(raw), "--model", "toy-teacher-128", "--protocol", "sav"]
    about: dict[str, Any] = {}
    asked = {
        "own": [],
        "plain": ["--rules", "plain"],
        "selective": ["--rules", "selective"],
        "smooth": ["--border-cells", "0"],
        "both": ["--rules", "plain", "--border-cells", "3"],
    }
    for name, options in asked.items():
        file = tmp_path / f"{name}.json"
        run([*base, "--json", str(file), *options])
        about[name] = json.loads(file.read_text())["protocol_details"]
    assert about["smooth"] == about["selective"] != about["own"]
    selective = {"select_memory": True, "least_score": 0.01, "exclusive": True}
    own = {**selective, "contested_iou": 0.5, "exchange_ratio": 0.8, "border_cells": 5}
    assert about["own"]["rules"] == own
    assert about["selective"]["rules"] == {**own, "border_cells": 0}
    plain = {"select_memory": False, "exclusive": False, "contested_iou": 0.0, "exchange_ratio": 0.0}
    assert about["plain"]["rules"] == {**own, **plain, "border_cells": 0}
    assert about["both"]["rules"] == {**own, **plain, "border_cells": 3}
    assert about["both"]["resolution"].startswith(about["plain"]["resolution"])
    assert "3 cells each way" in about["both"]["resolution"]
    assert "largest logit" in about["own"]["overlap"]
    assert "may overlap" in about["plain"]["overlap"]
    assert "--rules" in refused(capsys, "evaluate", "video", "--gt", "a", "--pred", "b", "--rules", "plain")
    assert "--border-cells" in refused(capsys, "evaluate", "video", "--gt", "a", "--pred", "b", "--border-cells", "1")
    clip = ["track", "clip.mp4", "--box", "1", "2", "3", "4", "--model", "a", "--out", str(tmp_path / "new")]
    for command in ([*base, "--json", "x.json"], clip):
        assert "--border-cells is 33; give 0 to 32" in refused(capsys, *command, "--border-cells", "33")
        assert "--border-cells is -1; give 0 to 32" in refused(capsys, *command, "--border-cells", "-1")
