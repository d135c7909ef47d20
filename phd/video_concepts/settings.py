"""The thresholds by which detections and masklets are put together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from phd.errors import UserError


@dataclass(frozen=True)
class ConceptTrackSettings:
    """By default those of SAM 3 (`Sam3VideoConfig`).

    Attributes:
        threshold: Detections have a score above it.
        nms: A detection goes that overlaps a better one of its phrase by an IoU above this.
        match_iou: A detection from this IoU with a masklet on belongs to it and begins no other.
        confirm_iou: A masklet from this IoU with a detection on is confirmed in this frame.
        new_threshold: A detection without masklet begins one from this score on.
        delay: Frames that an answer is held back; only in as many frames after its beginning a masklet can be removed.
        remove_unconfirmed: Removed after so many frames in which it was seen but not confirmed.
        remove_duplicate: Removed after so many frames in which it shared a detection with an older one.
        reprompt_every: In every so many frames a good detection prompts its masklet anew; 0 for never.
        reprompt_score: From this score of the detection, and above this presence of the masklet.
        reprompt_iou: And from this IoU of the two.
        reprompt_with: The "detection", as the paper has it, or the "masklet" itself, as the library by default: then
            the detection only vouches for it.
        overlap_iou: Of two masklets of a phrase that overlap from this IoU on, the one that was hidden last is hidden.
        hide_unconfirmed: Also hide a masklet that was unconfirmed for `keep_alive` frames more than confirmed, at any
            time; it stays in memory.
        keep_alive: See there.
        max_objects: Tracked at once; of further detections the best ones have precedence.
    """

    threshold: float = 0.5
    nms: float = 0.1
    match_iou: float = 0.1
    confirm_iou: float = 0.5
    new_threshold: float = 0.7
    delay: int = 15
    remove_unconfirmed: int = 8
    remove_duplicate: int = 8
    reprompt_every: int = 16
    reprompt_score: float = 0.8
    reprompt_iou: float = 0.8
    reprompt_with: Literal["detection", "masklet"] = "detection"
    overlap_iou: float = 0.7
    hide_unconfirmed: bool = False
    keep_alive: int = 30
    max_objects: int = 254

    def check(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A setting is out of its range.
        """
        least = {"delay": 0, "reprompt_every": 0}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, float) and not 0 <= value <= 1:
                raise UserError(f"{setting.name} is {value}; give a number from 0 to 1")
            if type(value) is int and value < least.get(setting.name, 1):
                raise UserError(f"{setting.name} is {value}; give at least {least.get(setting.name, 1)}")
        if self.reprompt_with not in ("detection", "masklet"):
            raise UserError(f'reprompt_with is {self.reprompt_with!r}; give "detection" or "masklet"')
