"""Sources of a conversion as text: a fingerprint of those done, and names for those left out."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from datamodules.convert.journal import Journal
from phd.errors import UserError


class SourceNames:
    """Describes sources independently of where the raw data lies, so that it may be moved between two runs.

    Args:
        options: Of the conversion; paths are told relative to the paths among them.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        paths = {name: value for name, value in vars(options).items() if isinstance(value, Path)}
        self.roots = sorted(paths.items(), key=lambda item: -len(item[1].parts))

    def path(self, path: Path) -> str:
        """A path relative to the first folder that holds it."""
        for _, root in self.roots:
            if root != path and path.is_relative_to(root):
                return str(path.relative_to(root))
        return path.name if any(root == path for _, root in self.roots) else str(path)

    def text(self, value: Any) -> str:
        """All there is in a source; equal texts mean equal sources."""
        if isinstance(value, Path):
            return repr(self.path(value))
        if is_dataclass(value) and not isinstance(value, type):
            return "(" + ",".join(self.text(getattr(value, item.name)) for item in fields(value)) + ")"
        if isinstance(value, dict):
            return "{" + ",".join(f"{self.text(key)}:{self.text(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join(map(self.text, value)) + "]"
        if isinstance(value, set | frozenset):
            return "{" + ",".join(sorted(map(self.text, value))) + "}"
        return repr(value)

    def name(self, value: Any) -> str:
        """The first path in a source, else its text cut to a readable length."""
        return next(self._paths(value), self.text(value)[:200])

    def _paths(self, value: Any) -> Iterator[str]:
        if isinstance(value, Path):
            yield self.path(value)
        elif is_dataclass(value) and not isinstance(value, type):
            for item in fields(value):
                yield from self._paths(getattr(value, item.name))
        elif isinstance(value, list | tuple):
            for item in value:
                yield from self._paths(item)


class Fingerprint:
    """Of all sources so far, in their order."""

    def __init__(self, names: SourceNames) -> None:
        self._names, self._digest = names, hashlib.sha256()

    def add(self, source: Any) -> None:
        """One more source."""
        self._digest.update(self._names.text(source).encode(errors="surrogatepass") + b"\n")

    def __str__(self) -> str:
        return self._digest.hexdigest()


def fingerprint_of_done(sources: Sequence[Any], names: SourceNames, journal: Journal, out: Path) -> Fingerprint:
    """The fingerprint of the sources that the complete shards were made of.

    Raises:
        UserError: The sources are others than those.
    """
    if journal.next > len(sources):
        raise UserError(
            f"{out}: cannot go on: {journal.next} sources are converted but now there are only {len(sources)}; "
            f"give the same raw data and no smaller --max-samples, or convert into another folder"
        )
    fingerprint, number = Fingerprint(names), 0
    for done in journal.done:
        for source in sources[number : done.next]:
            fingerprint.add(source)
        number = done.next
        if str(fingerprint) != done.sources:
            raise UserError(
                f"{out}: cannot go on: the raw data changed since {done.shard.name} was made of it; "
                f"give the same raw data, or convert into another folder"
            )
    return fingerprint
