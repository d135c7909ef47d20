"""What a phrase of the embedded world means, read anew from its words, for the tests of the raw formats."""

from __future__ import annotations

import numpy as np

from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.placement import outline_mask
from datamodules.shapes.textures import PALETTE, TEXTURES
from datamodules.shapes.vocabulary import SYNONYMS

NAME_OF = {word: name for name, words in SYNONYMS.items() for word in (name, *words)}
TABLES = {"shape": OUTLINES, "colour": PALETTE, "texture": TEXTURES}


def meaning(text):
    """Attribute -> name, for each word of a phrase."""
    names = [NAME_OF[word] for word in text.split()]
    return {attribute: name for name in names for attribute, table in TABLES.items() if name in table}


def missing(text, identity):
    """How many words of a phrase are false of a thing."""
    return sum(getattr(identity, attribute) != name for attribute, name in meaning(text).items())


def clear_and_seen(scene, masks):
    """Which things are visible enough, and which at all, from their pixels."""
    height, width = masks.shape[1:]
    clear, seen = [], []
    for thing, mask in zip(scene.things, masks, strict=True):
        _, area = outline_mask(thing.identity.shape, thing.pose, height, width)
        clear.append(bool(mask.sum() >= 60 and mask.sum() >= 0.45 * area))
        seen.append(bool(mask.any()))
    return clear, seen


def overlap(first, second):
    return np.logical_and(first, second).sum() / np.logical_or(first, second).sum()
