"""What `phd track` does with each frame: it gives the prompts to the predictor and hands on the answer."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import Any

from phd.commands.track_draw import label_map, picture_of
from phd.commands.track_output import TrackFolder
from phd.errors import UserError
from phd.evaluate.video_track import without_overlap
from phd.video_predictor import TrackedImage, VideoPredictor
from phd.video_prompt import VideoPrompt
from phd.video_source import SourceFrame


class Session:
    """The first prompt of an object begins it, later ones correct it.

    Args:
        predictor: Has seen no frame.
        source: Name of the video.
        prompts: By the number of the frame and the object.

    Attributes:
        seconds: That the predictor took, of the frames with an object.
    """

    def __init__(self, predictor: VideoPredictor, source: str, prompts: dict[int, dict[int, VideoPrompt]]) -> None:
        self.predictor, self.source = predictor, source
        self.seconds: list[float] = []
        self._prompts = dict(prompts)
        self._objects: set[int] = set()

    @property
    def objects(self) -> int:
        """How many objects have begun."""
        return len(self._objects)

    @property
    def fps(self) -> float:
        """Frames a second: encoding, memory and masks, without reading and writing; 0 without objects."""
        return len(self.seconds) / sum(self.seconds) if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """For the JSON."""
        return {"tracking_fps": self.fps}

    def run(self, frames: Iterable[SourceFrame], folder: TrackFolder) -> None:
        """Track all frames.

        Raises:
            UserError: The source breaks off, a prompt does not fit, or its frame never comes.
        """
        latest = None
        for frame in frames:
            prompts = self._prompts.pop(frame.number, {})
            tracked = self._track(frame, prompts)
            labels = label_map(tracked.ids, without_overlap(tracked, self.predictor.model.contract))
            folder.write(frame, tracked, labels, picture_of(frame.pixels, labels, list(prompts.values())))
            latest = frame.number
        if self._prompts:
            number, prompts = min(self._prompts.items())
            raise UserError(
                f"{self.source}: object {min(prompts)} has a prompt for frame {number}, but the last frame "
                f"is {latest}; leave it out"
            )

    def _track(self, frame: SourceFrame, prompts: dict[int, VideoPrompt]) -> TrackedImage:
        began = perf_counter()
        new = prompts.keys() - self._objects
        for number, prompt in prompts.items():
            if number in new:
                self.predictor.add(number, **_arguments(prompt))
        tracked = self.predictor.track(frame.pixels, frame.number)
        for number, prompt in prompts.items():
            if number not in new:
                tracked = self.predictor.correct(number, **_arguments(prompt))
        self._objects |= new
        if tracked.ids:
            self.seconds.append(perf_counter() - began)
        return tracked


def _arguments(prompt: VideoPrompt) -> dict[str, Any]:
    return {
        "points": prompt.points or None,
        "labels": prompt.labels or None,
        "box": prompt.box,
        "mask": prompt.mask,
    }
