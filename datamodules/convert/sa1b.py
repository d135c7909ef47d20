"""SA-1B as it is distributed: sa_1.jpg beside sa_1.json, in folders or in the tars of the download."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.progress import track

from datamodules.convert.common import convert
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.raw import check_pixels, good_annotations, read_file, read_json, tar_safe
from datamodules.convert.summary import Summary
from datamodules.convert.tars import members_of_tar
from datamodules.record import MAX_PIXELS, check_form, check_size, decode_rgb
from phd.errors import UserError


@dataclass(frozen=True)
class RawFile:
    """A file on disk, or a member of a tar on disk."""

    path: Path
    member: str = ""
    offset: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    def read(self) -> bytes:
        """Its bytes."""
        if not self.member:
            return read_file(self.path)
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
        if len(data) != self.size:
            raise UserError(f"{self}: is cut short; download the tar again")
        return data


@dataclass(frozen=True)
class Pair:
    """An image and its JSON."""

    stem: str
    image: RawFile
    record: RawFile

    @property
    def key(self) -> str:
        """Key in the shards."""
        return tar_safe(self.stem)


def natural(stem: str) -> list[str | int]:
    """Sort key under which sa_2 comes before sa_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", stem)]


def raw_files(raw: Path) -> dict[str, dict[str, RawFile]]:
    """All images and JSONs below a folder and in its tars: path without suffix -> suffix -> file.

    Raises:
        UserError: A tar is damaged, or a folder cannot be read.
    """
    files: dict[str, dict[str, RawFile]] = {}

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from error

    folders = os.walk(raw, onerror=refuse) if raw.is_dir() else []
    for folder, _, names in track(folders, "looking for files", console=Console(stderr=True), transient=True):
        for path in (Path(folder, name) for name in names):
            if path.suffix in (".jpg", ".json"):
                files.setdefault(str(path.with_suffix("")), {})[path.suffix] = RawFile(path)
            elif path.suffix == ".tar":
                for member in members_of_tar(path):
                    name = PurePosixPath(member.name)
                    if name.suffix in (".jpg", ".json"):
                        file = RawFile(path, member.name, member.offset_data, member.size)
                        files.setdefault(str(path / name.with_suffix("")), {})[name.suffix] = file
    return files


def find_pairs(raw: Path) -> list[Pair]:
    """The images below a folder, each with its JSON, in the natural order of their paths.

    Raises:
        UserError: There are none, or one has no partner.
    """
    files = raw_files(raw)
    if not files:
        state = "no .jpg, .json or .tar below it" if raw.is_dir() else "no such folder"
        raise UserError(f"{raw}: {state}; name the folder with the raw files of SA-1B")
    pairs: list[Pair] = []
    for stem in sorted(sorted(files), key=natural):
        pair = files[stem]
        for have, miss in ((".json", ".jpg"), (".jpg", ".json")):
            if miss not in pair:
                raise UserError(f"{pair[have]}: has no {Path(stem).name}{miss} beside it; add that or remove this")
        pairs.append(Pair(Path(stem).name, pair[".jpg"], pair[".json"]))
    return pairs


def read_pair(pair: Pair, max_pixels: int = MAX_PIXELS) -> Converted:
    """One SA-1B sample; every field of its annotations is kept.

    Raises:
        UserError: A file is damaged or the two disagree.
    """
    record = read_json(pair.record.read(), str(pair.record))
    check_form(record, str(pair.record))
    jpg = pair.image.read()
    check_pixels(jpg, str(pair.image), max_pixels)
    _, height, width = decode_rgb(jpg, str(pair.image)).shape
    check_size(record, height, width, str(pair.image))
    good, problems = good_annotations(record["annotations"], height, width, str(pair.record))
    return Converted(pair.key, {"jpg": jpg}, {**record, "annotations": good}, problems)


def plan_sa1b(options: argparse.Namespace) -> Plan[Pair]:
    """All pairs below a folder.

    Raises:
        UserError: The shards would lie among them.
    """
    if options.out.resolve().is_relative_to(options.raw.resolve()):
        raise UserError(f"{options.out}: lies in {options.raw}, so its files would be taken for raw ones; name another")
    return Plan(find_pairs(options.raw), partial(read_pair, max_pixels=options.max_pixels))


SA1B = Kind(
    name="sa1b",
    form="image",
    help="a folder of sa_*.jpg and sa_*.json, or of the published sa_*.tar",
    paths=(("raw", "folder with the raw files"),),
    plan=plan_sa1b,
)


def convert_sa1b(raw: Path, out: Path, **settings: Any) -> Summary:
    """Convert raw SA-1B to shards; the JPEG bytes are copied unchanged.

    Args:
        raw: Folder with sa_*.jpg and sa_*.json, in subfolders, in tars as downloaded, or both.
        out: New or empty folder.
        settings: The flags of the command line (`samples_per_shard`, `max_samples`, `skip_bad`, ...).

    Raises:
        UserError: Something is wrong with a sample.
    """
    return convert(SA1B, SA1B.options(raw, out, **settings))
