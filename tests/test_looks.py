"""What objects look like, by hand, and which of two that claim one place is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from teacher_cases import stirred
from tiny_video import tiny_sam3_video
from torch import Tensor

from phd.contract import ObjectPrompt
from phd.heads.memory.looks import Looks, Sight
from phd.heads.memory.rules import TrackRules
from phd.heads.memory.streaming import TrackState, correct, track
from phd.heads.memory.video import ABSENT, TrackedFrame
from phd.teachers import Teacher

CONTEST = TrackRules(exclusive=True, contested_iou=0.5)
# One row of four cells with two channels: red on the left, blue on the right.
RED, BLUE = [1.0, 0.0], [0.0, 1.0]
VIEW = torch.tensor([RED, RED, BLUE, BLUE]).T.reshape(1, 2, 1, 4)


def rows(*lines: list[float]) -> Tensor:
    """Logits (N, 1, cells): one line of cells for each object."""
    return torch.tensor(lines, dtype=torch.float32)[:, None]


def sight(*known: list[float], video: list[int] | None = None, view: Tensor = VIEW) -> Sight:
    """Of objects that looked like `known`."""
    scale = torch.zeros(len(view), 2), torch.ones(len(view), 2)
    return Sight(view, torch.tensor(video or [0] * len(known)), Looks(torch.tensor(known), *scale))


def nobody(count: int) -> Tensor:
    """No object has a prompt."""
    return torch.zeros(count, dtype=torch.bool)


LEFT = [5.0, 5.0, -9.0, -9.0]


class TestOutdone:
    @pytest.mark.parametrize(("known", "lost"), [((RED, BLUE), [False, True]), ((BLUE, RED), [True, False])])
    def test_the_place_is_whose_look_it_has(self, known: tuple[list[float], ...], lost: list[bool]) -> None:
        assert sight(*known).outdone(rows(LEFT, LEFT), nobody(2), 0.5).tolist() == lost

    def test_common_cells_alone_are_looked_at(self) -> None:
        """The second mask is mostly blue, but where both are it is red: two of three cells, and that is what counts."""
        canvas = rows([5, 5, -9, -9], [5, 5, 5, -9])
        assert sight(RED, BLUE).outdone(canvas, nobody(2), 0.5).tolist() == [False, True]
        assert sight(BLUE, RED).outdone(canvas, nobody(2), 0.5).tolist() == [True, False]

    def test_from_the_overlap_on(self) -> None:
        canvas = rows([5, 5, -9, -9], [-9, 5, 5, -9])  # IoU 1 of 3
        assert not sight(RED, BLUE).outdone(canvas, nobody(2), 0.34).any()
        assert sight(RED, BLUE).outdone(canvas, nobody(2), 0.33).sum() == 1

    def test_autocast_does_not_round_the_overlap(self) -> None:
        """259 of 519 cells are less than half; in bf16 they would be 260, and of 518."""
        canvas = torch.full((2, 1, 1000), -9.0)
        canvas[0, 0, :389] = canvas[1, 0, 130:519] = 5.0
        view = torch.rand(1, 2, 1, 4, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            assert not sight(RED, BLUE, view=view).outdone(canvas, nobody(2), 0.5).any()
            canvas[0, 0, 389] = 5.0  # 260 of 519
            assert sight(RED, BLUE, view=view).outdone(canvas, nobody(2), 0.5).sum() == 1

    def test_an_object_that_is_not_there_claims_nothing(self) -> None:
        assert not sight(RED, BLUE).outdone(rows([ABSENT] * 4, [ABSENT] * 4), nobody(2), 0.5).any()

    def test_one_with_a_prompt_neither_outdoes_nor_is_outdone(self) -> None:
        given = torch.tensor([True, False])
        for known in ((RED, BLUE), (BLUE, RED)):
            assert not sight(*known).outdone(rows(LEFT, LEFT), given, 0.5).any()

    def test_objects_of_other_videos_claim_nothing(self) -> None:
        view = VIEW.repeat(2, 1, 1, 1)
        both = rows(LEFT, LEFT, LEFT)
        found = sight(RED, BLUE, BLUE, video=[0, 1, 0], view=view).outdone(both, nobody(3), 0.5)
        assert found.tolist() == [False, False, True]

    def test_each_video_is_looked_at_in_its_own_frame(self) -> None:
        view = torch.cat([VIEW, VIEW.flip(3)])  # in the second video the left is blue
        found = sight(RED, BLUE, RED, BLUE, video=[0, 0, 1, 1], view=view).outdone(rows(*[LEFT] * 4), nobody(4), 0.5)
        assert found.tolist() == [False, True, True, False]

    def test_one_that_is_outdone_outdoes_nobody(self) -> None:
        """The second overlaps both others by half; outdone by the first, it leaves the third alone."""
        canvas = rows([5, 5, 5, -9], [-9, 5, 5, 5], [-9, -9, 5, 5])
        view = torch.tensor([RED, RED, RED, BLUE]).T.reshape(1, 2, 1, 4)
        known = (RED, [0.6, 0.8], [-1.0, 0.0])
        assert sight(*known, view=view).outdone(canvas, nobody(3), 0.5).tolist() == [False, True, False]
        assert sight(*known[1:], view=view).outdone(canvas[1:], nobody(2), 0.5).tolist() == [False, True]


class TestOwners:
    MASKS = rows([5, 5, -9, -9], [-9, -9, 5, 5])  # red, blue

    @pytest.mark.parametrize(("known", "owners"), [((RED, BLUE), [0, 1]), ((BLUE, RED), [1, 0])])
    def test_each_gets_the_mask_it_looks_like(self, known: tuple[list[float], ...], owners: list[int]) -> None:
        assert sight(*known).owners(self.MASKS, nobody(2), 0.8).tolist() == owners

    def test_the_share_of_the_distance(self) -> None:
        """Red was (0.4, 0), 0.6 from red and 1.077 from blue; blue was (0.6, 0): 0.4 and 1.166. After a change 1.477
        in place of 1.766."""
        found = sight([0.4, 0.0], [0.6, 0.0])
        assert found.owners(self.MASKS, nobody(2), 0.837).tolist() == [1, 0]
        assert found.owners(self.MASKS, nobody(2), 0.836).tolist() == [0, 1]

    def test_one_that_fits_worse_may_change_when_both_fit_better(self) -> None:
        found = sight([0.4, 0.0], [1.0, 0.0]).owners(self.MASKS, nobody(2), 0.9)  # 0.6 + 1.414 to 1.077 + 0
        assert found.tolist() == [1, 0]

    def test_one_with_a_prompt_or_without_a_mask_or_a_look_does_not_change(self) -> None:
        swapped = sight(BLUE, RED)
        assert swapped.owners(self.MASKS, torch.tensor([True, False]), 0.8).tolist() == [0, 1]
        assert swapped.owners(rows([5, 5, -9, -9], [ABSENT] * 4), nobody(2), 0.8).tolist() == [0, 1]
        assert sight(BLUE, [0.0, 0.0]).owners(self.MASKS, nobody(2), 0.99).tolist() == [0, 1]

    def test_objects_of_other_videos_do_not_change(self) -> None:
        found = sight(BLUE, RED, BLUE, video=[0, 1, 1], view=VIEW.repeat(2, 1, 1, 1))
        masks = self.MASKS[[0, 1, 0]]
        assert found.owners(masks, nobody(3), 0.8).tolist() == [0, 2, 1]

    @pytest.mark.parametrize(("order", "owners"), [([0, 1, 2], [0, 2, 1]), ([1, 2, 0], [1, 0, 2])])
    def test_the_clearest_pair_changes_first_and_an_object_once(self, order: list[int], owners: list[int]) -> None:
        """The first and the second would change too, were it not for the third."""
        view = torch.tensor([RED, [0.0, 2.0], [0.0, -2.0]]).T.reshape(1, 2, 1, 3)
        masks = rows([5, -9, -9], [-9, 5, -9], [-9, -9, 5])
        known = [[0.0, 0.5], [0.0, -2.0], [0.0, 2.0]]
        found = sight(*(known[one] for one in order), view=view).owners(masks[order], nobody(3), 0.8)
        assert found.tolist() == owners
        assert sight(*known[:2], view=view).owners(masks[:2], nobody(2), 0.8).tolist() == [1, 0]


class TestSight:
    def test_noted_is_the_mean_under_the_mask_of_a_prompt(self) -> None:
        before = sight([9.0, 9.0], [8.0, 8.0], [7.0, 7.0])
        canvas, given = rows(LEFT, [-9, 5, 5, 5], [-9.0] * 4), torch.tensor([False, True, True])
        known = before.noted(canvas, given).known
        torch.testing.assert_close(known, torch.tensor([[9.0, 9.0], [1 / 3, 2 / 3], [7.0, 7.0]]))
        assert before.looks.known[1].tolist() == [8, 8]

    def test_a_mask_of_more_pixels_counts_by_its_share_of_each_cell(self) -> None:
        canvas = torch.full((1, 2, 8), -9.0)
        canvas[0, :, 2:5] = 1.0  # all of the second cell, half of the third
        known = sight(RED).noted(canvas, torch.tensor([True])).known
        torch.testing.assert_close(known, torch.tensor([[2 / 3, 1 / 3]]))

    def test_of_levels(self) -> None:
        levels = [torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(size)) for size in (16, 8, 4)]
        levels[1] = (levels[1] * 30 + 5).requires_grad_()
        found = Sight.of(levels, torch.tensor([0, 1]), None)
        assert found.view.shape == (2, 8, 8, 8)
        assert not found.view.requires_grad
        assert not found.looks.known.any()
        torch.testing.assert_close(found.view.mean((2, 3)), torch.zeros(2, 8), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.view.std((2, 3)), torch.ones(2, 8))

    def test_later_frames_are_on_the_scale_of_the_first_and_objects_come_to_it(self) -> None:
        levels = [torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(size)) for size in (16, 8, 4)]
        first = Sight.of(levels, torch.tensor([0]), None)
        looks = first.noted(torch.ones(1, 8, 8), torch.tensor([True]))
        brighter = Sight.of([3 * level + 1 for level in levels], torch.tensor([0, 0]), looks)
        torch.testing.assert_close(brighter.view, 3 * first.view + ((2 * looks.mean + 1) / looks.std)[..., None, None])
        assert torch.equal(brighter.looks.known[:1], looks.known)
        assert brighter.looks.known[1].tolist() == [0] * 8


class TestSettled:
    answer = TrackedFrame(
        rows([2, 2, 1, -9], [5, 5, 5, -9])[:, None],
        torch.full((2, 1), 0.9),
        torch.full((2,), 4.0),
        torch.zeros(2, 3),
        torch.zeros(2),
        rows([2, 2, 1, -9], [5, 5, 5, -9]),
    )
    gone = torch.full((1, 3), 7.0)

    def test_the_look_decides_where_the_logits_would_say_otherwise(self) -> None:
        found = CONTEST.settled(self.answer, nobody(2), self.gone, None, sight(RED, BLUE))
        assert found.object_logits.tolist() == [4, -10]
        assert found.canvas[:, 0].tolist() == [[2, 2, 1, -9], [ABSENT] * 4]
        assert found.pointers.tolist() == [[0] * 3, [7] * 3]
        assert CONTEST.settled(self.answer, nobody(2), self.gone).object_logits.tolist() == [-10, 4]

    def test_an_exchange_is_of_everything(self) -> None:
        """The second changes with the first, which has its answer, but what the decoder read for it."""
        masks = rows([5, 5, -10, -10], [-10, -10, 2, 2])
        whole = replace(
            self.answer,
            logits=masks[:, None],
            canvas=masks,
            pointers=torch.eye(2, 3),
            conditioned=torch.tensor([1.0, 2.0]),
            object_logits=torch.tensor([4.0, 3.0]),
        )
        rules = TrackRules(exclusive=True, exchange_ratio=0.8)
        found = rules.settled(whole, nobody(2), self.gone, None, sight(BLUE, RED))
        assert found.object_logits.tolist() == [3, 4]
        assert torch.equal(found.canvas, whole.canvas[[1, 0]])
        assert torch.equal(found.logits, whole.logits[[1, 0]])
        assert found.pointers.tolist() == [[0, 1, 0], [1, 0, 0]]
        assert found.conditioned.tolist() == [1, 2]
        kept = rules.settled(whole, nobody(2), self.gone, None, sight(RED, BLUE))
        assert torch.equal(kept.canvas, whole.canvas)

    def test_only_these_rules_look(self) -> None:
        levels, video = [torch.zeros(1, 2, 4, 4)] * 3, torch.tensor([0])
        for rules in (CONTEST, TrackRules(exclusive=True, exchange_ratio=0.8)):
            assert rules.sight(levels, video, None) is not None
        for rules in (TrackRules(), TrackRules(exclusive=True), TrackRules(contested_iou=0.5, exchange_ratio=0.8)):
            assert rules.sight(levels, video, None) is None


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return stirred(tiny_sam3_video())


def known(state: TrackState) -> Tensor:
    """The looks after a frame."""
    assert state.looks is not None
    return state.looks.known


def test_a_look_is_kept_until_the_next_prompt(teacher: Teacher) -> None:
    """It grows with objects that start later, and a correction in the same frame replaces it."""
    side = teacher.contract.image_size
    frames = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(side, side)
    mask[: side // 2] = 1.0
    box = ObjectPrompt(box=torch.tensor([10.0, 31.0, 97.0, 64.0]))
    prompts = {0: {1: ObjectPrompt(mask=mask)}, 2: {2: ObjectPrompt(mask=1 - mask)}}
    states: list[TrackState] = []
    with torch.no_grad():
        teacher.heads.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(8.0)
        for number, frame in enumerate(frames):
            features = teacher.encode(frame[None], ("tracker",))
            before = states[-1] if states else None
            states.append(track(teacher.heads, features, before, prompts.get(number), CONTEST))
        again = correct(teacher.heads, features, states[-1], {2: box}, CONTEST)
    first, later, third, last, corrected = (known(state) for state in (*states, again))
    assert torch.equal(first, later)
    assert third.shape[0] == 2
    assert torch.equal(third[:1], first)
    assert torch.equal(third, last)
    assert torch.equal(corrected[0], last[0])
    assert not torch.equal(corrected[1], last[1])
    view = Sight.of(teacher.encode(frames[:1], ("tracker",)).tracker, torch.tensor([0]), None).view[0]
    half = view[:, : view.shape[1] // 2].mean((1, 2))
    torch.testing.assert_close(first[0], half, atol=1e-4, rtol=1e-4)
    assert track(teacher.heads, features, None, prompts[0], replace(CONTEST, contested_iou=0.0)).looks is None
