"""The loop of all converters."""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.convert.guard import guarded
from datamodules.convert.journal import (
    SKIPPED,
    Done,
    Journal,
    kept_files,
    open_journal,
    read_journal,
    remove_left_over,
    settings_of,
)
from datamodules.convert.kind import Converted, Kind, Plan, Source
from datamodules.convert.progress import ConversionProgress
from datamodules.convert.raw import check_pixels, good_annotations, pixel_limit, read_file, read_json, tar_safe
from datamodules.convert.sources import SourceNames, fingerprint_of_done
from datamodules.convert.summary import Summary, finished_summary
from datamodules.shards import JOURNAL, MANIFEST, to_json, write_atomically
from datamodules.writer import ShardWriter, new_shards, terminable
from phd.errors import UserError

__all__ = [
    "Converted",
    "Kind",
    "Plan",
    "Summary",
    "check_pixels",
    "convert",
    "good_annotations",
    "read_file",
    "read_json",
    "tar_safe",
]


def in_order(
    convert: Callable[[Source], Converted], sources: Sequence[Source], workers: int
) -> Iterator[tuple[Source, Future[Converted]]]:
    """Convert on threads (decoding releases the interpreter lock), the results in the order of the sources."""
    pending: deque[tuple[Source, Future[Converted]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for source in sources:
            pending.append((source, pool.submit(convert, source)))
            if len(pending) > 4 * workers:
                yield pending.popleft()
        while pending:
            yield pending.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def check_limits(options: argparse.Namespace) -> None:
    """Check the numbers that all converters take.

    Raises:
        UserError: One is too small.
    """
    least = {"samples_per_shard": 1, "max_samples": 1, "workers": 1, "skip_bad": 0, "max_pixels": 1, "resize": 1}
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give at least {smallest}")


def convert(kind: Kind, options: argparse.Namespace) -> Summary:
    """Convert raw data to shards; with `resume`, go on where an earlier run was stopped.

    An error or an interrupt leaves the complete shards and a journal to go on from, or nothing where no shard was
    complete.

    Args:
        kind: The converter.
        options: Its paths and flags, from the command line or from `Kind.options`.

    Raises:
        UserError: Something is wrong with a sample, with the settings or with what is in the folder.
    """
    check_limits(options)
    out: Path = options.out
    settings = settings_of(kind, options)
    try:
        if options.resume and (out / MANIFEST).exists():
            summary = finished_summary(out, kind, settings)
            (out / JOURNAL).unlink(missing_ok=True)  # the last moment at which a run can be killed
            return summary
        journal = open_journal(out, settings, options.resume)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; check the path and its permissions") from error
    with terminable():
        return Conversion(kind, options, kind.plan(options), journal).run()


class Conversion:
    """One run of a converter."""

    def __init__(self, kind: Kind, options: argparse.Namespace, plan: Plan[Any], journal: Journal) -> None:
        self.kind, self.options, self.plan, self.journal = kind, options, plan, journal
        self.out: Path = options.out
        self.names = SourceNames(options)
        self.sources = plan.sources[: options.max_samples]
        self.fingerprint = fingerprint_of_done(self.sources, self.names, journal, self.out)
        self.summary = Summary(**journal.counts) if journal.counts else Summary(kind.form)
        self.summary.resumed = self.summary.samples

    def run(self) -> Summary:
        """Convert what is left, and finish."""
        options, journal, summary = self.options, self.journal, self.summary
        if len(summary.skipped) > options.skip_bad:
            raise UserError(
                f"{self.out}: cannot go on: {len(summary.skipped)} bad samples were left out already; "
                f"give at least --skip-bad {len(summary.skipped)}"
            )
        remove_left_over(self.out, journal)
        size, name = options.samples_per_shard, self.kind.name
        shards = new_shards(self.out, name, size, journal.shards, {JOURNAL}, partial(kept_files, self.out))
        try:
            with pixel_limit(options.max_pixels), shards as writer:
                journal.save(self.out)
                self._convert(writer)
                if summary.skipped:
                    lines = b"".join(to_json(item) + b"\n" for item in summary.skipped)
                    write_atomically(self.out / SKIPPED, lines)
                counts = {**summary.counts, "skipped": len(summary.skipped)}
                writer.details = {"form": self.kind.form, "settings": journal.settings, **self.plan.details, **counts}
        except (UserError, KeyboardInterrupt) as error:
            raise self._with_way_on(error) from error
        (self.out / JOURNAL).unlink()
        summary.shards = len(writer.shards)
        summary.bytes = sum(shard.bytes for shard in writer.shards)
        return summary

    def _convert(self, writer: ShardWriter) -> None:
        options, summary, start = self.options, self.summary, self.journal.next
        read = guarded(self.plan.read, self.kind.form, options, self._name)
        left = self.sources[start:]
        workers = options.workers or min(8, os.cpu_count() or 1)
        with ConversionProgress(f"{self.kind.name} to shards", len(self.sources), start, writer.bytes) as bar:
            for number, (source, result) in enumerate(in_order(read, left, workers), start + 1):
                before, full = writer.bytes, False
                self.fingerprint.add(source)
                try:
                    sample = result.result()
                except UserError as error:
                    self._skip(source, getattr(source, "key", None), error)
                else:
                    for problem in sample.problems:
                        self._skip(source, sample.key, problem)
                    full = writer.write(sample.key, {**sample.members, "json": to_json(sample.record)})
                    summary.add(sample)
                bar.advance(writer.bytes - before)
                if full:
                    self._on_shard(writer, number)

    def _name(self, source: Any) -> str:
        return self.plan.name(source) if self.plan.name else self.names.name(source)

    def _skip(self, source: Any, key: str | None, problem: UserError) -> None:
        """Note what is left out; give up where it is too much."""
        self.summary.skipped.append({"source": self._name(source), "key": key, "problem": str(problem)})
        if len(self.summary.skipped) > self.options.skip_bad:
            raise problem

    def _on_shard(self, writer: ShardWriter, number: int) -> None:
        """Put a complete shard on record; from then on it stays, whatever happens."""
        self.journal.done.append(Done(writer.shards[-1], number, str(self.fingerprint)))
        self.journal.counts = asdict(self.summary)
        self.journal.save(self.out)

    def _with_way_on(self, error: UserError | KeyboardInterrupt) -> UserError | KeyboardInterrupt:
        """The same error, with what stays and how to go on."""
        if not kept_files(self.out):
            return error
        count = len(read_journal(self.out).done)
        stays = f"{count} complete shard{'s stay' if count > 1 else ' stays'} in {self.out}: go on with --resume"
        return type(error)(f"{str(error) or 'interrupted'}; {stays}")
