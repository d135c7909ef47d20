"""Reads everything in a folder of shards and lists what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from datamodules.manifest import read_manifest
from datamodules.reader import FORMS
from datamodules.record import MAX_PIXELS
from datamodules.shards import MANIFEST, Places, shards_of
from datamodules.verify_sample import SampleCheck
from datamodules.verify_tar import check_structure
from phd.errors import UserError

# What a conversion leaves beside the shards where it was told to leave bad samples out.
BESIDE = {MANIFEST, "skipped.jsonl"}


@dataclass
class VerifyReport:
    """What was read, and one line `shard: key: what` for each problem.

    Attributes:
        form: Of the samples.
        samples: Images or videos.
        shards: Tars that the manifest lists.
        counts: Masks, crowds, phrases, negatives, frames, objects: whatever samples of this form have.
        problems: Empty where all is well.
    """

    form: str = "image"
    samples: int = 0
    shards: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def masks(self) -> int:
        """Masks of single objects."""
        return self.counts["masks"]

    @property
    def crowds(self) -> int:
        """Annotations of crowds."""
        return self.counts["crowds"]

    def __str__(self) -> str:
        """What was read, in one line."""
        counts, masks = self.counts, f"{self.masks} masks"
        what = {
            "image": f"{self.samples} images, {masks}, {self.crowds} crowd regions",
            "concept": f"{self.samples} images, {counts['phrases']} phrases ({counts['negatives']} negative), {masks}, "
            f"{self.crowds} crowd regions",
            "video": f"{self.samples} videos, {counts['frames']} frames, {counts['objects']} objects, {masks}",
        }
        return f"{what[self.form]}, {self.shards} shards"


def verify(root: Path, max_pixels: int = MAX_PIXELS) -> VerifyReport:
    """Read every byte of a folder of shards.

    Args:
        root: The folder.
        max_pixels: An image whose header says that it has more is a problem, and is not decoded.

    Raises:
        UserError: It has no manifest, or one of another version, so there is nothing to verify; or a file cannot be
            read at all.
    """
    manifest = read_manifest(root)
    shards = shards_of(manifest, str(root / MANIFEST))
    report = VerifyReport(_form(manifest, root))
    check = SampleCheck(report.form, manifest.get("images", True), max_pixels)
    keys: dict[str, str] = {}
    expected = BESIDE | {f"{shard.name}.{suffix}" for shard in shards for suffix in ("tar", "index.json")}
    report.problems += [
        f"{name}: not listed in {MANIFEST}; left by a conversion that was killed?"
        for name in sorted({path.name for path in root.iterdir()} - expected)
    ]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("verify", total=sum(shard.samples for shard in shards))
        for shard in shards:
            report.shards += 1
            try:
                places, wrong = check_structure(root, shard)
                report.problems += [f"{shard.name}: {problem}" for problem in wrong]
                for key, problems, counts in _samples(root / f"{shard.name}.tar", places, check):
                    if key in keys:
                        problems.append(f"the key is also in {keys[key]}")
                    keys[key] = shard.name
                    report.problems += [f"{shard.name}: {key}: {problem}" for problem in problems]
                    report.samples += 1
                    report.counts += counts
                    progress.advance(task)
            except OSError as error:
                report.problems.append(f"{shard.name}: cannot be read ({error.strerror or error})")
    _compare(report, manifest)
    return report


def _form(manifest: dict[str, Any], root: Path) -> str:
    form = manifest.get("form", "image")
    if form not in FORMS:
        raise UserError(f"{root}: its samples are {form!r}, not one of {', '.join(FORMS)}; update phd")
    return form


def _samples(tar: Path, places: Places, check: SampleCheck) -> Iterator[tuple[str, list[str], Counter[str]]]:
    """Key, problems and counts of each sample of a tar."""
    if not places:
        return
    with tar.open("rb") as stream:
        for key, members in places.items():

            def read(extension: str, members: dict[str, tuple[int, int]] = members) -> bytes:
                offset, size = members[extension]
                stream.seek(offset)
                return stream.read(size)

            yield key, *check(list(members), read)


def _compare(report: VerifyReport, manifest: dict[str, Any]) -> None:
    """Compare what was read with the totals of the manifest."""
    if report.samples != manifest.get("samples"):
        report.problems.append(f"{MANIFEST}: says {manifest.get('samples')} samples, {report.samples} were read")
    if report.ok:  # what a bad sample holds may be missing from the counts
        report.problems += [
            f"{MANIFEST}: says {manifest[name]} {name}, {report.counts[name]} were read"
            for name in ("masks", "crowds", "phrases", "negatives", "frames", "objects")
            if name in manifest and manifest[name] != report.counts[name]
        ]
