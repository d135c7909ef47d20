"""What a noun phrase of the embedded world means, and how it can be said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from datamodules.shapes.vocabulary import NAMES, SYNONYMS, wordings
from datamodules.shapes.world import Identity

LEVELS = (1, 2, 3)
# In the order in which they are said; a level has the last so many of the words "red striped ring".
_ATTRIBUTES = {1: ("shape",), 2: ("colour", "shape"), 3: ("colour", "texture", "shape")}


@dataclass(frozen=True)
class Concept:
    """What is asked for: a shape, perhaps of a colour, perhaps with a texture too.

    Attributes:
        shape: A key of `OUTLINES`.
        colour: A key of `PALETTE`; None is any.
        texture: A key of `TEXTURES`; None is any.
    """

    shape: str
    colour: str | None = None
    texture: str | None = None

    @property
    def level(self) -> int:
        """How many attributes it names: "ring" one, "red ring" two, "red striped ring" three."""
        return sum(name is not None for name in (self.shape, self.colour, self.texture))

    @property
    def attributes(self) -> tuple[str, ...]:
        """Which ones, in the order in which they are said."""
        return _ATTRIBUTES[self.level]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in that order."""
        return tuple(getattr(self, attribute) for attribute in self.attributes)

    def differences(self, identity: Identity) -> int:
        """How many of its attributes a thing has not; none where the phrase is true of it."""
        return sum(getattr(self, name) != getattr(identity, name) for name in self.attributes)

    def fits(self, identity: Identity) -> bool:
        """Whether the phrase is true of a thing."""
        return not self.differences(identity)

    def neighbours(self) -> dict[str, list[Concept]]:
        """The concepts with one attribute exchanged, by attribute."""
        return {
            attribute: [
                replace(self, **{attribute: name}) for name in NAMES[attribute] if name != getattr(self, attribute)
            ]
            for attribute in self.attributes
        }

    def text(self) -> str:
        """The phrase in the world's own names."""
        return " ".join(self.names)

    def say(self, rng: np.random.Generator, synonyms: float) -> str:
        """The phrase, each word replaced by a synonym with this probability."""
        return " ".join(
            SYNONYMS[name][int(rng.integers(len(SYNONYMS[name])))] if rng.random() < synonyms else name
            for name in self.names
        )


def concept_at(identity: Identity, level: int) -> Concept:
    """What a thing is called at a level."""
    return Concept(**{name: getattr(identity, name) for name in _ATTRIBUTES[level]})


def all_concepts(level: int) -> Iterator[Concept]:
    """Every concept of a level, always in the same order."""
    attributes = _ATTRIBUTES[level]
    for names in product(*(NAMES[attribute] for attribute in attributes)):
        yield Concept(**dict(zip(attributes, names, strict=True)))


def all_texts() -> Iterator[str]:
    """Every phrase in every wording, always in the same order."""
    for level in LEVELS:
        for concept in all_concepts(level):
            yield from (" ".join(words) for words in product(*map(wordings, concept.names)))
