"""Which phrases are asked about a scene, and what is true of them.

A thing is clear where enough of it is visible to be annotated, and seen where any pixel of it is. A positive phrase is
true of a clear thing. It is exhaustive unless it is true of a thing that is seen but not clear. A negative phrase is
true of nothing that is seen; it is hard where it is one attribute away from a clear thing. Training needs negatives
that are near: SAM 3 (arXiv 2511.16719, table 8) gains 14.7 cgF1 from 30 hard ones per image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.shapes.phrases import LEVELS, Concept, all_concepts, concept_at
from datamodules.shapes.world import Identity
from phd.errors import UserError


@dataclass(frozen=True)
class Asking:
    """How many phrases are asked of an image or a video, and which.

    Attributes:
        positives: Most phrases that are true.
        negatives: Phrases that are false, for each true one.
        hard: Share of the false ones that are one attribute away from a thing in the picture.
        synonyms: Probability of each word to be replaced by a synonym.
    """

    positives: int = 6
    negatives: float = 1.0
    hard: float = 0.5
    synonyms: float = 0.25

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            UserError: Names the setting.
        """
        if self.positives < 1:
            raise UserError(f"positives is {self.positives}: give a number of at least 1")
        # There are 510 concepts, of which a crowded scene leaves 180 that are far from everything.
        if not 0 <= self.negatives * self.positives <= 100:
            raise UserError(
                f"negatives is {self.negatives:g}: give at least 0, and at most 100 false phrases for an image"
            )
        for name in ("hard", "synonyms"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name):g}: give a share from 0 to 1")


@dataclass(frozen=True)
class Question:
    """A phrase and its true answer.

    Attributes:
        text: The phrase.
        concept: What it means.
        things: Numbers of the clear things that it is true of; none for a negative.
        exhaustive: Whether it is true of nothing else that is seen.
        hard: Whether it is a hard negative.
    """

    text: str
    concept: Concept
    things: tuple[int, ...]
    exhaustive: bool = True
    hard: bool = False


def ask(
    rng: np.random.Generator,
    identities: Sequence[Identity],
    clear: Sequence[bool],
    seen: Sequence[bool],
    asking: Asking,
) -> list[Question]:
    """Draw the phrases that are asked, the true ones first; none of either kind where nothing is clear.

    True and false phrases have the same lengths as far as possible, so that a length says nothing.

    Args:
        rng: The only source of randomness.
        identities: Of all things that could be seen.
        clear: Which of them are visible enough.
        seen: Which of them have a visible pixel.
        asking: How many are drawn.
    """
    shown = [identity for identity, there in zip(identities, clear, strict=True) if there]
    visible = [identity for identity, there in zip(identities, seen, strict=True) if there]
    positives = _true(rng, shown, asking.positives)
    negatives = _false(rng, shown, visible, [concept.level for concept in positives], asking)
    questions: list[Question] = []
    for concept in positives:
        fitting = [number for number, identity in enumerate(identities) if seen[number] and concept.fits(identity)]
        things = tuple(number for number in fitting if clear[number])
        questions.append(Question(concept.say(rng, asking.synonyms), concept, things, len(things) == len(fitting)))
    for concept, hard in negatives:
        questions.append(Question(concept.say(rng, asking.synonyms), concept, (), hard=hard))
    return questions


def _true(rng: np.random.Generator, shown: Sequence[Identity], most: int) -> list[Concept]:
    """Draw concepts that are true of a thing, as many of one level as of another where there are."""
    pools = [_shuffled(rng, dict.fromkeys(concept_at(identity, level) for identity in shown)) for level in LEVELS]
    rng.shuffle(pools)
    chosen: list[Concept] = []
    while len(chosen) < most and any(pools):
        chosen += [pool.pop() for pool in pools if pool][: most - len(chosen)]
    return chosen


def _false(
    rng: np.random.Generator,
    shown: Sequence[Identity],
    visible: Sequence[Identity],
    like: Sequence[int],
    asking: Asking,
) -> list[tuple[Concept, bool]]:
    """Draw concepts that are true of nothing visible, with the levels of the true ones, and whether each is hard."""
    count = round(asking.negatives * len(like))
    levels = [level for _ in range(-(-count // max(len(like), 1))) for level in _shuffled(rng, like)][:count]
    levels.sort(key=lambda level: level == 1)  # one attribute away from a thing means nothing for a shape alone
    wanted = round(asking.hard * count)
    chosen: dict[Concept, bool] = {}
    for place, level in enumerate(levels):
        hard = place < wanted
        concept = _near(rng, shown, visible, level, chosen) if hard else None
        if concept is None:
            hard, concept = False, _far(rng, visible, level, chosen)
        chosen[concept] = hard
    return list(chosen.items())


def _near(
    rng: np.random.Generator,
    shown: Sequence[Identity],
    visible: Sequence[Identity],
    level: int,
    taken: Iterable[Concept],
) -> Concept | None:
    """Draw an absent concept that is one attribute away from a clear thing; each attribute is as likely."""
    level = level if level > 1 else int(rng.integers(2, 4))
    taken = set(taken)
    pools: dict[str, dict[Concept, None]] = {}
    for identity in shown:
        for attribute, concepts in concept_at(identity, level).neighbours().items():
            absent = (concept for concept in concepts if concept not in taken and _absent(concept, visible))
            pools.setdefault(attribute, {}).update(dict.fromkeys(absent))
    filled = [pool for pool in pools.values() if pool]
    if not filled:
        return None
    pool = list(filled[int(rng.integers(len(filled)))])
    return pool[int(rng.integers(len(pool)))]


def _far(rng: np.random.Generator, visible: Sequence[Identity], level: int, taken: Iterable[Concept]) -> Concept:
    """Draw a concept that is at least two attributes away from all that is visible, or a shape that is absent."""
    taken = set(taken)
    for named in dict.fromkeys((level, 3, 2)):  # a crowded scene may leave none of the level asked for
        least = min(named, 2)
        pool = [
            concept
            for concept in all_concepts(named)
            if concept not in taken and all(concept.differences(identity) >= least for identity in visible)
        ]
        if pool:
            return pool[int(rng.integers(len(pool)))]
    raise ValueError(f"{len(visible)} things leave no phrase that is far from all of them")


def _absent(concept: Concept, visible: Sequence[Identity]) -> bool:
    return not any(concept.fits(identity) for identity in visible)


def _shuffled(rng: np.random.Generator, items: Iterable) -> list:
    items = list(items)
    return [items[place] for place in rng.permutation(len(items))]
