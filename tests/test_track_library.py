"""Tracking against the library's own inference session with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from teacher_cases import stirred
from tiny_video import tiny_sam2_video, tiny_sam3_video
from torch import Tensor
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import (
    Sam3TrackerVideoInferenceSession,
    Sam3TrackerVideoModel,
)

from phd.contract import ObjectPrompt
from phd.heads.memory.rules import PLAIN
from phd.heads.memory.streaming import track
from phd.teachers import Teacher

FRAMES = 9  # more than the recent slots, so that the ring turns
POINTS = ObjectPrompt(points=torch.tensor([[40.0, 71.0], [90.0, 12.0]]), labels=torch.tensor([1, 0]))
POINT = ObjectPrompt(points=torch.tensor([[40.0, 71.0]]), labels=torch.tensor([1]))
BOX = ObjectPrompt(box=torch.tensor([10.0, 31.0, 97.0, 64.0]))


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=[tiny_sam2_video, tiny_sam3_video], ids=["sam2", "sam3"])
def teacher(request: pytest.FixtureRequest) -> Teacher:
    return awake(stirred(request.param()))


def awake(teacher: Teacher) -> Teacher:
    """The teacher with an object score around 0, so that objects come and go, and with wide memories."""
    tracker = teacher.heads.tracker_model
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(1.0)
    return teacher


def library_model(teacher: Teacher) -> Any:
    """The library's video model on the teacher's modules."""
    if isinstance(teacher.model, Sam2VideoModel):
        return teacher.model
    config = copy.deepcopy(teacher.model.config.tracker_config)
    model = Sam3TrackerVideoModel(config, remove_vision_encoder=True)
    own = teacher.model.tracker_model.state_dict()
    model.load_state_dict(own)
    return model.eval()


def clip(teacher: Teacher, seed: int = 0) -> Tensor:
    """Frames (FRAMES, 3, S, S) that change slowly."""
    side = teacher.contract.image_size
    noise = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    steps = torch.linspace(0, 1, FRAMES).view(-1, 1, 1, 1)
    return (1 - steps) * noise[:1] + steps * noise[1:]


def session_for(teacher: Teacher) -> Any:
    side = teacher.contract.image_size
    cls = Sam2VideoInferenceSession if teacher.contract.family == "sam2" else Sam3TrackerVideoInferenceSession
    session: Any = cls(video=None, video_height=side, video_width=side, dtype=torch.float32)
    return session


def feed(model: Any, teacher: Teacher, session: Any, frame: Tensor, number: int) -> Any:
    """Give the session the frame with the teacher's features: the heads are compared, not the encoders."""
    features = teacher.encode(frame[None], ("tracker",))
    fine, middle, coarse = features.tracker
    levels = [model.mask_decoder.conv_s0(fine), model.mask_decoder.conv_s1(middle), coarse]
    positions = [
        type(model.memory_encoder.position_encoding)(level.shape[1] // 2, normalize=True)(
            level.shape, level.device, level.dtype
        )
        for level in (fine, middle, coarse)
    ]
    session.cache.cache_vision_features(
        number,
        {
            "vision_feats": [level.flatten(2).permute(2, 0, 1) for level in levels],
            "vision_pos_embeds": [position.flatten(2).permute(2, 0, 1) for position in positions],
        },
    )
    return model(session, frame=frame[None])


def ask(session: Any, number: int, frame: int, prompt: ObjectPrompt) -> None:
    """The prompt as the library's processor stores it."""
    index = session.obj_id_to_idx(number)
    if prompt.mask is not None:
        session.add_mask_inputs(index, frame, prompt.mask[None, None])
    else:
        points = [] if prompt.box is None else [prompt.box.view(2, 2)]
        labels = [] if prompt.box is None else [torch.tensor([2, 3])]
        if prompt.points is not None and prompt.labels is not None:
            points.append(prompt.points)
            labels.append(prompt.labels)
        inputs = {"point_coords": torch.cat(points)[None, None], "point_labels": torch.cat(labels)[None, None].int()}
        session.add_point_inputs(index, frame, inputs)
    session.obj_with_new_inputs.append(number)


def a_mask(teacher: Teacher) -> ObjectPrompt:
    mask = torch.zeros(teacher.contract.image_size, teacher.contract.image_size)
    mask[20:70, 30:80] = 1
    return ObjectPrompt(mask=mask)


def run_both(teacher: Teacher, prompts: dict[int, dict[int, ObjectPrompt]]) -> tuple[list[Tensor], list[Tensor]]:
    """Mask logits (N, m, m) of each frame: ours, and the library's."""
    model, session, state = library_model(teacher), session_for(teacher), None
    mine, theirs = [], []
    for number, frame in enumerate(clip(teacher)):
        for identity, prompt in prompts.get(number, {}).items():
            ask(session, identity, number, prompt)
        output = feed(model, teacher, session, frame, number)
        theirs.append(output.pred_masks.view(-1, *output.pred_masks.shape[-2:]).float())
        features = teacher.encode(frame[None], ("tracker",))
        state = track(teacher.heads, features, state, prompts.get(number), PLAIN)
        assert state.answer is not None
        mine.append(state.answer.masks)
    return mine, theirs


CASES: dict[str, Callable[[Teacher], dict[int, dict[int, ObjectPrompt]]]] = {
    "mask": lambda teacher: {0: {1: a_mask(teacher)}},
    "point": lambda teacher: {0: {1: POINT}},
    "points": lambda teacher: {0: {1: POINTS}},
    "box": lambda teacher: {0: {1: BOX}},
    "prompted again": lambda teacher: {0: {1: a_mask(teacher)}, 4: {1: POINT}, 7: {1: BOX}},
    "two objects": lambda teacher: {0: {7: BOX, 3: a_mask(teacher)}},
}


@pytest.mark.parametrize("case", CASES)
def test_a_clip_is_tracked_as_the_library_does(teacher: Teacher, case: str) -> None:
    mine, theirs = run_both(teacher, CASES[case](teacher))
    assert len(mine) == FRAMES
    for number, (ours, reference) in enumerate(zip(mine, theirs, strict=True)):
        # The library keeps its memory in bfloat16.
        scale = reference.abs().clamp(max=100).mean().clamp(min=1)
        worst = ((ours - reference).abs() / scale).max()
        assert worst < 1e-3, f"frame {number}: {worst}"
    assert not torch.allclose(mine[1], mine[-1])
