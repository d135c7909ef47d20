"""The prompts of `phd track`: their grammar on the command line, and what they mean for a video."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phd.errors import UserError

if TYPE_CHECKING:
    from phd.video_prompt import VideoPrompt

MOST_OBJECTS = 254  # in a label map 0 is background and 255 is void

GRAMMAR = """how prompts belong together:
  Each object has a group of prompts. --object begins a group; what comes before the first --object
  is the group of object 1. --object without ID takes the next number.
  A group is about one frame, --frame N, by default the first; the object begins there.
  A second group for the same ID is a correction: it is read in its later frame beside the memory.
  Of a folder whose files are named by numbers, N is that number; otherwise frames count from 0.

examples:
  phd track clip.mp4 --box 10 20 200 240 --model M --out OUT
  phd track clip.mp4 --point 50 60 --object --frame 12 --box 90 20 140 80 --model M --out OUT
  phd track frames/ --mask 00000.png --object 1 --frame 40 --negative 30 80 --model M --out OUT
"""


@dataclass
class Group:
    """The prompts for one object in one frame, as they were given."""

    object_id: int
    frame: int | None = None
    box: list[float] | None = None
    points: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    mask: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        mask = None if self.mask is None else str(self.mask)
        prompts = {"box": self.box, "points": self.points, "labels": self.labels, "mask": mask}
        return {"object": self.object_id, "frame": self.frame, **prompts}


class _Collect(argparse.Action):
    """Puts a prompt into the group that is open, so that the order of the options counts."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        groups: list[Group] = getattr(namespace, "groups", None) or []
        namespace.groups = groups
        if self.dest == "object":
            following = max((group.object_id for group in groups), default=0) + 1
            groups.append(Group(following if values is None else values))
            return
        if not groups:
            groups.append(Group(1))
        group = groups[-1]
        if self.dest in ("point", "negative"):
            group.points.append(values)
            group.labels.append(int(self.dest == "point"))
        elif getattr(group, self.dest) is not None:
            raise UserError(f"object {group.object_id}: --{self.dest} is given twice; begin a new group with --object")
        else:
            setattr(group, self.dest, values)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """The options for prompts; the parsed namespace has `groups`."""
    options = parser.add_argument_group("prompts")
    collect: dict[str, Any] = {"action": _Collect, "default": argparse.SUPPRESS}
    options.add_argument("--object", nargs="?", type=int, metavar="ID", help="begin an object's prompts", **collect)
    options.add_argument("--frame", type=int, metavar="N", help="their frame (default: the first)", **collect)
    corners = ("X0", "Y0", "X1", "Y1")
    options.add_argument("--box", type=float, nargs=4, metavar=corners, help="in pixels of the video", **collect)
    for name, meaning in (("--point", "a point on the object"), ("--negative", "a point that is not on it")):
        options.add_argument(name, type=float, nargs=2, metavar=("X", "Y"), help=meaning, **collect)
    options.add_argument(
        "--mask",
        type=Path,
        metavar="PNG",
        help="the object's mask in that frame, not 0 where the object is; of several labels the object's ID",
        **collect,
    )


def checked_groups(groups: Sequence[Group]) -> list[Group]:
    """The groups, each with a prompt that makes sense.

    Raises:
        UserError: There is none, or one of them is empty, contradicts itself or has an ID that masks cannot hold.
    """
    if not groups:
        raise UserError("no prompt: give --box X0 Y0 X1 Y1, --point X Y or --mask PNG")
    for group in groups:
        where = f"--object {group.object_id}"
        if not 1 <= group.object_id <= MOST_OBJECTS:
            raise UserError(f"{where}: give an ID from 1 to {MOST_OBJECTS}; a label map holds no other")
        if group.mask is not None and (group.box is not None or group.points):
            raise UserError(f"{where}: --mask stands alone; correct it with a group for a later frame")
        if group.mask is None and group.box is None and not group.points:
            raise UserError(f"{where}: has no prompt; add --box, --point or --mask")
    return list(groups)


