"""Which objects are prompted in which frame of an evaluation, and how: fixed prompts from the true masks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from phd.evaluate.clicks import centre
from phd.evaluate.video_protocol import Protocol
from phd.outputs import LabelledVideo
from phd.predict import mask_box

PromptKind = Literal["mask", "box", "point"]
WORDS = {
    "mask": "the true mask",
    "box": "the tight box of the true mask: x0, y0, xmax + 1, ymax + 1",
    "point": "one positive click, the pixel of the true mask farthest from its border; the image's edge is border, "
    "the first in row-major order where equal",
}


def prompt_of(mask: np.ndarray, kind: PromptKind) -> dict[str, Any]:
    """The arguments of `VideoPredictor.add` for a true mask (H, W) bool, not empty."""
    if kind == "mask":
        return {"mask": mask}
    if kind == "box":
        return {"box": mask_box(mask)}
    return {"points": [centre(mask)], "labels": [1]}


def beginnings(video: LabelledVideo, protocol: Protocol) -> dict[int, list[int]]:
    """The places in which objects are prompted, with their positions in `ids`.

    Each object begins in the first labelled frame that shows it; by `davis` only those of the first labelled frame do.
    """
    found: dict[int, list[int]] = {}
    for position, masks in enumerate(video.masks):
        place = next((place for place in video.labelled if masks[place] is not None), None)
        if place is not None and (protocol != "davis" or place == video.labelled[0]):
            found.setdefault(place, []).append(position)
    return found
