"""Adds hard negatives to shards of concepts: phrases near those of an image, and known to be true of nothing in it.

SAM 3 (arXiv 2511.16719, section 4 and table 8) mines them with an ontology and a language model and verifies them with
people and models; here they come from the data set's own phrases, and its labels or a teacher verify them.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from datamodules.concept_record import is_negative
from datamodules.convert.common import convert
from datamodules.convert.kind import Kind, Plan
from datamodules.convert.listing import read_listing
from datamodules.convert.summary import Summary
from datamodules.negatives_known import Vocabulary, unsure_keys
from datamodules.negatives_mine import Miner, Source, Verify
from datamodules.negatives_near import Nearness
from datamodules.reader import ShardReader
from datamodules.record import MAX_PIXELS
from phd.errors import UserError

# Texts -> unit vectors (texts, width).
Encode = Callable[[list[str]], NDArray[np.float32]]
# Of a manifest, what the new one says for itself.
OWN = ("format", "version", "kind", "samples", "shards", "form", "settings", "phrases", "negatives", "masks", "crowds",
       "reencoded", "vanished", "skipped")  # fmt: skip
# Options that the loop of all converters takes as they are.
SETTINGS = ("count", "seed", "categories", "model", "verify", "threshold", "max_samples", "resume")
MINED = "negatives_of"
MINED_ORIGIN = re.compile(r"(?P<before>.*?; )??(?P<relation>lexical|text encoder|supercategory): ")


def plan_negatives(
    options: argparse.Namespace, encode: Encode | None, verify: Verify | None, miners: list[Miner]
) -> Plan[Source]:
    """All samples of the shards; the miner that reads them is appended to `miners`."""
    root: Path = options.root
    reader = ShardReader(root)
    vocabulary = Vocabulary(reader.manifest, unsure_keys(root, reader.manifest))
    for number in track(range(len(reader)), "read phrases", console=Console(stderr=True), transient=True):
        vocabulary.add(reader.record(number))
    texts = list(vocabulary.texts)
    groups = _groups(options.categories) if options.categories else reader.manifest.get("supercategories", {})
    nearness = Nearness(texts, groups, encode(texts) if encode else None)
    miner = Miner(reader, vocabulary, nearness, options.count, options.seed, verify, options.verify or "")
    miners.append(miner)
    indices = [shard.index_sha256 for shard in reader.shards]
    sources = [Source(n, reader.key(n), indices[reader.shard_of(n)]) for n in range(len(reader))]
    kept = {name: value for name, value in reader.manifest.items() if name not in OWN}
    details = {**kept, MINED: {name: reader.manifest.get(name) for name in ("kind", "settings")}}
    return Plan(sources, miner, details, lambda source: source.key)


FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--count",
        {"type": int, "default": 8, "metavar": "N", "help": "hard negatives wanted for an image (%(default)s)"},
    ),
    ("--seed", {"type": int, "default": 0, "metavar": "N", "help": "chooses among equally near phrases (%(default)s)"}),
    (
        "--categories",
        {"type": Path, "metavar": "JSON", "help": "COCO or LVIS file whose supercategories count as near"},
    ),
    ("--model", {"metavar": "NAME", "help": "also take what is nearest for this model's text encoder"}),
    ("--verify", {"metavar": "NAME", "help": "ask this model whether a phrase is absent where the labels do not say"}),
    (
        "--threshold",
        {"type": float, "default": 0.3, "help": "with --verify: absent is what has no score above it (%(default)s)"},
    ),
)


def add_negatives(options: argparse.Namespace, encode: Encode | None = None, verify: Verify | None = None) -> Mined:
    """Write shards with hard negatives; atomic and resumable as a conversion.

    Args:
        options: `root`, `out`, the FLAGS by name, `samples_per_shard` (None is that of `root`), `max_samples`,
            `resume`.
        encode: The text encoder of `--model`.
        verify: The model of `--verify`.

    Raises:
        UserError: The shards cannot be used, a setting is out of range, or `out` cannot be written.
    """
    if options.count < 1:
        raise UserError(f"--count is {options.count}; give at least 1")
    if not 0 <= options.threshold < 1:
        raise UserError(f"--threshold is {options.threshold}; give a number from 0 to below 1")
    reader = ShardReader(options.root)
    if reader.form != "concept":
        raise UserError(
            f"{options.root}: its samples are of the form {reader.form}; name shards of images with phrases"
        )
    if MINED in reader.manifest:
        raise UserError(f"{options.root}: has such negatives already; start from the shards that it was made of")
    miners: list[Miner] = []
    kind = Kind(
        name=reader.manifest["kind"],
        form="concept",
        help="",
        paths=(("root", "folder of shards"),),
        plan=partial(plan_negatives, encode=encode, verify=verify, miners=miners),
        flags=FLAGS,
        samples_per_shard=reader.shards[0].samples,
    )
    # One thread: neither a reader nor a model serves several.
    settings = {name: getattr(options, name) for name in SETTINGS} | {"workers": 1}
    settings["max_pixels"] = max(MAX_PIXELS, reader.manifest.get("settings", {}).get("max_pixels", 0))
    if options.samples_per_shard is not None:
        settings["samples_per_shard"] = options.samples_per_shard
    summary = convert(kind, kind.options(options.root, options.out, **settings))
    return Mined.count(options.out, summary, miners[0].unknown if miners else 0)


@dataclass(frozen=True)
class Mined:
    """What was written.

    Attributes:
        summary: Counts of the shards.
        added: New negatives, by how they were found.
        marked: Earlier negatives that are hard from now on, likewise.
        hard: Hard negatives in all, however they came about.
        without: Images with a true phrase that have no hard negative.
        unknown: Near phrases of which nobody knew whether they are absent, in this run.
    """

    summary: Summary
    added: dict[str, int]
    marked: dict[str, int]
    hard: int
    without: int
    unknown: int

    @classmethod
    def count(cls, out: Path, summary: Summary, unknown: int) -> Mined:
        """Count in the shards themselves, whichever run wrote them."""
        reader, added, marks, total, without = ShardReader(out), Counter[str](), Counter[str](), 0, 0
        for number in range(len(reader)):
            phrases = reader.record(number)["phrases"]
            hard = [phrase for phrase in phrases if phrase.get("hard") and is_negative(phrase)]
            total += len(hard)
            without += not hard and len(phrases) > sum(map(is_negative, phrases))
            for phrase in hard:
                if found := MINED_ORIGIN.match(phrase.get("origin", "")):
                    (marks if found["before"] else added)[found["relation"]] += 1
        return cls(summary, dict(added.most_common()), dict(marks.most_common()), total, without, unknown)


def _groups(path: Path) -> dict[str, str]:
    """Phrase -> supercategory, from a file in COCO's form."""
    listing = read_listing(path)
    found = {listing.texts[number]: item.get("supercategory") for number, item in listing.categories.items()}
    groups = {text: group for text, group in found.items() if group}
    if not groups:
        raise UserError(f"{path}: none of its categories has a supercategory; leave --categories out")
    return groups
