"""Data sets with a folder of numbered JPEGs for each video: which folders, which videos, which frames."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.convert.raw import check_pixels, read_file
from datamodules.convert.sa1b import natural
from datamodules.record import decode_rgb
from phd.errors import UserError

JPEG_MAGIC = b"\xff\xd8\xff"
FRAMES = ("JPEGImages/480p", "JPEGImages/Full-Resolution", "JPEGImages", "videos")
MASKS = ("Annotations/480p", "Annotations/Full-Resolution", "Annotations")

FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--split", {"metavar": "NAME", "help": "list of videos (NAME.txt, also in ImageSets/2017) or subfolder of ROOT"}),
    ("--frames-dir", {"metavar": "DIR", "help": "folder of the frames in ROOT (default: looked for)"}),
    ("--masks-dir", {"metavar": "DIR", "help": "folder of the masks in ROOT (default: looked for)"}),
)


@dataclass(frozen=True)
class VideoFolder:
    """One video: its name, the folder of its frames and that of its masks."""

    name: str
    frames: Path
    masks: Path

    def __str__(self) -> str:
        return str(self.frames)

    def check(self) -> None:
        """Check that both folders are there.

        Raises:
            UserError: One is not.
        """
        for folder, other in ((self.frames, self.masks), (self.masks, self.frames)):
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder, but {other} names the video {self.name}; add or unlist it")


def _folder(base: Path, given: str | None, candidates: Sequence[str], what: str, flag: str) -> Path:
    """The folder of all frames or of all masks."""
    names = candidates if given is None else (given,)
    for name in names:
        if (base / name).is_dir():
            return base / name
    raise UserError(f"{base}: has no folder {' or '.join(names)} of {what}; name it with {flag}")


def _listed(path: Path) -> list[str]:
    names = [line.strip() for line in read_file(path).decode(errors="replace").splitlines() if line.strip()]
    for name in names:
        if "/" in name or "\\" in name or name in (".", ".."):
            raise UserError(f"{path}: {name!r} is no name of a video; give a list of one name per line")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        raise UserError(f"{path}: " + (f"lists {twice[0]} twice" if twice else "lists no video") + "; mend the list")
    return names


def base_of(root: Path, split: str | None) -> Path:
    """ROOT, or the subfolder of the split where the data set has one ("train", "valid")."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the folder of the data set")
    return root / split if split and (root / split).is_dir() else root


def find_videos(
    options: argparse.Namespace, frames: Sequence[str] = FRAMES, masks: Sequence[str] = MASKS
) -> list[VideoFolder]:
    """The videos of a data set: those of the list, or all that have a folder, by name.

    Args:
        options: With `root` and the settings of `FLAGS`; `skip_bad` 0 makes a missing folder an error at once.
        frames: Where the frames may lie, below the root.
        masks: Where the masks may lie.

    Raises:
        UserError: A folder or the list is missing, or there is no video.
    """
    root, split = Path(options.root), options.split
    base = base_of(root, split)
    frames_root = _folder(base, options.frames_dir, frames, "frames", "--frames-dir")
    masks_root = _folder(base, options.masks_dir, masks, "masks", "--masks-dir")
    lists = [base / "ImageSets" / "2017" / f"{split}.txt", base / "ImageSets" / f"{split}.txt", base / f"{split}.txt"]
    lists += [Path(split)] if split else []
    if split is None:
        lists = [base / "ImageSets" / "all.txt"]
    found = next((path for path in lists if path.is_file()), None)
    if found:
        names = _listed(found)
    elif split and base == root:
        places = ", ".join(str(path) for path in lists)
        raise UserError(f"{root}: has no subfolder {split} and no list of that split ({places}); name another one")
    else:
        folders = {path.name for parent in (frames_root, masks_root) for path in parent.iterdir() if path.is_dir()}
        names = sorted((name for name in folders if not name.startswith(".")), key=natural)
    if not names:
        raise UserError(f"{frames_root}: holds no folder of a video; name another one with --frames-dir")
    videos = [VideoFolder(name, frames_root / name, masks_root / name) for name in names]
    if not options.skip_bad:
        for video in videos:
            video.check()
    return videos


def numbered(folder: Path, *suffixes: str) -> dict[int, Path]:
    """The files of a folder by the numbers that are their names, ascending.

    Raises:
        UserError: The folder is missing, or a file has another name or suffix.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; add it or take the video off the list")
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue  # notes of an operating system
        if path.suffix.lower() not in suffixes or not (path.stem.isascii() and path.stem.isdigit()):
            raise UserError(f"{path}: not named as a frame is (00000{suffixes[0]}); rename or remove it")
        if int(path.stem) in files:
            raise UserError(f"{path}: has the same number as {files[int(path.stem)].name}; remove one of them")
        files[int(path.stem)] = path
    return dict(sorted(files.items()))


def read_frames(files: dict[int, Path], max_pixels: int) -> Iterator[tuple[int, bytes, int, int]]:
    """Number, JPEG, height and width of each frame; decoded one at a time, to see that it can be.

    Raises:
        UserError: A frame is missing, damaged, no JPEG, or of another size than the first.
    """
    size: tuple[int, int] | None = None
    for number, path in files.items():
        data = read_file(path)
        if data and not data.startswith(JPEG_MAGIC):
            raise UserError(f"{path}: is no JPEG; save it as one")
        check_pixels(data, str(path), max_pixels)
        _, height, width = decode_rgb(data, str(path)).shape
        size = size or (height, width)
        if (height, width) != size:
            raise UserError(
                f"{path}: is {height} x {width} pixels (height x width) but the first frame is {size[0]} x {size[1]}; "
                f"give the frames in one size"
            )
        yield number, data, height, width
