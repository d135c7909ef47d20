"""Which phrases of a data set are near a phrase: easily mistaken for it, and yet another thing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ARTICLES = {"a", "an", "the"}
# The head noun stands before the first of them: "bottle of water", "man with a hat".
PREPOSITIONS = {"of", "with", "without", "in", "on", "at", "for", "from", "to", "under", "over", "near", "by", "behind"}
NEAREST = 10  # of the text encoder, for each phrase

Words = tuple[str, ...]


@dataclass(frozen=True)
class Neighbour:
    """A phrase near another one.

    Attributes:
        text: The phrase.
        rank: How near, 0 is nearest.
        origin: How it was found.
    """

    text: str
    rank: int
    origin: str


def words_of(text: str) -> Words:
    """The words of a phrase in small letters, without articles, each in its singular."""
    found = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text.casefold())
    return tuple(_singular(word) for word in found if word not in ARTICLES) or tuple(found)


def head_of(words: Words) -> str:
    """The noun that a phrase is about."""
    place = next((place for place, word in enumerate(words) if place and word in PREPOSITIONS), len(words))
    return words[place - 1] if words else ""


def implied(words: Words, positive: Words) -> bool:
    """Whether a phrase is true of everything that a longer one is true of, as "ring" is of a "red ring"."""
    return set(words) <= set(positive) and head_of(words) == head_of(positive)


class Nearness:
    """Neighbours of phrases among the phrases of a data set.

    Near are, in this order: what differs by one word ("blue ring" and "red star" from "red ring"); what has the same
    head noun, or is near for the text encoder; what has the same supercategory.

    Args:
        texts: All phrases.
        groups: Phrase -> supercategory, for those that have one.
        vectors: Of a text encoder, unit length (phrases, width), in the order of `texts`; or None.
    """

    def __init__(
        self,
        texts: Iterable[str],
        groups: Mapping[str, str] | None = None,
        vectors: NDArray[np.floating] | None = None,
    ) -> None:
        self.texts = list(texts)
        self.words = {text: words_of(text) for text in self.texts}
        self.groups, self.vectors = groups or {}, vectors
        self._place = {text: place for place, text in enumerate(self.texts)}
        self._changed: defaultdict[tuple[int, Words], list[str]] = defaultdict(list)
        self._headed: defaultdict[str, list[str]] = defaultdict(list)
        self._grouped: defaultdict[str, list[str]] = defaultdict(list)
        for text, words in self.words.items():
            for key in _with_a_gap(words):
                self._changed[key].append(text)
            self._headed[head_of(words)].append(text)
            if text in self.groups:
                self._grouped[self.groups[text]].append(text)
        self._known: dict[str, list[Neighbour]] = {}

    def near(self, text: str) -> list[Neighbour]:
        """The neighbours of a phrase of the data set, the nearest first; it is none of them itself."""
        if text not in self._known:
            self._known[text] = self._near(text)
        return self._known[text]

    def _near(self, text: str) -> list[Neighbour]:
        words = self.words[text]
        found: dict[str, Neighbour] = {}

        def add(texts: Iterable[str], rank: int, origin: str) -> None:
            for other in texts:
                # Said in another way ("a dog", "dogs") it is the same, and what is implied is true.
                if set(self.words[other]) != set(words) and not implied(self.words[other], words):
                    found.setdefault(other, Neighbour(other, rank, origin))

        if len(words) > 1:
            for key in _with_a_gap(words):
                add(self._changed[key], 0, f"lexical: one word from {text!r}")
        add(self._headed[head_of(words)], 1, f"lexical: the head noun of {text!r}")
        if self.vectors is not None:
            similar = self.vectors @ self.vectors[self._place[text]]
            for place in np.argsort(-similar, kind="stable")[: NEAREST + 1]:
                add([self.texts[place]], 1, f"text encoder: {similar[place]:.2f} from {text!r}")
        if text in self.groups:
            add(self._grouped[self.groups[text]], 2, f"supercategory: {self.groups[text]}, as {text!r}")
        return sorted(found.values(), key=lambda neighbour: neighbour.rank)


def _with_a_gap(words: Words) -> list[tuple[int, Words]]:
    """A phrase without each of its words in turn, and where that stood."""
    return [(place, (*words[:place], "", *words[place + 1 :])) for place in range(len(words))]


def _singular(word: str) -> str:
    """A guess, good enough to see that two phrases are the same."""
    if len(word) > 3 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 3 and re.search(r"(ss|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if len(word) > 2 and re.search(r"[^su]s$", word) else word
