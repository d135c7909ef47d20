"""What a conversion wrote, in numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.convert.journal import SKIPPED, difference
from datamodules.convert.kind import Converted, Form, Kind
from datamodules.shards import MANIFEST
from phd.errors import UserError

# What is counted in samples of each form; these are entries of the manifest, too.
COUNTS: dict[Form, tuple[str, ...]] = {
    "image": ("masks", "crowds"),
    "concept": ("phrases", "negatives", "masks", "crowds"),
    "video": ("frames", "objects", "masks"),
}
# What `LogConcepts` says of the phrases that were asked; here of all that there are.
NO_NEGATIVE = (
    "no phrase is absent from its image: presence cannot be learned from these shards, and cgF1 will be 0; "
    "convert phrases that are absent, too (of a COCO file: list more categories, also some that no image shows)"
)
NO_POSITIVE = "no phrase has an instance: there is nothing to find, and cgF1 will be 0; convert annotated images"


@dataclass
class Summary:
    """What a conversion wrote.

    Attributes:
        form: Of the samples.
        samples: Images or videos.
        masks: Of single objects; in videos one for each frame in which the object is seen.
        crowds: Annotations of crowds; kept, but not used as instances.
        phrases: Phrases of concept samples.
        negatives: Phrases among them of which nothing is in the image.
        frames: Frames of videos.
        objects: Objects of videos.
        shards: Tars.
        bytes: Their size.
        reencoded: Samples with new JPEGs, because the source was no JPEG, had to be turned, or was made smaller.
        vanished: Masks left out because the smaller image has no pixel for them.
        skipped: What was left out on request, each with its "source", "key" (None if not known) and "problem".
        resumed: Samples that an earlier run had written.
        finished: Whether an earlier run had written everything, so that nothing was to be done.
    """

    form: Form = "image"
    samples: int = 0
    masks: int = 0
    crowds: int = 0
    phrases: int = 0
    negatives: int = 0
    frames: int = 0
    objects: int = 0
    shards: int = 0
    bytes: int = 0
    reencoded: int = 0
    vanished: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    resumed: int = 0
    finished: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """What goes into the manifest."""
        names = (*COUNTS[self.form], "reencoded", *(["vanished"] if self.vanished else []))
        return {name: getattr(self, name) for name in names}

    def add(self, sample: Converted) -> None:
        """Count a sample."""
        record = sample.record
        self.samples += 1
        self.reencoded += sample.reencoded
        self.vanished += sample.vanished
        if self.form == "video":
            self.frames += len(record["frames"])
            self.objects += len(record["objects"])
            self.masks += sum(mask is not None for item in record["objects"] for mask in item["masks"])
            return
        crowds = sum(bool(annotation.get("iscrowd")) for annotation in record["annotations"])
        self.crowds += crowds
        self.masks += len(record["annotations"]) - crowds
        phrases = record.get("phrases", [])
        self.phrases += len(phrases)
        self.negatives += sum(not any(answer["instances"] for answer in phrase["answers"]) for phrase in phrases)

    @property
    def doubts(self) -> list[str]:
        """What makes the shards teach less than they seem to."""
        if self.form != "concept" or not self.samples:
            return []
        if not self.negatives:
            return [NO_NEGATIVE]
        return [NO_POSITIVE] if self.negatives == self.phrases else []

    def __str__(self) -> str:
        """One line for the user."""
        what = {
            "image": f"{self.samples} images, {self.masks} masks",
            "concept": f"{self.samples} images, {self.phrases} phrases ({self.negatives} negative), {self.masks} masks",
            "video": f"{self.samples} videos, {self.frames} frames, {self.objects} objects, {self.masks} masks",
        }
        more = [
            (self.crowds, "crowd regions"),
            (self.reencoded, "re-encoded as JPEG"),
            (self.vanished, "masks too small for the new size left out"),
            (len(self.skipped), "skipped"),
        ]
        return (
            ", ".join([what[self.form], *(f"{count} {name}" for count, name in more if count)])
            + f" in {self.shards} shards of {self.bytes / 1e6:.1f} MB"
        )


def finished_summary(out: Path, kind: Kind, settings: dict[str, Any]) -> Summary:
    """The summary of a conversion that is finished.

    Raises:
        UserError: It was one with other settings, or what it left cannot be read.
    """
    path = out / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        other = difference(manifest["settings"], settings)
        if other:
            raise UserError(f"{out}: holds finished shards, but {other}; convert into another folder")
        summary = Summary(kind.form, samples=manifest["samples"], resumed=manifest["samples"], finished=True)
        for name in summary.counts:
            setattr(summary, name, manifest[name])
        summary.vanished = manifest.get("vanished", 0)
        summary.shards = len(manifest["shards"])
        summary.bytes = sum(shard["bytes"] for shard in manifest["shards"])
        if manifest["skipped"]:
            summary.skipped = [json.loads(line) for line in (out / SKIPPED).read_text().splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a manifest ({error!r}); convert into another folder") from error
    return summary
