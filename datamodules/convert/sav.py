"""SA-V train as it is published: sav_1.mp4 with sav_1_manual.json and sav_1_auto.json."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.masklets import PUBLISHED_STRIDE, Masklets, good_objects, read_masklets, stride_of
from datamodules.convert.mp4 import Extracted, every_frame
from datamodules.convert.raw import tar_safe
from datamodules.convert.sa1b import natural
from datamodules.video_record import check_video, frame_extension
from phd.errors import UserError

WHICH = {"manual": ("manual",), "auto": ("auto",), "both": ("manual", "auto")}


@dataclass(frozen=True)
class RawVideo:
    """One video of the raw folder.

    Attributes:
        name: Without suffix.
        mp4: None where there are annotations only.
        annotations: JSONs of the chosen kinds.
        other: A JSON of a kind that was not chosen.
    """

    name: str
    mp4: Path | None
    annotations: tuple[Path, ...]
    other: Path | None

    def __str__(self) -> str:
        return str(self.mp4 or self.annotations[0])

    def check(self, which: str) -> None:
        """Check that nothing is missing.

        Raises:
            UserError: The mp4, or every JSON of the chosen kinds.
        """
        if self.mp4 is None:
            raise UserError(f"{self.annotations[0]}: has no {self.name}.mp4; add that or remove this")
        if not self.annotations:
            wanted = " or ".join(f"{self.name}_{kind}.json" for kind in WHICH[which])
            hint = f", or choose --annotations both to use {self.other.name}" if self.other else ""
            raise UserError(f"{self.mp4}: has no {wanted}; add that or remove this{hint}")


def raw_videos(raw: Path, which: str) -> list[RawVideo]:
    """The videos below a folder in the natural order of their names.

    Video and JSON are joined by name, so they may lie in different folders.

    Raises:
        UserError: There are none, or two files have the same name.
    """
    files: dict[str, Path] = {}
    names: set[str] = set()
    for path in sorted(raw.rglob("*")):
        stem, _, kind = path.stem.rpartition("_")
        is_json = path.suffix == ".json" and kind in WHICH["both"]
        if path.name.startswith(".") or (path.suffix != ".mp4" and not is_json):
            continue  # what begins with a dot are notes of an operating system
        if path.name in files:
            raise UserError(f"{path}: {files[path.name]} has the same name; remove one of them")
        files[path.name] = path
        names.add(stem if is_json else path.stem)
    if not names:
        state = "no .mp4 with _manual.json or _auto.json below it" if raw.is_dir() else "no such folder"
        raise UserError(f"{raw}: {state}; name the folder with the raw files of SA-V")
    found: list[RawVideo] = []
    for name in sorted(names, key=natural):
        by_kind = {kind: files[f"{name}_{kind}.json"] for kind in WHICH["both"] if f"{name}_{kind}.json" in files}
        chosen = tuple(by_kind[kind] for kind in WHICH[which] if kind in by_kind)
        other = next((path for path in by_kind.values() if path not in chosen), None)
        if chosen or f"{name}.mp4" in files:
            found.append(RawVideo(name, files.get(f"{name}.mp4"), chosen, other))
    return found


def agreed_stride(parts: Sequence[Masklets]) -> int:
    """The stride of all JSONs of a video, whose sizes and annotated frames must be the same.

    Raises:
        UserError: They differ, or no stride fits.
    """
    first = parts[0]
    said = first.video.get("video_frame_count")
    # The length comes from the JSON so that one pass over the video is enough; the pass then checks it.
    stride = stride_of(first, said if isinstance(said, int) else PUBLISHED_STRIDE * len(first.masks))
    for part in parts[1:]:
        if (part.height, part.width, len(part.masks)) != (first.height, first.width, len(first.masks)):
            raise UserError(f"{part.path}: differs from {first.path.name} in size or annotated frames; use only one")
    return stride


def _check_video(video: Extracted, masklets: Masklets, stride: int, mp4: Path) -> None:
    """Check that the video has the annotated size, every annotated frame, and no more at its end.

    Raises:
        UserError: It has not.
    """
    name, last = masklets.path.name, stride * (len(masklets.masks) - 1)
    if video.count <= last:
        raise UserError(
            f"{mp4}: ends with frame {video.count - 1}, but {name} has masks for frame {last}; download both again"
        )
    if video.count > last + stride:
        raise UserError(
            f"{mp4}: has {video.count} frames, but {name} has masks for every {stride}th only up to frame {last}; "
            f"download both again"
        )
    if (video.height, video.width) != (masklets.height, masklets.width):
        raise UserError(
            f"{mp4}: the frames are {video.height} x {video.width} pixels (height x width) but {name} says "
            f"{masklets.height} x {masklets.width}; give the video that was annotated"
        )


def read_video(source: RawVideo, which: str, all_frames: bool, max_pixels: int) -> Converted:
    """One video with its masklets, and its annotated frames or all.

    Raises:
        UserError: A file is missing or damaged, or they do not belong together.
    """
    source.check(which)
    assert source.mp4 is not None
    parts = [read_masklets(path) for path in source.annotations]
    first, stride = parts[0], agreed_stride(parts)
    objects, problems = good_objects(parts, stride)
    video = every_frame(source.mp4, 1 if all_frames else stride, (first.height, first.width), max_pixels)
    _check_video(video, first, stride, source.mp4)
    labelled = [place for place, number in enumerate(video.frames) if number % stride == 0]
    if all_frames:
        objects = [{**each, "masks": _between(each["masks"], labelled, len(video.frames))} for each in objects]
    about = {"name": source.name, "height": video.height, "width": video.width, "frame_count": video.count}
    record = {
        "video": {**first.video, **about, **({"fps": video.fps} if video.fps else {})},
        "frames": list(video.frames),
        "labelled": labelled,
        "objects": objects,
    }
    check_video(record, str(first.path))
    members = {frame_extension(number): jpeg for number, jpeg in video.frames.items()}
    return Converted(tar_safe(source.name), members, record, problems, reencoded=True)


def _between(masks: Sequence[Any], labelled: Sequence[int], count: int) -> list[Any]:
    """The masks of the annotated frames at their places among all frames."""
    spread: list[Any] = [None] * count
    for place, mask in zip(labelled, masks, strict=True):
        spread[place] = mask
    return spread


def plan_sav(options: argparse.Namespace) -> Plan[RawVideo]:
    """Find the videos; without `--skip-bad`, what has no partner is an error before anything is decoded."""
    which: str = options.annotations
    videos = raw_videos(Path(options.raw), which)
    details: dict[str, int | str] = {"annotations": which}
    if which == "auto":
        # 2,147 of the 50,583 published videos have manual masklets only.
        details["videos_without_auto"] = sum(not video.annotations and video.other is not None for video in videos)
        videos = [video for video in videos if video.annotations or video.other is None]
    if not options.skip_bad:
        for video in videos:
            video.check(which)
    read = partial(read_video, which=which, all_frames=options.all_frames, max_pixels=options.max_pixels)
    return Plan(videos, read, details)


SAV = Kind(
    name="sav",
    form="video",
    help="SA-V train: mp4 and JSON; the annotated frames are kept, or all, as JPEG",
    paths=(("raw", "folder with sav_*.mp4 and sav_*_manual.json or _auto.json, in subfolders or not"),),
    plan=plan_sav,
    flags=(
        (
            "--annotations",
            {"choices": list(WHICH), "default": "manual", "help": "which masklets to take (default: %(default)s)"},
        ),
        (
            "--all-frames",
            {
                "action": "store_true",
                "help": "keep the frames between the annotated ones too, as SA-V's own evaluation tracks through them",
            },
        ),
    ),
    samples_per_shard=50,
)
