"""The frames of the overlay video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from phd.draw import overlay
from phd.evaluate.video_folders import davis_palette
from phd.predict import mask_box
from phd.video_prompt import VideoPrompt

OPACITY = 0.5
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def label_map(ids: Sequence[int], masks: np.ndarray) -> np.ndarray:
    """The object of each pixel, (H, W) uint8, 0 where there is none; the masks (N, H, W) bool do not overlap."""
    labels = np.zeros(masks.shape[1:], dtype=np.uint8)
    for number, mask in zip(ids, masks, strict=True):
        labels[mask] = number
    return labels


def picture_of(
    image: np.ndarray,
    labels: np.ndarray,
    prompts: Sequence[VideoPrompt] = (),
    names: Mapping[int, str] | None = None,
) -> np.ndarray:
    """The frame with its objects half-transparent in the colours of the label maps, their numbers, and the prompts.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8.
        prompts: That were given for this frame; masks are not drawn.
        names: What is written on an object, by its label; the label itself where there is none.
    """
    line = max(1, round(max(labels.shape) / 400))
    colours = np.array(davis_palette(), dtype=np.float32).reshape(256, 3)[labels]
    share = np.where(_contour(labels, line), 1, OPACITY * (labels > 0))[..., None]
    canvas = Image.fromarray((image * (1 - share) + colours * share).round().astype(np.uint8))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=10 + 4 * line)
    for number in np.unique(labels[labels > 0]):
        box = mask_box(labels == number)
        assert box is not None
        name = (names or {}).get(int(number), str(number))
        draw.text((box[0], box[1]), name, fill=(255, 255, 255), font=font, stroke_width=line, stroke_fill=(0, 0, 0))
    for prompt in prompts:
        canvas = overlay(np.asarray(canvas), None, prompt.box, prompt.points, prompt.labels)
    return np.asarray(canvas)


def _contour(labels: np.ndarray, line: int) -> np.ndarray:
    """Pixels (H, W) bool of objects next to another label; the image's edge is contour too."""
    height, width = labels.shape
    padded = np.pad(labels, line)
    shifts = ((0, line), (2 * line, line), (line, 0), (line, 2 * line))
    others = [padded[y : y + height, x : x + width] != labels for y, x in shifts]
    return np.logical_or.reduce(others) & (labels > 0)
