"""What all converters share: reading and checking a sample, the loop, the summary."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.record import check_annotation
from datamodules.shards import LONGEST_KEY, to_json
from datamodules.writer import new_shards, terminable
from phd.errors import UserError

Source = TypeVar("Source")


@dataclass(frozen=True)
class Converted:
    """One sample, checked and ready to be written.

    Attributes:
        key: Its key in the shards.
        jpg: Its JPEG.
        record: Its JSON record, good annotations only.
        problems: One for each annotation that was left out.
        reencoded: Whether the JPEG was made here, because the source could not be copied as it was.
    """

    key: str
    jpg: bytes
    record: dict[str, Any]
    problems: list[UserError] = field(default_factory=list)
    reencoded: bool = False


@dataclass
class Summary:
    """What a conversion wrote.

    Attributes:
        samples: Images.
        masks: Annotations of single objects.
        crowds: Annotations of crowds; kept, but not used as instances.
        shards: Tars.
        bytes: Their size.
        reencoded: Images that are new JPEGs (quality 95) because the source was no JPEG, or had to be turned.
        skipped: One line for each image or annotation that was left out on request.
    """

    samples: int = 0
    masks: int = 0
    crowds: int = 0
    shards: int = 0
    bytes: int = 0
    reencoded: int = 0
    skipped: list[str] = field(default_factory=list)


def read_json(data: bytes, where: str) -> Any:
    """Parse JSON.

    Raises:
        UserError: It is none.
    """
    try:
        return json.loads(data)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); replace or remove it") from error


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def tar_safe(name: str) -> str:
    """A name as a key: letters, digits, `_` and `-`, no longer than a key may be."""
    key = re.sub(r"[^\w-]", "_", name)
    if len(key.encode()) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{key.encode()[: LONGEST_KEY - 13].decode(errors='ignore')}-{digest}"


def good_annotations(
    annotations: Sequence[dict[str, Any]], height: int, width: int, where: str
) -> tuple[list[dict[str, Any]], list[UserError]]:
    """Divide annotations into those with a mask of the image's size and one error for each other."""
    good: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for annotation in annotations:
        try:
            check_annotation(annotation, height, width, where)
        except UserError as error:
            problems.append(error)
        else:
            good.append(annotation)
    return good, problems


def in_order(
    convert: Callable[[Source], Converted], sources: Sequence[Source], workers: int
) -> Iterator[Future[Converted]]:
    """Convert on threads (decoding releases the interpreter lock), the results in the order of the sources."""
    pending: deque[Future[Converted]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for source in sources:
            pending.append(pool.submit(convert, source))
            if len(pending) > 4 * workers:
                yield pending.popleft()
        while pending:
            yield pending.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def write_shards(
    out: Path,
    kind: str,
    sources: Sequence[Source],
    convert: Callable[[Source], Converted],
    samples_per_shard: int,
    max_samples: int | None,
    skip_bad: int,
) -> Summary:
    """Convert the sources into new shards; whatever goes wrong, nothing stays behind.

    Args:
        out: New or empty folder.
        kind: Of the data set, for the manifest.
        sources: One for each sample.
        convert: Makes and checks a sample; raises UserError where there is none to be made.
        samples_per_shard: Samples in a tar.
        max_samples: Convert only the first ones.
        skip_bad: How many bad images and annotations to leave out before giving up.

    Raises:
        UserError: More is bad than `skip_bad`, or `out` is not empty.
    """
    if max_samples is not None and max_samples < 1:
        raise UserError(f"max samples is {max_samples}; give at least 1")
    sources = sources[:max_samples]
    summary = Summary()

    def skip(problem: UserError) -> None:
        summary.skipped.append(str(problem))
        if len(summary.skipped) > skip_bad:
            raise problem

    workers = min(8, os.cpu_count() or 1)
    text, rate = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
    columns = (text, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    with terminable(), new_shards(out, kind, samples_per_shard) as writer, progress:
        task = progress.add_task(f"{kind} to shards", total=len(sources), rate="")
        for result in in_order(convert, sources, workers):
            try:
                sample = result.result()
            except UserError as error:
                skip(error)
            else:
                for problem in sample.problems:
                    skip(problem)
                writer.write(sample.key, {"jpg": sample.jpg, "json": to_json(sample.record)})
                crowds = sum(bool(annotation.get("iscrowd")) for annotation in sample.record["annotations"])
                summary.crowds += crowds
                summary.masks += len(sample.record["annotations"]) - crowds
                summary.reencoded += sample.reencoded
            speed = progress.tasks[task].speed
            progress.update(task, advance=1, rate=f"{speed:.0f}/s" if speed else "")
        writer.details = {"masks": summary.masks, "crowds": summary.crowds, "skipped": summary.skipped}
    summary.samples = writer.samples
    summary.shards = len(writer.shards)
    summary.bytes = sum(shard.bytes for shard in writer.shards)
    return summary
