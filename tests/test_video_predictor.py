"""The predictor for videos against `Segmenter.track` itself, and where prompts in video pixels land."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_segmenter import make_contract
from tiny import tiny_sam
from tiny_video import tiny_sam2_video

from phd import VideoPredictor
from phd.contract import ObjectPrompt
from phd.errors import UserError
from phd.predict import encode_image
from phd.teachers import Teacher
from phd.video_predictor import TrackedImage
from phd.video_prompt import VideoPrompt, mask_to_canvas

HEIGHT, WIDTH, SIDE = 64, 160, 128  # of the video, not square; of the canvas


@pytest.fixture(scope="module")
def model() -> Teacher:
    """Random weights that find objects to be there."""
    made = tiny_sam2_video()
    with torch.no_grad():
        made.heads.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2)
    return made


def video(count: int, seed: int = 0) -> list[np.ndarray]:
    """Noise with a bright block that moves."""
    generator = np.random.default_rng(seed)
    frames = [generator.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(count)]
    for place, frame in enumerate(frames):
        frame[20:40, 10 + 5 * place : 40 + 5 * place] = (230, 40, 200)
    return frames


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[rows, columns] = True
    return mask


def same(mine: TrackedImage, other: TrackedImage) -> bool:
    return mine.ids == other.ids and torch.equal(mine.logits, other.logits) and bool((mine.masks == other.masks).all())


def test_it_is_the_segmenter_called_by_hand(model: Teacher) -> None:
    frames, predictor, state = video(4), VideoPredictor(model), None
    mask = block(slice(20, 40), slice(20, 50))
    # By hand: the width shrinks by 128 / 160, the height grows by 128 / 64; pixel centres lie at whole numbers.
    points = ObjectPrompt(
        points=torch.tensor([[20.5 * 0.8 - 0.5, 30.5 * 2 - 0.5], [0.5 * 0.8 - 0.5, 3.5 * 2 - 0.5]]),
        labels=torch.tensor([1, 0]),
    )
    box = ObjectPrompt(box=torch.tensor([8.0, 40.0, 32.0, 80.0]))
    on_canvas = torch.zeros(SIDE, SIDE)
    on_canvas[40:80, 16:40] = 1
    by_hand = {0: {7: points, 3: box}, 2: {5: ObjectPrompt(mask=on_canvas)}}
    for number, frame in enumerate(frames):
        if number == 0:
            predictor.add(7, points=[[20, 30], [0, 3]], labels=[1, 0])
            predictor.add(3, box=[10, 20, 40, 40])
        if number == 2:
            predictor.add(5, mask=mask)
        found = predictor.track(frame)
        with torch.inference_mode():
            state = model.track(encode_image(model, frame, torch.device("cpu")), state, by_hand.get(number))
        assert state.answer is not None
        assert found.frame == number
        assert found.ids == list(state.ids) == [7, 3, 5][: 3 if number > 1 else 2]
        torch.testing.assert_close(found.logits, state.answer.masks, atol=1e-5, rtol=1e-5)
        assert found.scores == pytest.approx(state.answer.scores.amax(1).tolist(), abs=1e-5)
        assert found.present == pytest.approx(state.answer.object_logits.sigmoid().tolist(), abs=1e-5)
        whole = model.contract.to_image(state.answer.masks, HEIGHT, WIDTH) > 0
        assert (found.masks != whole.numpy()).mean() < 1e-3
    assert found.masks.shape == (3, HEIGHT, WIDTH)


def test_a_mask_comes_back_where_it_was_given(model: Teacher) -> None:
    predictor, mask = VideoPredictor(model), block(slice(5, 35), slice(90, 130))
    predictor.add(1, mask=mask)
    found = predictor.track(video(1)[0])
    assert (found.masks[0] & mask).sum() / (found.masks[0] | mask).sum() > 0.95
    assert found.scores == [1.0]
    assert found.present[0] > 0.99


def test_before_the_first_prompt_there_is_nothing(model: Teacher) -> None:
    frames, predictor = video(4), VideoPredictor(model)
    for number in range(2):
        found = predictor.track(frames[number])
        assert (found.frame, found.ids, found.scores, found.present) == (number, [], [], [])
        assert found.masks.shape == (0, HEIGHT, WIDTH)
    predictor.add(4, box=[10, 20, 60, 50])
    late = [predictor.track(frame) for frame in frames[2:]]
    other = VideoPredictor(model)
    other.add(4, box=[10, 20, 60, 50])
    assert [found.frame for found in late] == [2, 3]
    assert all(same(found, other.track(frame)) for found, frame in zip(late, frames[2:], strict=True))


def test_after_reset_it_is_as_new(model: Teacher) -> None:
    predictor, rounds = VideoPredictor(model), []
    for _ in range(2):
        predictor.add(1, points=[[30, 30]])
        predictor.add(2, box=[5, 5, 30, 30], frame=9)
        rounds.append([predictor.track(frame) for frame in video(5)])
        predictor.reset()
    assert all(same(first, second) for first, second in zip(*rounds, strict=True))
    assert not torch.allclose(rounds[0][0].logits, rounds[0][-1].logits)
    assert not torch.allclose(rounds[0][1].logits, rounds[0][-1].logits)
    wide = np.zeros((30, 90, 3), dtype=np.uint8)
    assert predictor.track(wide).masks.shape == (0, 30, 90)


def test_prompts_may_be_given_for_later_frames(model: Teacher) -> None:
    frames, ahead, live = video(5), VideoPredictor(model), VideoPredictor(model)
    ahead.add(1, box=[10, 20, 40, 40], frame=10)
    ahead.add(2, points=[[50, 9]], frame=16)
    live.add(1, box=[10, 20, 40, 40])
    for place, frame in enumerate(frames):
        if place == 3:
            live.add(2, points=[[50, 9]])
        found = ahead.track(frame, number=10 + 2 * place)
        assert found.frame == 10 + 2 * place
        assert same(found, live.track(frame))
    assert found.ids == [1, 2]


def test_a_correction_changes_its_object_and_its_future(model: Teacher) -> None:
    frames, predictor, untouched = video(4), VideoPredictor(model), VideoPredictor(model)
    for one in (predictor, untouched):
        one.add(1, box=[10, 20, 40, 40])
        one.add(2, mask=block(slice(40, 60), slice(100, 140)))
        one.track(frames[0])
    before, plain = predictor.track(frames[1]), untouched.track(frames[1])
    assert same(before, plain)
    after = predictor.correct(1, points=[[30, 30], [100, 50]], labels=[1, 0])
    assert after.frame == 1
    assert not torch.allclose(after.logits[0], before.logits[0])
    assert torch.equal(after.logits[1], before.logits[1])
    following, plain = predictor.track(frames[2]), untouched.track(frames[2])
    assert not torch.allclose(following.logits[0], plain.logits[0])
    assert torch.allclose(following.logits[1], plain.logits[1], atol=1e-5)


def test_corrections_of_a_frame_add_up(model: Teacher) -> None:
    frame = video(1)[0]
    stepwise, at_once = VideoPredictor(model), VideoPredictor(model)
    stepwise.add(1, points=[[30, 30]])
    stepwise.track(frame)
    stepwise.correct(1, points=[[60, 30]], labels=[0])
    first = stepwise.correct(1, box=[10, 10, 50, 50])
    at_once.add(1, points=[[30, 30], [60, 30]], labels=[1, 0], box=[10, 10, 50, 50])
    second = at_once.track(frame)
    torch.testing.assert_close(first.logits, second.logits, atol=1e-4, rtol=1e-4)
    mask = block(slice(0, 20), slice(0, 60))
    given = stepwise.correct(1, mask=mask).masks[0]
    assert (given & mask).sum() / (given | mask).sum() > 0.95


def test_a_new_prompt_begins_the_object_again(model: Teacher) -> None:
    frames, predictor = video(3), VideoPredictor(model)
    predictor.add(1, box=[100, 2, 150, 40])
    predictor.track(frames[0])
    predictor.add(1, box=[10, 20, 40, 40])
    again = predictor.track(frames[1])
    fresh = VideoPredictor(model)
    fresh.add(1, box=[10, 20, 40, 40])
    torch.testing.assert_close(again.logits, fresh.track(frames[1]).logits)


def test_memory_tokens_are_those_of_the_compressor(model: Teacher) -> None:
    assert VideoPredictor(model).memory_tokens == 8 * 8  # dense, on the 8 x 8 grid


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt"),
        ({"box": [10, 20, 400, 40]}, "frame 0, object 1: box 10 20 400 40 lies outside the image of 160 x 64"),
        ({"points": [[10, 64]]}, "frame 0, object 1: point 10 64 lies outside"),
        ({"points": [[10, 6]], "labels": [1, 0]}, "1 points with 2 labels"),
        ({"points": []}, "0 points with 0 labels"),
        ({"mask": np.ones((WIDTH, HEIGHT), dtype=bool)}, "frame 0, object 1: the mask is 160 x 64 pixels .* 64 x 160"),
        ({"mask": np.zeros((HEIGHT, WIDTH), dtype=bool)}, "the mask is empty"),
        ({"mask": np.ones((HEIGHT, WIDTH), dtype=np.uint8)}, "mask of type uint8: give a boolean array"),
        ({"mask": np.ones((HEIGHT, WIDTH), dtype=bool), "box": [1, 1, 5, 5]}, "a mask together with points or a box"),
    ],
)
def test_prompts_that_do_not_fit(model: Teacher, prompt: dict, message: str) -> None:
    predictor, frame = VideoPredictor(model), video(1)[0]
    with pytest.raises(UserError, match=message):  # noqa: PT012 what the frame must tell is found with the frame
        predictor.add(1, **prompt)
        predictor.track(frame)
    # Nothing of it is kept.
    assert predictor.track(frame).ids == []
    assert predictor.frame == 0


def test_misuse_is_named(model: Teacher) -> None:
    frames, predictor = video(4), VideoPredictor(model)
    with pytest.raises(UserError, match="object 1 is not tracked yet; call add and track"):
        predictor.correct(1, box=[1, 1, 9, 9])
    predictor.add(1, box=[10, 20, 40, 40])
    with pytest.raises(UserError, match="next frame, object 1: the id is used twice"):
        predictor.add(1, points=[[3, 3]])
    predictor.track(frames[0])
    with pytest.raises(UserError, match=r"object 2 is not tracked; the objects are \[1\]"):
        predictor.correct(2, box=[1, 1, 9, 9])
    with pytest.raises(UserError, match="frame 0, object 2: the frame has passed already, the latest is 0"):
        predictor.add(2, box=[1, 1, 9, 9], frame=0)
    with pytest.raises(UserError, match=r"frame 1: is 160 x 64 pixels .* before it are 64 x 160"):
        predictor.track(frames[1].transpose(1, 0, 2))
    with pytest.raises(UserError, match=r"frame 1: array float64 of shape \(64, 160, 3\)"):
        predictor.track(frames[1] / 255)
    with pytest.raises(UserError, match="frame 0: the latest is 0 already"):
        predictor.track(frames[1], number=0)
    predictor.add(2, box=[1, 1, 9, 9])
    predictor.add(2, box=[1, 1, 9, 9], frame=1)
    with pytest.raises(UserError, match="frame 1, object 2: the id is used twice"):
        predictor.track(frames[1])
    predictor.add(2, box=[1, 1, 9, 9], frame=3)
    with pytest.raises(UserError, match="frame 3, object 2: has a prompt, but frame 4 came instead"):
        predictor.track(frames[1], number=4)
    assert predictor.track(frames[1]).ids == [1]


def test_a_model_of_sam_1_cannot_track() -> None:
    with pytest.raises(UserError, match="tiny-sam: segments single images and cannot track"):
        VideoPredictor(tiny_sam())


def test_prompts_on_a_padded_canvas() -> None:
    contract = make_contract(64, 32, "pad")  # 160 x 64 pixels fill 64 x 26 (25.6) of the canvas
    prompt = VideoPrompt.of(points=[[79.5, 31.5]], box=[0, 0, 160, 64]).on_canvas(contract, HEIGHT, WIDTH)
    assert prompt.points is not None
    torch.testing.assert_close(prompt.points, torch.tensor([[31.5, 12.5]]))
    torch.testing.assert_close(prompt.box, torch.tensor([0.0, 0.0, 64.0, 26.0]))
    canvas = mask_to_canvas(block(slice(32, 64), slice(0, 80)), contract)
    assert canvas.shape == (64, 64)
    assert torch.equal(canvas.nonzero().amin(0), torch.tensor([13, 0]))
    assert torch.equal(canvas.nonzero().amax(0), torch.tensor([25, 31]))


def test_a_thin_mask_does_not_vanish() -> None:
    line = block(slice(None), slice(100, 101))
    canvas = mask_to_canvas(line, make_contract(16, 8))
    assert canvas.sum(0).nonzero().flatten().tolist() == [10]  # 100 / 160 of 16
    assert set(canvas.unique().tolist()) == {0.0, 1.0}
