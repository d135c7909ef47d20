"""SA-1B as it is distributed: sa_1.jpg beside sa_1.json, in folders or in the tars of the download."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import track

from datamodules.convert.common import (
    Converted,
    Summary,
    good_annotations,
    read_file,
    read_json,
    tar_safe,
    write_shards,
)
from datamodules.record import check_form, check_size, decode_rgb
from datamodules.writer import require_empty
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
            return stream.read(self.size)


@dataclass(frozen=True)
class Pair:
    """An image and its JSON."""

    stem: str
    image: RawFile
    record: RawFile


def natural(stem: str) -> list[str | int]:
    """Sort key under which sa_2 comes before sa_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", stem)]


def raw_files(raw: Path) -> dict[str, dict[str, RawFile]]:
    """All images and JSONs below a folder and in its tars: path without suffix -> suffix -> file.

    Raises:
        UserError: A tar is damaged.
    """
    files: dict[str, dict[str, RawFile]] = {}
    paths = sorted(raw.rglob("*"))
    for path in track(paths, "looking for files", console=Console(stderr=True), transient=True):
        if path.suffix in (".jpg", ".json"):
            files.setdefault(str(path.with_suffix("")), {})[path.suffix] = RawFile(path)
        elif path.suffix == ".tar":
            try:
                with tarfile.open(path, "r:") as archive:
                    for member in archive:
                        name = PurePosixPath(member.name)
                        if member.isfile() and name.suffix in (".jpg", ".json"):
                            file = RawFile(path, member.name, member.offset_data, member.size)
                            files.setdefault(str(path / name.with_suffix("")), {})[name.suffix] = file
            except (tarfile.TarError, OSError) as error:
                raise UserError(f"{path}: cannot be read as a tar ({error}); download it again") from error
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
    for stem in sorted(files, key=natural):
        pair = files[stem]
        for have, miss in ((".json", ".jpg"), (".jpg", ".json")):
            if miss not in pair:
                raise UserError(f"{pair[have]}: has no {Path(stem).name}{miss} beside it; add that or remove this")
        pairs.append(Pair(Path(stem).name, pair[".jpg"], pair[".json"]))
    return pairs


def read_pair(pair: Pair) -> Converted:
    """One SA-1B sample; every field of its annotations is kept.

    Raises:
        UserError: A file is damaged or the two disagree.
    """
    record = read_json(pair.record.read(), str(pair.record))
    check_form(record, str(pair.record))
    jpg = pair.image.read()
    _, height, width = decode_rgb(jpg, str(pair.image)).shape
    check_size(record, height, width, str(pair.image))
    good, problems = good_annotations(record["annotations"], height, width, str(pair.record))
    return Converted(tar_safe(pair.stem), jpg, {**record, "annotations": good}, problems)


def convert_sa1b(
    raw: Path, out: Path, samples_per_shard: int = 1000, max_samples: int | None = None, skip_bad: int = 0
) -> Summary:
    """Convert raw SA-1B to shards; the JPEG bytes are copied unchanged.

    Args:
        raw: Folder with sa_*.jpg and sa_*.json, in subfolders, in tars as downloaded, or both.
        out: New or empty folder.
        samples_per_shard: Samples in a tar.
        max_samples: Convert only the first ones.
        skip_bad: How many bad images and annotations to leave out, and report, before giving up.

    Raises:
        UserError: Something is wrong with a sample; nothing stays in `out`.
    """
    require_empty(out)
    return write_shards(out, "sa1b", find_pairs(raw), read_pair, samples_per_shard, max_samples, skip_bad)
