"""Predictions and truth as trees of PNG files: DAVIS's label maps, and SA-V's folder of masks for each object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from phd.errors import UserError
from phd.evaluate.video_protocol import Frames, ObjectScore, Protocol, davis, lvos, sav, sav_object
from phd.evaluate.video_report import VideoReport
from phd.evaluate.video_words import describe


def read_labels(path: Path) -> np.ndarray:
    """A label map (H, W) uint8 from a PNG with a palette, in grey or in black and white.

    Raises:
        UserError: It cannot be read, or holds colours or 16 bits.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise UserError(
                    f"{path}: has mode {image.mode}, which is no map of labels; write a PNG with a palette, or grey "
                    f"with 8 bits"
                )
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: cannot be read as a PNG ({error}); write it again") from error


def evaluate_trees(truth: Path, prediction: Path, protocol: Protocol, *, skip_ends: bool = True) -> VideoReport:
    """Score a tree of predictions against a tree of truth.

    Args:
        truth: Folder with a folder for each video, as DAVIS's `Annotations/480p` or SA-V's `Annotations_6fps`.
        prediction: The same tree.
        protocol: "davis", "sav" or "lvos"; SA-V's layout is recognised by its folders within a video.
        skip_ends: SA-V: leave out the first and the last annotated frame; DAVIS always does, LVOS never.

    Raises:
        UserError: The trees do not hold the same videos, objects and frames, a file is no label map, or the protocol
            does not fit.
    """
    check_ends(protocol, skip_ends)
    videos = same_names(truth, prediction, folders=True)
    scores: list[ObjectScore] = []
    for video in track(videos, "J and F", console=Console(stderr=True), transient=True):
        mine, theirs = truth / video, prediction / video
        if _has_objects(mine, theirs):
            if protocol != "sav":
                raise UserError(
                    f"{mine}: holds a folder for each object, which {protocol} does not; use --protocol sav"
                )
            for name in same_names(mine, theirs, folders=True):
                frames = same_names(mine / name, theirs / name)
                pair = _reader(mine / name), _reader(theirs / name)
                scores.append(sav_object(video, name, frames, *pair, skip_ends=skip_ends))
            continue
        frames = same_names(mine, theirs)
        pair = _reader(mine), _reader(theirs)
        if protocol == "sav":
            scores += sav(video, frames, *pair, skip_ends=skip_ends)
        else:
            scores += davis(video, frames, *pair) if protocol == "davis" else lvos(video, frames, *pair)
    return VideoReport(describe(protocol, skip_ends), scores)


def check_ends(protocol: Protocol, skip_ends: bool) -> None:
    """Check that the protocol has a choice of the first and the last frame, where one is made.

    Raises:
        UserError: It has none.
    """
    if protocol != "sav" and not skip_ends:
        does = "always drops the first and the last frame" if protocol == "davis" else "never drops the last frame"
        raise UserError(f"--keep-ends: {protocol} {does}; use --protocol sav, or leave the option out")


def same_names(truth: Path, prediction: Path, folders: bool = False) -> list[str]:
    """The names that both folders hold, in order: of sub-folders, or of PNG files without suffix.

    Raises:
        UserError: A folder is missing or empty, a name is in only one of the two, or something else is among the PNGs;
            the reference evaluators score the intersection in silence, or stop.
    """
    found: list[list[str]] = []
    for folder in (truth, prediction):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; both trees need the same videos and objects")
        found.append(_folders(folder) if folders else _frames(folder))
    mine, theirs = found
    what = "folder" if folders else "PNG"
    if not mine:
        raise UserError(f"{truth}: holds no {what}; name the folder that holds one folder of masks for each video")
    for name in mine:
        if name not in theirs:
            raise UserError(f"{prediction / name}: this {what} is missing; the truth has {len(mine)}, write them all")
    for name in theirs:
        if name not in mine:
            raise UserError(f"{prediction / name}: this {what} has no truth beside it; remove it")
    return mine


def _folders(folder: Path) -> list[str]:
    # Files beside the folders, such as a table that an evaluator wrote, are no predictions.
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _frames(folder: Path) -> list[str]:
    names = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue  # notes of an operating system
        if path.suffix != ".png" or path.is_dir():
            raise UserError(f"{path}: is no mask of a frame, a PNG with the name of the frame; remove it")
        names.append(path.stem)
    return names


def _has_objects(truth: Path, prediction: Path) -> bool:
    """Whether a video has a folder for each object.

    Raises:
        UserError: Only one of the two has.
    """
    mine, theirs = bool(_folders(truth)), bool(_folders(prediction))
    if mine != theirs:
        one, other = (truth, prediction) if mine else (prediction, truth)
        raise UserError(f"{one}: holds a folder for each object, but {other} does not; write both in one layout")
    return mine


def _reader(folder: Path) -> Frames:
    """Reads the label maps of a video, which must have one size."""
    first: list[tuple[str, tuple[int, ...]]] = []

    def read(frame: str) -> np.ndarray:
        path = folder / f"{frame}.png"
        labels = read_labels(path)
        name, size = first[0] if first else (path.name, labels.shape)
        if labels.shape != size:
            raise UserError(
                f"{path}: is {labels.shape[0]} x {labels.shape[1]} pixels (height x width) but {name} is {size[0]} x "
                f"{size[1]}; the frames of a video have one size"
            )
        first[:] = [(name, size)]
        return labels

    return read
