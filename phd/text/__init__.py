"""Text encoders: the teacher's own, and MobileCLIP's in three sizes."""

from __future__ import annotations

from phd.text.encoder import CONTEXTS, MOBILECLIP, TextEncoder, TextKind, mobileclip, teacher_text
from phd.text.tokenizer import Tokenizer, tokenizer_of

__all__ = [
    "CONTEXTS",
    "MOBILECLIP",
    "TextEncoder",
    "TextKind",
    "Tokenizer",
    "mobileclip",
    "teacher_text",
    "tokenizer_of",
]
