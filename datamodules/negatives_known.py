"""What the labels of a data set say about phrases that were not asked of an image: usually nothing.

COCO's categories were all looked for in every image that is annotated exhaustively, so that what is not annotated is
absent. LVIS and SA-Co say so only of what they list, and that is asked already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamodules.convert.coco_phrases import EXHAUSTIVE
from datamodules.convert.journal import SKIPPED
from datamodules.negatives_near import Words, words_of
from phd.errors import UserError

EXHAUSTIVE_KIND = "coco-concepts"


class Vocabulary:
    """The phrases of a data set, and which of them an exhaustively annotated image is known to lack.

    A file may mix sources with categories of their own: a category that is known only from images that are not
    annotated exhaustively was not looked for in the others. Where annotations were left out, by `--skip-bad` or because
    a smaller image has no pixel for them, nothing more is known of an image.

    Args:
        manifest: Of the shards.
        unsure: Keys of samples of which something was left out.

    Attributes:
        texts: Each phrase with its id, None where that is not the same everywhere; in the order of appearance.
        synonyms: Each phrase with its other names, as far as the data set tells.
    """

    def __init__(self, manifest: dict[str, Any], unsure: Iterable[str] = ()) -> None:
        self.texts: dict[str, Any] = {}
        self.synonyms: dict[str, set[Words]] = {}
        self._labels = manifest.get("kind") == EXHAUSTIVE_KIND
        self._only_listed = manifest.get("exhaustive") == "listed"
        self._vanished = bool(manifest.get("vanished"))
        self._unsure = frozenset(unsure)
        self._known: dict[bool, set[Any]] = {True: set(), False: set()}

    def add(self, record: dict[str, Any]) -> None:
        """Take in what a record tells."""
        for phrase in record["phrases"]:
            text, number = phrase["text"], phrase.get("id")
            self.texts[text] = number if self.texts.setdefault(text, number) == number else None
            self.synonyms.setdefault(text, set()).update(map(words_of, phrase.get("synonyms", ())))
        if self._labels:
            self._known[self._exhaustive(record)] |= self._categories(record)

    def lacks(self, record: dict[str, Any], key: str, text: str) -> bool:
        """Whether a phrase that was not asked of an image is known to be true of nothing in it."""
        number = self.texts[text]
        whole = key not in self._unsure and not (self._vanished and "original_height" in record["image"])
        if not self._labels or number is None or not whole or not self._exhaustive(record):
            return False
        known = number in self._known[True] or number not in self._known[False]
        return known and number not in self._categories(record)

    def _exhaustive(self, record: dict[str, Any]) -> bool:
        return bool(record["image"].get(EXHAUSTIVE, not self._only_listed))

    @staticmethod
    def _categories(record: dict[str, Any]) -> set[Any]:
        """All categories that were asked or annotated; of a crowd or of a lone bad mask there may be no phrase."""
        asked = {phrase.get("id") for phrase in record["phrases"]}
        return asked | {item["category_id"] for item in record["annotations"] if "category_id" in item}


def unsure_keys(root: Path, manifest: dict[str, Any]) -> set[str]:
    """Keys of the samples of which the conversion left something out.

    Raises:
        UserError: It left something out, but the list of it is not there.
    """
    if not manifest.get("skipped"):
        return set()
    path = root / SKIPPED
    try:
        return {json.loads(line)["key"] for line in path.read_text(encoding="utf-8").splitlines()} - {None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error!r}), though the conversion left {manifest['skipped']} things out; copy it "
            f"again or convert again: what was left out must not become a negative"
        ) from error
