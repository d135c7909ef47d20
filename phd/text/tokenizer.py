"""Phrases to token ids: CLIP's byte pairs, or the small vocabulary of the embedded world."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phd.errors import UserError
from phd.text.words import WORD_VOCABULARY, word_ids

CLIP_VOCABULARY = 49408


@dataclass(frozen=True)
class Tokens:
    """T phrases as ids.

    Attributes:
        ids: (T, L) start, the phrase, end, padding.
        mask: (T, L) bool, all but the padding.
        cut: How many phrases were longer than L and lost their end.
    """

    ids: Tensor
    mask: Tensor
    cut: int


@dataclass(frozen=True)
class Tokenizer:
    """Of one vocabulary; which one follows from its size.

    Attributes:
        vocab_size: Number of ids.
        start: Id before a phrase.
        end: Id after it.
        pad: Id after that. MobileCLIP's convolutions see it, so it must be what it was in training: 0 in CLIP's code.
    """

    vocab_size: int
    start: int
    end: int
    pad: int = 0

    def ids(self, phrase: str) -> list[int]:
        """Ids of a phrase, however long, without start and end."""
        return clip_bytes().encode(phrase) if self.vocab_size == CLIP_VOCABULARY else word_ids(phrase)

    def __call__(self, phrases: Sequence[str], context: int) -> Tokens:
        """Ids of T phrases, each cut or padded to `context` ids; start and end count.

        Raises:
            UserError: A phrase is empty.
        """
        rows, cut = [], 0
        for number, phrase in enumerate(phrases):
            ids = self.ids(phrase)
            if not ids:
                raise UserError(f"phrase {number + 1} of {len(phrases)} is empty ({phrase!r}); give a noun phrase")
            cut += len(ids) > context - 2
            rows.append([self.start, *ids[: context - 2], self.end])
        ids = torch.tensor([row + [self.pad] * (context - len(row)) for row in rows], dtype=torch.long)
        lengths = torch.tensor([len(row) for row in rows])
        return Tokens(ids.view(len(rows), context), torch.arange(context) < lengths[:, None], cut)


def tokenizer_of(vocab_size: int) -> Tokenizer:
    """The tokenizer of a vocabulary of this size.

    Raises:
        UserError: It is neither CLIP's nor the embedded world's.
    """
    if vocab_size == CLIP_VOCABULARY:
        return Tokenizer(vocab_size, start=vocab_size - 2, end=vocab_size - 1)
    if vocab_size == WORD_VOCABULARY:
        return Tokenizer(vocab_size, start=1, end=2)
    raise UserError(
        f"a text encoder with a vocabulary of {vocab_size} entries: known are CLIP's ({CLIP_VOCABULARY}) and the "
        f"embedded world's ({WORD_VOCABULARY}); take a teacher with one of them"
    )


@functools.cache
def clip_bytes() -> Any:
    """CLIP's byte-pair encoder; `open_clip_torch` brings the vocabulary along, so nothing is downloaded."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
