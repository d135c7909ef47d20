"""The vocabulary of the embedded world: whole words, small enough for a teacher of a few megabytes.

Ids 0, 1 and 2 are padding, start and end. Known words follow in the order of `WORDS`, which is part of the trained
weights: append, never insert. Every other word falls into one of the upper 256 ids by its CRC-32, so that any phrase
has a meaning of its own, if perhaps a shared one.
"""

from __future__ import annotations

import re
import zlib

WORD_VOCABULARY = 512
SPECIALS = 3
FIRST_HASHED = 256

FUNCTION_WORDS = (
    # With what stands for "no phrase".
    "visual a an the of and with in on or not no any all one two three four five six "
    "thing things object objects shape shapes item figure pattern colour color coloured colored "
    "small large big tiny little huge left right top bottom "
)
SHAPES = (
    # Their plurals, and other names for them.
    "disk ring square rectangle triangle star cross heart crescent arrow bar "
    "disks rings squares rectangles triangles stars crosses hearts crescents arrows bars "
    "disc discs circle circles ball balls dot dots round hoop hoops annulus donut donuts loop loops band bands "
    "box boxes block blocks tile tiles quadrilateral oblong oblongs slab slabs brick bricks wedge wedges pyramid "
    "starlet pentagram pentagrams plus pluses plus-sign crucifix moon moons half-moon sickle sickles "
    "pointer pointers dart darts lovehearts loveheart valentine strip strips stick sticks rod rods beam beams "
)
COLOURS = (
    "red orange yellow green cyan blue purple pink white black grey gray "
    "scarlet crimson ruby tangerine amber golden gold lemon emerald lime turquoise teal aqua navy azure cobalt "
    "violet lilac magenta rose fuchsia ivory snow pale light dark bright ebony jet silver brown "
)
TEXTURES = (
    "plain striped dotted checkered solid uniform unpatterned stripy stripes banded lined "
    "spotted spotty speckled polka polka-dot dotty chequered checked checkerboard chessboard checks "
)
WORDS = FUNCTION_WORDS + SHAPES + COLOURS + TEXTURES
IDS = {word: SPECIALS + index for index, word in enumerate(WORDS.split())}

# Ids of the words of a kind, from the first to behind the last; a phrase has at most one word of each.
KINDS = {
    kind: (IDS[words.split()[0]], IDS[words.split()[-1]] + 1)
    for kind, words in (("shape", SHAPES), ("colour", COLOURS), ("texture", TEXTURES))
}


def word_ids(phrase: str) -> list[int]:
    """Ids of the words of a phrase; case and punctuation do not count."""
    words = re.findall(r"[^\W_]+(?:-[^\W_]+)*", phrase.lower())
    hashed = WORD_VOCABULARY - FIRST_HASHED
    return [IDS.get(word) or FIRST_HASHED + zlib.crc32(word.encode()) % hashed for word in words]
