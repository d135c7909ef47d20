"""Random access to shards through their index, on a disk or behind a URL."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any

from datamodules.folder import open_folder
from datamodules.manifest import indices, read_manifest
from datamodules.member_index import MemberIndex
from datamodules.shards import MANIFEST, shards_of
from phd.errors import UserError

FORMS = ("image", "concept", "video")


@dataclass(frozen=True)
class Sample:
    """One sample as stored: the bytes of its image and its parsed JSON record; `where` names it in messages."""

    key: str
    jpg: bytes
    record: dict[str, Any]
    where: str = ""


def form_check(form: str) -> Callable[[Any, str], None]:
    """The check of the records of a form, one of FORMS, as `check(record, where)`."""
    # Imported when asked for: these modules need torch.
    if form == "video":
        from datamodules.video_record import check_form
    elif form == "concept":
        from datamodules.concept_record import check_form
    else:
        from datamodules.record import check_form
    return check_form


class ShardReader:
    """Samples of a folder of shards by number, in the order in which they were written.

    Cheap to send to a worker: files are opened, and connections made, by the process that reads.

    Args:
        root: Folder with `shards.json`: a path, or a URL (https, s3, gs, memory; credentials as fsspec takes them
            from the environment).
        max_shards: Use only the first ones.

    Attributes:
        manifest: The contents of `shards.json`.
        shards: What it lists, at most `max_shards`.
        form: What the samples are: "image", "concept" or "video".
        extensions: The extensions of the members of any sample, sorted.

    Raises:
        UserError: The folder is not finished, damaged, out of reach, or has fewer shards than asked for.
    """

    def __init__(self, root: str | Path, max_shards: int | None = None) -> None:
        self.folder = open_folder(root)
        self.root: str | Path = root if isinstance(root, str) and "://" in root else Path(root)
        self.manifest = read_manifest(self.root, self.folder)
        shards = shards_of(self.manifest, self.folder.address(MANIFEST))
        if max_shards is not None and not 1 <= max_shards <= len(shards):
            raise UserError(
                f"{self.folder.where}: max_shards is {max_shards} but the folder has {len(shards)} shards; "
                f"ask for 1 to {len(shards)}"
            )
        self.shards = shards[:max_shards]
        self.form: str = self.manifest.get("form", "image")
        if self.form not in FORMS:
            raise UserError(f"{self.folder.where}: holds {self.form!r} and not {', '.join(FORMS)}; update phd")
        self._first = [0, *accumulate(shard.samples for shard in self.shards)]
        self._index = MemberIndex.of_folder(list(indices(self.folder, self.shards)))
        self.extensions = self._index.extensions
        if twice := self._index.twice():
            names = " and ".join(sorted({self.shards[self.shard_of(number)].name for number in twice}))
            key = self.key(twice[0])
            raise UserError(f"{self.folder.where}: two samples have the same key, {key} in {names}; convert again")
        self.folder.close()  # so that nothing open is inherited by workers

    def __len__(self) -> int:
        return self._first[-1]

    def key(self, number: int) -> str:
        """Key of a sample."""
        return self._index.keys[number].decode()

    def where(self, number: int) -> str:
        """Shard and key of a sample, for messages."""
        return f"{self.folder.address(self._tar(number))}: {self.key(number)}"

    def shard_of(self, number: int) -> int:
        """The shard that a sample lies in."""
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        return bisect_right(self._first, number) - 1

    def first(self, shard: int) -> int:
        """The first sample of a shard; of the number of shards, the number of samples."""
        return self._first[shard]

    def extensions_of(self, number: int) -> list[str]:
        """Extensions of the members of a sample, frames in the order of their numbers."""
        self.shard_of(number)
        return self._index.extensions_of(number)

    def member(self, number: int, extension: str) -> bytes:
        """Bytes of one member of a sample.

        Raises:
            UserError: As `members`.
        """
        return self.members(number, [extension])[0]

    def members(self, number: int, extensions: list[str]) -> list[bytes]:
        """Bytes of several members of a sample, in few requests where they lie side by side.

        Raises:
            UserError: The sample has no such member, the tar is cut short, is another one than was indexed, or
                cannot be read.
        """
        tar, places = self._tar(number), []
        for extension in extensions:
            place = self._index.place(number, extension)
            if place is None:
                if extension in self._index.numbers:
                    raise UserError(f"{self.where(number)}: has no .{extension}; convert again")
                raise UserError(
                    f"{self.folder.where}: its samples have no .{extension}; name the folder of another kind"
                )
            places.append(place)
        contents = []
        for extension, (_, size), (header, data) in zip(
            extensions, places, self.folder.members(tar, places), strict=True
        ):
            if len(header) != BLOCKSIZE or len(data) != size:
                raise UserError(f"{self.where(number)}: .{extension} is cut short; convert again")
            if not _names(header, f"{self.key(number)}.{extension}"):
                raise UserError(
                    f"{self.where(number)}: .{extension} does not lie where the index says; the tar was changed after "
                    f"it was indexed: copy both again or convert again"
                )
            contents.append(data)
        return contents

    def record(self, number: int) -> dict[str, Any]:
        """The JSON record of a sample, its form checked.

        Raises:
            UserError: It cannot be read, cannot be parsed, or has not the form that the manifest says.
        """
        return self._record(number, self.member(number, "json"))

    def read(self, number: int) -> Sample:
        """One sample of images or concepts.

        Raises:
            UserError: Its JSON cannot be parsed, a member is missing or cut short, or the samples are videos.
        """
        if self.form == "video":
            raise UserError(
                f"{self.folder.where}: holds videos where images are needed; name the folder of another kind"
            )
        text, jpg = self.members(number, ["json", "jpg"])
        return Sample(self.key(number), jpg, self._record(number, text), self.where(number))

    def _record(self, number: int, text: bytes) -> dict[str, Any]:
        try:
            record = json.loads(text)
        except ValueError as error:
            raise UserError(f"{self.where(number)}: .json is no JSON ({error}); convert again") from error
        form_check(self.form)(record, self.where(number))
        return record

    def _tar(self, number: int) -> str:
        return f"{self.shards[self.shard_of(number)].name}.tar"


def _names(header: bytes, name: str) -> bool:
    """Whether the header of a tar member, of which 100 bytes are the name, is that of `name`.

    A name that is long or not ASCII stands in full in a header before it, and here as far as it goes, its other letters
    as question marks (pax) or in UTF-8 (GNU): https://docs.python.org/3/library/tarfile.html#supporting-tar-formats.
    """
    stored = header[:100].rstrip(b"\0")
    return stored in (name.encode("ascii", "replace")[:100], name.encode()[:100])