def by_frame(
    groups: Sequence[Group], source: str, numbers: Sequence[int] | None, max_frames: int | None
) -> dict[int, list[Group]]:
    """The groups by the number of their frame.

    Args:
        groups: Frames that were not given become the first one.
        source: Its name.
        numbers: Of the source's frames, None where they are not known.
        max_frames: Read no more than these.

    Raises:
        UserError: There is no such frame, an object has two groups for one, or begins with negative points alone.
    """
    if numbers is None and max_frames is not None:
        numbers = range(max_frames)
    read = None if numbers is None else numbers[:max_frames]
    found: dict[int, list[Group]] = {}
    for group in groups:
        group.frame = (0 if read is None else read[0]) if group.frame is None else group.frame
        if group.frame < 0 or (read is not None and group.frame not in read):
            span = "0 and later ones" if read is None else f"{read[0]} to {read[-1]}"
            cut = "" if max_frames is None else f" by --max-frames {max_frames}"
            raise UserError(
                f"{source}: object {group.object_id} has a prompt for frame {group.frame}, which is not there; "
                f"the frames are {span}{cut}"
            )
        if any(other.object_id == group.object_id for other in found.get(group.frame, [])):
            raise UserError(
                f"{source}: frame {group.frame}: object {group.object_id} is used twice; put its prompts into one "
                f"group, or give another object another ID"
            )
        found.setdefault(group.frame, []).append(group)
    begun: set[int] = set()
    for frame, ones in sorted(found.items()):
        for group in ones:
            if group.object_id not in begun and not (group.mask or group.box or 1 in group.labels):
                raise UserError(
                    f"{source}: frame {frame}: object {group.object_id} begins with points that are not on it; "
                    f"add --point or --box"
                )
            begun.add(group.object_id)
    return found


def read_prompts(
    coming: dict[int, list[Group]], source: str, height: int, width: int
) -> dict[int, dict[int, VideoPrompt]]:
    """The prompts by frame and object, all checked before anything is tracked, since all frames have one size.

    Args:
        coming: The groups by frame.
        source: Name of the video.
        height: Of its frames, in pixels.
        width: Likewise.

    Raises:
        UserError: A prompt does not fit the frames.
    """
    found: dict[int, dict[int, VideoPrompt]] = {}
    for number, groups in coming.items():
        for group in groups:
            try:
                prompt = read_prompt(group, height, width)
                prompt.check(height, width)
            except UserError as error:
                raise UserError(f"{source}: frame {number}, object {group.object_id}: {error}") from error
            found.setdefault(number, {})[group.object_id] = prompt
    return found


def read_prompt(group: Group, height: int, width: int) -> VideoPrompt:
    """The prompt for frames of this size; a mask is read from its file.

    Raises:
        UserError: The mask is missing or no label map, has another size, or does not say which label is the object.
    """
    from phd.video_prompt import VideoPrompt

    if group.mask is None:
        return VideoPrompt.of(group.points or None, group.labels or None, group.box)
    import numpy as np

    from phd.evaluate.video_trees import read_labels

    where = str(group.mask)
    if not group.mask.is_file():
        raise UserError(f"{where}: no such file; check the path")
    labels = read_labels(group.mask)
    if labels.shape != (height, width):
        raise UserError(
            f"{where}: the mask is {labels.shape[0]} x {labels.shape[1]} pixels (height x width) but the frames are "
            f"{height} x {width}; give a mask of their size"
        )
    values = [int(value) for value in np.unique(labels) if value]
    if not values:
        raise UserError(f"{where}: the mask is empty; mark at least one pixel of the object")
    if len(values) > 1 and group.object_id not in values:
        raise UserError(f"{where}: holds the labels {values}; choose one of them with --object ID")
    return VideoPrompt.of(mask=labels == (group.object_id if len(values) > 1 else values[0]))
