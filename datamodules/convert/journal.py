"""What a conversion has done so far, so that a later run can go on: written after each complete shard.

`convert.journal.json` lies beside the shards until the manifest takes its place. A conversion goes on only where it
would have come to the same bytes: same settings, same sources so far, same finished shards. Sources still to come may
have changed (a damaged image was replaced after the error about it), and so may `--max-samples`, `--skip-bad` and
`--workers`.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.convert.kind import Kind
from datamodules.shards import JOURNAL, Shard, sha256, to_json, write_atomically
from datamodules.writer import files_of, require_empty
from phd.errors import UserError

FORMAT, VERSION = "phd-convert-journal", 1
SKIPPED = "skipped.jsonl"
# What a conversion that was killed may leave beside its complete shards.
LEFT_OVER = re.compile(
    r"shard-\d{6,}\.(tar|index\.json)(\.partial)?|(shards|convert\.journal)\.json\.partial|skipped.*"
)


@dataclass(frozen=True)
class Done:
    """A complete shard.

    Attributes:
        shard: Its entry of the manifest.
        next: Number of the first source that is not in it or in one before it.
        sources: Fingerprint of all sources before that one.
    """

    shard: Shard
    next: int
    sources: str


@dataclass
class Journal:
    """The state of a conversion at the end of a shard.

    Attributes:
        settings: What the bytes of the shards depend on, beside the sources; with the kind.
        done: The complete shards.
        counts: Fields of the summary.
    """

    settings: dict[str, Any]
    done: list[Done] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def shards(self) -> list[Shard]:
        """The complete shards."""
        return [done.shard for done in self.done]

    @property
    def next(self) -> int:
        """Number of the source to go on with."""
        return self.done[-1].next if self.done else 0

    @property
    def files(self) -> set[str]:
        """Names of the files that belong to this state."""
        return files_of(self.shards) | {JOURNAL}

    def save(self, out: Path) -> None:
        """Write it, whole or not at all."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_atomically(out / JOURNAL, json.dumps(content, indent=1, ensure_ascii=False).encode())


def settings_of(kind: Kind, options: argparse.Namespace) -> dict[str, Any]:
    """What the bytes of the shards depend on, beside the sources. Paths are not in it: data may have moved."""
    own = [keywords.get("dest", flag.lstrip("-").replace("-", "_")) for flag, keywords in kind.flags]
    values = {name: getattr(options, name) for name in ("samples_per_shard", "max_pixels", "resize", *own)}
    # Tuples are lists once they were written.
    return json.loads(to_json({"kind": kind.name, **{name: _without_paths(value) for name, value in values.items()}}))


def _without_paths(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    return "given" if isinstance(value, Path) else value


def read_journal(out: Path) -> Journal:
    """The journal of an unfinished conversion.

    Raises:
        UserError: It is damaged.
    """
    path = out / JOURNAL
    try:
        content = json.loads(path.read_bytes())
        if (content.pop("format"), content.pop("version")) != (FORMAT, VERSION):
            raise ValueError("of another version")
        done = [Done(Shard(**entry.pop("shard")), **entry) for entry in content.pop("done")]
        return Journal(done=done, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); remove {out} and convert again") from error


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first setting that differs, in words; empty where none does."""
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            flag = "the kind" if name == "kind" else f"--{name.replace('_', '-')}"
            return f"{flag} was {before.get(name)} and is now {now.get(name)}"
    return ""


def open_journal(out: Path, settings: dict[str, Any], resume: bool) -> Journal:
    """The journal to go on from; an empty one where nothing has been converted.

    Raises:
        UserError: The folder holds something else, or a conversion with other settings, or its shards have changed.
    """
    if not resume:
        if (out / JOURNAL).exists():
            raise UserError(f"{out}: holds an unfinished conversion; go on with --resume, or remove the folder")
        require_empty(out)
    if not out.is_dir():
        require_empty(out)
        return Journal(settings)
    journal = read_journal(out) if (out / JOURNAL).exists() else Journal(settings)
    other = difference(journal.settings, settings)
    if other:
        raise UserError(f"{out}: cannot go on: {other}; give the same setting, or convert into another folder")
    for shard in journal.shards:
        _check_shard(out, shard)
    foreign = [name for name in sorted(path.name for path in out.iterdir()) if name not in journal.files]
    # The journal is written first, so without one nothing of a conversion can be there but the start of it.
    mine = LEFT_OVER if (out / JOURNAL).exists() else re.compile(rf"{re.escape(JOURNAL)}\.partial")
    foreign = [name for name in foreign if not mine.fullmatch(name)]
    if foreign:
        raise UserError(f"{out}: cannot go on: no conversion has left {foreign[0]} there; remove it, or convert anew")
    return journal


def _check_shard(out: Path, shard: Shard) -> None:
    """Check that a complete shard is still as it was written."""
    tar, index = out / f"{shard.name}.tar", out / f"{shard.name}.index.json"
    for path in (tar, index):
        if not path.is_file():
            raise UserError(f"{path}: missing, though {JOURNAL} lists it; remove {out} and convert again")
    if tar.stat().st_size != shard.bytes:
        raise UserError(
            f"{tar}: has {tar.stat().st_size} bytes where {JOURNAL} says {shard.bytes}; remove {out} and convert again"
        )
    if sha256(index.read_bytes()) != shard.index_sha256:
        raise UserError(f"{index}: not the index that {JOURNAL} lists; remove {out} and convert again")


def remove_left_over(out: Path, journal: Journal) -> None:
    """Remove what a killed conversion left beside its complete shards; `open_journal` has checked what it is."""
    for path in list(out.iterdir()) if out.is_dir() else []:
        if path.name not in journal.files:
            path.unlink()


def kept_files(out: Path) -> set[str]:
    """Names of the files to go on from after an error; none where no shard is complete.

    Asks the journal on disk: between a shard and its journal, a run can end at any moment.
    """
    if not (out / JOURNAL).exists():
        return set()
    journal = read_journal(out)
    return journal.files if journal.done else set()
