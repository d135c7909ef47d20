"""Finds the hard negatives of one sample: phrases near its own that its image lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from datamodules.augmentation import generator
from datamodules.concept_record import is_negative, num_annotators
from datamodules.convert.kind import Converted
from datamodules.negatives_known import Vocabulary
from datamodules.negatives_near import Nearness, Neighbour, implied
from datamodules.reader import ShardReader

# Image file, its true phrases, candidates -> which candidates are absent.
Verify = Callable[[bytes, list[str], list[str]], list[bool]]
# Candidates that a teacher is asked about, for each negative that is wanted.
ASKED = 4


@dataclass(frozen=True)
class Source:
    """One sample; the fingerprint of its shard shows whether it is still the same."""

    number: int
    key: str
    index: str


@dataclass
class Miner:
    """Finds negatives for one sample after the other.

    Attributes:
        reader: Of the shards.
        vocabulary: All their phrases.
        nearness: Between them.
        count: Hard negatives wanted for an image.
        seed: Chooses among equally near ones.
        verify: Asks a teacher what the labels do not know; or None.
        verifier: Its name.
        unknown: How many near phrases were passed over because nobody knows whether they are absent.
    """

    reader: ShardReader
    vocabulary: Vocabulary
    nearness: Nearness
    count: int
    seed: int
    verify: Verify | None = None
    verifier: str = ""
    unknown: int = 0

    def __call__(self, source: Source) -> Converted:
        """One sample with its new negatives; its image stays as it is."""
        sample = self.reader.read(source.number)
        near = self._near(sample.record)
        phrases = [marked(phrase, near) for phrase in sample.record["phrases"]]
        wanted = self.count - sum(bool(phrase.get("hard")) and is_negative(phrase) for phrase in phrases)
        chosen = self._chosen(sample.record, sample.key, sample.jpg, near, wanted) if wanted > 0 else []
        answers = [{"instances": [], "exhaustive": True} for _ in range(num_annotators(sample.record))]
        for neighbour in chosen:
            number = self.vocabulary.texts[neighbour.text]
            phrases.append(
                {
                    "text": neighbour.text,
                    "id": f"{sample.key}/{neighbour.text}" if number is None else number,
                    "answers": answers,
                    "hard": True,
                    "origin": neighbour.origin,
                }
            )
        return Converted(sample.key, {"jpg": sample.jpg}, {**sample.record, "phrases": phrases})

    def _near(self, record: dict[str, Any]) -> dict[str, Neighbour]:
        """The nearest relation of each phrase that is near a true one, unless a true one implies it."""
        true = [phrase["text"] for phrase in record["phrases"] if not is_negative(phrase)]
        found: dict[str, Neighbour] = {}
        for text in true:
            for neighbour in self.nearness.near(text):
                if neighbour.text not in found or neighbour.rank < found[neighbour.text].rank:
                    found[neighbour.text] = neighbour
        words = [self.nearness.words[text] for text in true]
        return {
            text: neighbour
            for text, neighbour in found.items()
            if not any(implied(self.nearness.words[text], positive) for positive in words)
        }

    def _chosen(
        self, record: dict[str, Any], key: str, jpg: bytes, near: dict[str, Neighbour], wanted: int
    ) -> list[Neighbour]:
        """The nearest phrases that were not asked and are absent; equally near ones in a drawn order."""
        taken = {form for phrase in record["phrases"] for form in self._forms(phrase["text"])}
        free = [item for text, item in near.items() if not self._forms(text) & taken]
        order = generator(self.seed, 0, key).permutation(len(free))
        ranked: dict[frozenset[str], Neighbour] = {}
        for item in sorted((free[place] for place in order), key=lambda item: item.rank):
            ranked.setdefault(frozenset(self.nearness.words[item.text]), item)  # said once, however it is said
        absent = [item for item in ranked.values() if self.vocabulary.lacks(record, key, item.text)]
        unsure = [item for item in ranked.values() if item not in absent]
        if self.verify is None or len(absent) >= wanted or not unsure:
            self.unknown += len(unsure) if self.verify is None else 0
            return absent[:wanted]
        asked = unsure[: ASKED * wanted]
        true = [phrase["text"] for phrase in record["phrases"] if not is_negative(phrase)]
        verdicts = self.verify(jpg, true, [item.text for item in asked])
        absent += [
            replace(item, origin=f"{item.origin} (verified by {self.verifier})")
            for item, verdict in zip(asked, verdicts, strict=True)
            if verdict
        ]
        return sorted(absent, key=lambda item: item.rank)[:wanted]

    def _forms(self, text: str) -> set[frozenset[str]]:
        """A phrase and its other names, each as the set of its words."""
        return {frozenset(self.nearness.words[text]), *map(frozenset, self.vocabulary.synonyms[text])}


def marked(phrase: dict[str, Any], near: dict[str, Neighbour]) -> dict[str, Any]:
    """The phrase; a certain negative that is near a true phrase is hard from now on."""
    certain = is_negative(phrase) and all(answer["exhaustive"] for answer in phrase["answers"])
    if not certain or phrase.get("hard") or phrase["text"] not in near:
        return phrase
    return {**phrase, "hard": True, "origin": f"{phrase.get('origin', 'asked')}; {near[phrase['text']].origin}"}
