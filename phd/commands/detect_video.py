"""`phd detect` on a video: detect, track, and let the detector confirm what is tracked."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from phd.commands.detect_veval import VevalTracks
from phd.commands.device import checked_device
from phd.commands.json_file import write_json
from phd.commands.track_draw import label_map, picture_of
from phd.commands.track_output import TrackFolder, require_new
from phd.commands.track_run import check_limits, run_session
from phd.errors import UserError
from phd.evaluate.video_track import without_overlap
from phd.video_concepts import ConceptFrame, ConceptTracker, ConceptTrackSettings
from phd.video_source import SourceFrame

# Labels of a label map; 255 stands for "undecided" in DAVIS's.
MOST_OBJECTS = 254


def run_video(options: argparse.Namespace) -> dict[str, Any]:
    """Detect and track, write overlay, label maps and JSON, and say what was found of each phrase."""
    from phd.loading import load_segmenter
    from phd.video_source import open_source

    check_limits(options)
    categories = category_ids(options)
    device, settings = checked_device(options.device), settings_of(options)
    out = options.out or Path(options.source).with_name(f"{Path(options.source).stem}_detect")
    require_new(out)
    source = open_source(options.source)
    tracker = ConceptTracker(load_segmenter(options.model, options.image_size), list(categories), device, settings)
    session = ConceptSession(tracker)
    frames = islice(source.frames, options.max_frames)
    folder = run_session(session, frames, source, out, options, "detect and track", {"settings": vars(settings)})
    if options.save is not None:
        video_id = 1 if options.video_id is None else options.video_id
        write_json(options.save, session.veval.predictions(video_id, categories))
    report(session, folder, out)
    return folder.about


def category_ids(options: argparse.Namespace) -> dict[str, int]:
    """The id of each phrase.

    Raises:
        UserError: There is no phrase, or ids are of another number.
    """
    phrases = list(dict.fromkeys(options.phrases))
    if not phrases:
        raise UserError('no phrase: give one, such as "dog"')
    ids = options.category_id or list(range(1, len(phrases) + 1))
    if len(ids) != len(phrases) or len(set(ids)) != len(ids):
        raise UserError(f"--category-id: {len(ids)} ids {ids} for {len(phrases)} phrases; give each phrase its own")
    return dict(zip(phrases, ids, strict=True))


def settings_of(options: argparse.Namespace) -> ConceptTrackSettings:
    """The settings that are given, the others by default."""
    names = ("threshold", "nms", "new_threshold", "delay", "reprompt_every")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return ConceptTrackSettings(**given, max_objects=MOST_OBJECTS)


class ConceptSession:
    """Gives frames to the tracker and writes its answers, which come later.

    Args:
        tracker: Has seen no frame.
    """

    def __init__(self, tracker: ConceptTracker) -> None:
        self.tracker, self.veval = tracker, VevalTracks()
        self.seconds: list[float] = []
        self._waiting: deque[SourceFrame] = deque()
        self._objects: dict[str, set[int]] = {phrase: set() for phrase in tracker.phrases}
        self._presence = dict.fromkeys(tracker.phrases, 0.0)

    @property
    def fps(self) -> float:
        """Frames a second: encoding, detecting, memory and masks, without reading and writing."""
        return len(self.seconds) / sum(self.seconds) if self.seconds else 0.0

    def phrases(self) -> list[dict[str, Any]]:
        """Of each phrase its objects and the largest presence in any frame."""
        return [
            {"phrase": phrase, "objects": sorted(ids), "largest_presence": self._presence[phrase]}
            for phrase, ids in self._objects.items()
        ]

    def summary(self) -> dict[str, Any]:
        """For the JSON."""
        return {"phrases": self.phrases(), "tracking_fps": self.fps}

    def run(self, frames: Iterable[SourceFrame], folder: TrackFolder) -> None:
        """Detect and track in all frames; what the tracker holds back is written however it ends.

        Raises:
            UserError: The source breaks off, or there are more objects than labels.
        """
        try:
            for frame in frames:
                began = perf_counter()
                self._waiting.append(frame)
                found = self.tracker.track(frame.pixels, frame.number)
                self.seconds.append(perf_counter() - began)
                for answer in found:
                    self._write(answer, folder)
        finally:
            for answer in self.tracker.finish():
                self._write(answer, folder)

    def _write(self, found: ConceptFrame, folder: TrackFolder) -> None:
        frame = self._waiting.popleft()
        if max(found.ids, default=0) > MOST_OBJECTS:
            raise UserError(
                f"{frame.where}: more than {MOST_OBJECTS} objects, which a label map cannot tell apart; ask fewer "
                f"phrases, or raise --new-threshold"
            )
        labels = label_map(found.ids, without_overlap(found, self.tracker.model.contract))
        names = {number: f"{number} {phrase}" for number, phrase in zip(found.ids, found.phrases, strict=True)}
        folder.write(frame, found, labels, picture_of(frame.pixels, labels, names=names))
        entry = folder.frames[-1]
        entry["presence"] = found.presence
        for row, phrase, score in zip(entry["objects"], found.phrases, found.detected, strict=True):
            row |= {"phrase": phrase, "detection_score": score}
        self.veval.add(found)
        for number, phrase in zip(found.ids, found.phrases, strict=True):
            self._objects[phrase].add(number)
        for phrase, value in found.presence.items():
            self._presence[phrase] = max(self._presence[phrase], value)


def report(session: ConceptSession, folder: TrackFolder, out: Path) -> None:
    """Print what was found of each phrase, and what was left out."""
    for row in session.phrases():
        told = f"{len(row['objects'])} found" if row["objects"] else "not found"
        print(f"{row['phrase']}: {told}; presence at most {row['largest_presence']:.2f}")
    tracker = session.tracker
    if tracker.num_removed or tracker.num_over_limit:
        print(
            f"left out: {tracker.num_removed} that the detector did not confirm or that lay on another object, "
            f"{tracker.num_over_limit} beyond {tracker.settings.max_objects} at once"
        )
    print(
        f"{len(folder.frames)} frames, {session.fps:.2f} frames/s on {tracker.device}; {out}/overlay.mp4, masks and "
        f"tracks.json"
    )
