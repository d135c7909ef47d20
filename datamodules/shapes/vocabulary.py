"""The words of the embedded world: what its shapes, colours and textures are called."""

from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.textures import PALETTE, TEXTURES

SYNONYMS: dict[str, tuple[str, ...]] = {
    "disk": ("disc", "circle"),
    "ring": ("hoop", "annulus"),
    "square": ("tile",),
    "rectangle": ("oblong", "slab"),
    "triangle": ("wedge",),
    "star": ("pentagram", "starlet"),
    "cross": ("plus",),
    "heart": ("loveheart", "valentine"),
    "crescent": ("moon", "sickle"),
    "arrow": ("pointer", "dart"),
    "red": ("scarlet", "crimson"),
    "orange": ("tangerine", "amber"),
    "yellow": ("golden", "lemon"),
    "green": ("emerald",),
    "cyan": ("turquoise", "aqua"),
    "blue": ("azure", "cobalt"),
    "purple": ("violet",),
    "pink": ("rose",),
    "white": ("ivory", "snow"),
    "black": ("ebony", "jet"),
    "plain": ("solid", "uniform"),
    "striped": ("stripy", "banded"),
    "dotted": ("spotted", "speckled"),
    "checkered": ("chequered", "checked"),
}
"""Name of an attribute -> other words for it; no word stands for two names."""

NAMES: dict[str, tuple[str, ...]] = {"shape": tuple(OUTLINES), "colour": tuple(PALETTE), "texture": tuple(TEXTURES)}
"""Attribute -> the names that it takes."""

WORDS: tuple[str, ...] = tuple(sorted({*SYNONYMS, *(word for words in SYNONYMS.values() for word in words)}))
"""Every word that a phrase of this world may hold; `phd.text.words` gives each an id of its own."""


def wordings(name: str) -> tuple[str, ...]:
    """All words for the name of an attribute, the name first."""
    return (name, *SYNONYMS[name])
