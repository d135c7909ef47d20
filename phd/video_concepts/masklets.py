"""What is known of each masklet beside its memory, and which of them turn out to be none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from phd.video_concepts.association import Association
from phd.video_concepts.settings import ConceptTrackSettings


@dataclass
class Masklet:
    """One object of one phrase.

    Attributes:
        number: Of the object.
        phrase: Number of the phrase.
        score: Of the detection that it began with.
        began: Frame.
        alive: Falls with every frame in which it is seen but not confirmed, rises with every match.
        unconfirmed: In how many frames it was seen but not confirmed.
        shared: With each older masklet, by number, in how many frames both matched one detection.
        last_hidden: Latest frame in which it was not seen; -1 for none.
    """

    number: int
    phrase: int
    score: float
    began: int
    alive: int
    unconfirmed: int = 0
    shared: Counter[int] = field(default_factory=Counter)
    last_hidden: int = -1


def count_matches(masklets: Sequence[Masklet], association: Association, keep_alive: int) -> None:
    """Note what a frame says of masklets that were tracked into it."""
    for row in {row for rows in association.matched for row in rows}:
        masklets[row].alive = min(keep_alive, masklets[row].alive + 1)
    for row in association.unconfirmed:
        masklets[row].unconfirmed += 1
        masklets[row].alive = max(-1, masklets[row].alive - 1)
    for rows in association.matched:
        oldest = min(rows, key=lambda row: masklets[row].began, default=None)
        for row in rows:
            if oldest is not None and row != oldest:
                masklets[row].shared[masklets[oldest].number] += 1


def false_ones(masklets: Sequence[Masklet], frame: int, settings: ConceptTrackSettings) -> set[int]:
    """Numbers of the masklets that are still held back and are not confirmed, or lie on an older one."""
    held = [masklet for masklet in masklets if masklet.began > frame - settings.delay]
    return {
        masklet.number
        for masklet in held
        if masklet.unconfirmed >= settings.remove_unconfirmed
        or max(masklet.shared.values(), default=0) >= settings.remove_duplicate
    }
