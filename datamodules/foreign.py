"""WebDataset tars that have no index, of anybody's making: which there are, and their samples one after the other."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from datamodules.folder import open_folder
from datamodules.shards import JOURNAL, MANIFEST
from datamodules.storage import errors, file_system, wait_or_raise
from phd.errors import UserError

TARS = (".tar", ".tar.gz", ".tgz")
IMAGES = ("jpg", "jpeg", "png", "webp")
# What is read from a connection at once.
BLOCK = 1024 * 1024


@dataclass
class RawSample:
    """A sample as it lies in a tar; `members` maps extensions to contents and is empty where it was not wanted."""

    url: str
    key: str
    members: dict[str, bytes] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Tar and key, for messages."""
        return f"{self.url}: {self.key}"


def is_stream(root: str) -> bool:
    """Whether these are tars to be streamed: a pattern, a tar, or a folder of tars that no conversion of ours left."""
    if "{" in root or shown(root).endswith(TARS):
        return True
    names = open_folder(root).names()
    ours = any(name in (MANIFEST, JOURNAL) or name.endswith((".index.json", ".partial")) for name in names)
    return not ours and any(name.endswith(TARS) for name in names)


def tars(urls: str | Sequence[str]) -> list[str]:
    """Paths or URLs of tars, braces expanded (`shard-{000000..000009}.tar`) and folders replaced by their tars.

    Raises:
        UserError: There are none, or one is named twice.
    """
    found: list[str] = []
    for pattern in [urls] if isinstance(urls, str) else urls:
        if shown(pattern).endswith(TARS):
            try:
                found += expand_urls(pattern)
            except ValueError as error:
                raise UserError(f"{error}; write the pattern as shard-{{000000..000009}}.tar") from error
        else:
            folder, query = open_folder(pattern), pattern.removeprefix(shown(pattern))
            found += [folder.address(name) + query for name in folder.names() if name.endswith(TARS)]
    if not found:
        raise UserError(f"{shown(urls)}: no tar here; name a folder of tars, or them as shard-{{000000..000009}}.tar")
    if len(set(found)) < len(found):
        raise UserError(f"{shown(urls)}: a tar is named twice; name each once")
    return found


def is_remote(url: str) -> bool:
    """Whether it is a URL and no path."""
    return "://" in url and not url.startswith("file://")


def shown(urls: str | Sequence[str]) -> str:
    """Paths or URLs for messages: what follows the question mark of a URL may be a secret."""
    each = [urls] if isinstance(urls, str) else urls
    return ", ".join(url.partition("?")[0] if is_remote(url) else url for url in each)


@contextmanager
def _opened(url: str) -> Iterator[tarfile.TarFile]:
    """A tar, to be read from its beginning to its end."""
    if is_remote(url):
        system, path = file_system(url)
        # Without blocks fsspec reads an https address as it comes, with one request.
        options = {"block_size": 0} if url.startswith("http") else {}
        stream: Any = system.open(path, "rb", **options)
        with stream, tarfile.open(fileobj=stream, mode="r|*", bufsize=BLOCK) as archive:
            yield archive
    else:
        with tarfile.open(url.removeprefix("file://"), mode="r:*") as archive:
            yield archive


def samples_of(url: str, wanted: Callable[[int], bool]) -> Generator[RawSample, None, None]:
    """The samples of a tar in order; what is not `wanted`, by its number in the tar, comes without its contents.

    After a lost connection it goes on where it was.

    Raises:
        UserError: The tar is missing, damaged or cut, or out of reach.
    """
    done, attempt, where = 0, 1, shown(url)
    while True:
        try:
            with _opened(url) as archive:
                for number, sample in enumerate(_grouped(where, archive, partial(_is_left, wanted, done))):
                    if number >= done:
                        done, attempt = number + 1, 1
                        yield sample
            return
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise UserError(f"{where}: is damaged or cut short after {done} samples ({error}); get it again") from error
        except errors() as error:
            try:
                wait_or_raise(error, attempt, where)
            except FileNotFoundError:
                raise UserError(f"{where}: no such tar; check the name") from error
        attempt += 1


def _is_left(wanted: Callable[[int], bool], done: int, number: int) -> bool:
    return number >= done and wanted(number)


def _grouped(url: str, archive: tarfile.TarFile, wanted: Callable[[int], bool]) -> Iterator[RawSample]:
    """Members side by side whose names differ after the first dot only are a sample, as WebDataset has it.

    Raises:
        tarfile.TarError: The tar is damaged or breaks off.
    """
    number, sample, want = -1, None, False
    while (member := archive.next()) is not None:
        archive.members = []  # pyright: ignore[reportAttributeAccessIssue] - tarfile would remember them all
        key, extension = base_plus_ext(member.name.removeprefix("./"))
        if not member.isreg() or key is None or extension is None:
            continue
        if sample is None or key != sample.key:
            if sample is not None:
                yield sample
            number, sample = number + 1, RawSample(url, key)
            want = wanted(number)
        extension = extension.lower()
        if want and extension in (*IMAGES, "json"):
            if extension in sample.members:
                raise UserError(f"{sample.where}: two members are .{extension}; pack the tar again")
            contents = archive.extractfile(member)
            assert contents is not None, "a regular file has contents"
            sample.members[extension] = contents.read()
    # `tarfile` takes a header that is cut or damaged for the end, which is two blocks of zeros. It has read the first.
    if archive.fileobj is None or archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no end at byte {archive.offset}")
    if sample is not None:
        yield sample
