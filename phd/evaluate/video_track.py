"""Tracks a whole video from the prompts of a protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from phd.contract import Contract
from phd.evaluate.video_prompt import PromptKind, prompt_of
from phd.evaluate.video_source import Rle, decoded, encoded
from phd.evaluate.video_speed import Clock
from phd.outputs import LabelledVideo
from phd.video_predictor import TrackedImage, VideoPredictor

# By object and place, for labelled places only; None where the mask is empty.
Masklets = list[dict[int, Rle | None]]


def track_video(
    predictor: VideoPredictor,
    video: LabelledVideo,
    begin: dict[int, list[int]],
    kind: PromptKind,
    *,
    label_map: bool,
    clock: Clock,
) -> Masklets:
    """The masks of all objects in the labelled frames, at the video's size.

    All frames from the first prompt to the last labelled frame are tracked in order, labelled or not, each encoded once
    and all objects together. An object has no mask before its prompt.

    Args:
        predictor: Begins anew.
        video: To be tracked.
        begin: As `beginnings` has it.
        kind: Of the prompts.
        label_map: Give each pixel to one object, as a label map must; otherwise masks may overlap.
        clock: Takes the model's time.
    """
    predictor.reset()
    clock.next_video()
    found: Masklets = [dict.fromkeys(video.labelled) for _ in video.ids]
    labelled = set(video.labelled)
    for place in range(min(begin, default=len(video.frames)), video.labelled[-1] + 1):
        image = video.read(place)
        prompts: dict[int, dict[str, Any]] = {
            position: prompt_of(decoded(video.masks[position][place], video.height, video.width), kind)
            for position in begin.get(place, [])
        }
        with clock.frame():
            for position, prompt in prompts.items():
                predictor.add(position, **prompt)
            tracked = predictor.track(image)
        if place in labelled:
            masks = without_overlap(tracked, predictor.model.contract) if label_map else tracked.masks
            for position, mask in zip(tracked.ids, masks, strict=True):
                found[position][place] = encoded(mask)
    return found


def without_overlap(tracked: TrackedImage, contract: Contract) -> np.ndarray:
    """The masks (N, H, W) bool, a pixel of several objects given to that with the largest logit."""
    masks = tracked.masks
    if masks.sum(0).max(initial=0) < 2:
        return masks
    logits = contract.to_image(tracked.logits, masks.shape[1], masks.shape[2])
    claimed = logits.masked_fill(~torch.from_numpy(masks), -torch.inf)
    winner = claimed.max(0).indices.numpy()
    return masks & (winner == np.arange(len(masks))[:, None, None])
