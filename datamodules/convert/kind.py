"""What a converter is: its arguments, the list of its sources, and how one source becomes one sample."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from datamodules.record import MAX_PIXELS
from phd.errors import UserError

Source = TypeVar("Source")
Form = Literal["image", "concept", "video"]

# Every converter takes these: the flag and its keywords for argparse.
COMMON_FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--max-samples", {"type": int, "metavar": "N", "help": "convert only the first N samples"}),
    ("--workers", {"type": int, "metavar": "N", "help": "threads (default: one for each core, at most 8)"}),
    ("--resume", {"action": "store_true", "help": "go on where a conversion into OUT was stopped"}),
    (
        "--skip-bad",
        {
            "type": int,
            "default": 0,
            "metavar": "N",
            "help": "leave out up to N bad samples (listed in skipped.jsonl)",
        },
    ),
    (
        "--max-pixels",
        {"type": int, "default": MAX_PIXELS, "metavar": "N", "help": "refuse images with more pixels (%(default)s)"},
    ),
    (
        "--resize",
        {"type": int, "metavar": "N", "help": "re-encode images so that the longer side is at most N pixels"},
    ),
)


@dataclass(frozen=True)
class Converted:
    """One sample, checked and ready to be written.

    Attributes:
        key: Its key in the shards.
        members: Its files but the JSON, by extension: `{"jpg": ...}`, or `{"000000.jpg": ..., ...}` for a video.
        record: Its JSON record, good annotations only.
        problems: One for each annotation that was left out.
        reencoded: Whether a JPEG was made here, because the source could not be copied as it was.
        vanished: Masks that a smaller image has no pixel for.
    """

    key: str
    members: dict[str, bytes]
    record: dict[str, Any]
    problems: list[UserError] = field(default_factory=list)
    reencoded: bool = False
    vanished: int = 0


@dataclass(frozen=True)
class Plan(Generic[Source]):
    """What there is to convert.

    Attributes:
        sources: One for each sample, in an order that is the same in every run; cheap (paths, entries of a list).
        read: Makes and checks a sample, on any thread; raises UserError where there is none to be made.
        details: Further entries of the manifest.
        name: What a list of skipped samples calls a source; by default the first path in it.
    """

    sources: Sequence[Source]
    read: Callable[[Source], Converted]
    details: dict[str, Any] = field(default_factory=dict)
    name: Callable[[Source], str] | None = None


@dataclass(frozen=True)
class Kind:
    """One converter.

    Attributes:
        name: As the command line calls it ("sav").
        form: What its samples are.
        help: One line.
        paths: Arguments before OUT, as (name, help).
        plan: Lists what there is to convert; reads the options by the names of paths and flags.
        flags: Its own flags, each with the keywords for argparse.
        samples_per_shard: By default.
    """

    name: str
    form: Form
    help: str
    paths: tuple[tuple[str, str], ...]
    plan: Callable[[argparse.Namespace], Plan[Any]]
    flags: tuple[tuple[str, dict[str, Any]], ...] = ()
    samples_per_shard: int = 1000

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command line of this converter."""
        for name, what in self.paths:
            parser.add_argument(name, type=Path, help=what)
        parser.add_argument("out", type=Path, help="empty or new folder for the shards")
        for flag, keywords in self.flags:
            parser.add_argument(flag, **keywords)
        size = {"type": int, "default": self.samples_per_shard, "metavar": "N", "help": "in one tar (%(default)s)"}
        for flag, keywords in (("--samples-per-shard", size), *COMMON_FLAGS):
            parser.add_argument(flag, **keywords)

    def options(self, *paths: str | Path, **settings: Any) -> argparse.Namespace:
        """What the command line would give for these paths, the last one OUT, and flags by name."""
        parser = argparse.ArgumentParser()
        self.add_arguments(parser)
        options = parser.parse_args(["--", *map(str, paths)])
        for name, value in settings.items():
            if not hasattr(options, name):
                raise TypeError(f"the converter {self.name} has no setting {name}")
            setattr(options, name, value)
        return options
