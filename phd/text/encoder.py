"""Phrases to tokens in the width of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn
from transformers import CLIPTextModel, Sam3LiteTextTextConfig, Sam3VideoConfig
from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextModel

from phd.concept_prompts import TextFeatures
from phd.errors import UserError
from phd.text.tokenizer import Tokenizer, Tokens, tokenizer_of

TextKind = Literal["teacher", "mobileclip_s0", "mobileclip_s1", "mobileclip2_l"]
# SAM 3 reads 32 tokens; EfficientSAM3's text students 16 or 32.
CONTEXTS = (16, 32)

# MobileCLIP (arXiv 2311.17049, table 9; MobileCLIP2, arXiv 2508.20691) as EfficientSAM3 takes them. Only S0 has
# convolutional first and last layers.
MOBILECLIP: dict[str, dict[str, Any]] = {
    "mobileclip_s0": {"num_hidden_layers": 6, "use_repmixer_blocks": True},
    "mobileclip_s1": {"num_hidden_layers": 12, "use_repmixer_blocks": False},
    "mobileclip2_l": {
        "num_hidden_layers": 12,
        "use_repmixer_blocks": False,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "projection_dim": 768,
        "num_attention_heads": 12,
    },
}


class TextEncoder(nn.Module):
    """A text model of `transformers`, the projection of its tokens, and the tokenizer of its vocabulary.

    Args:
        encoder: A `CLIPTextModel` or a `Sam3LiteTextTextModel`.
        projection: From its width to the detector's.
        context: Tokens of a phrase, start and end included.
    """

    def __init__(self, encoder: nn.Module, projection: nn.Linear, context: int) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.projection = projection
        self.context = context
        self.tokenizer: Tokenizer = tokenizer_of(self.encoder.config.vocab_size)

    def forward(self, phrases: Sequence[str]) -> TextFeatures:
        """Encode T phrases.

        Raises:
            UserError: A phrase is empty.
        """
        return self.read(self.tokenizer(phrases, self.context))

    def read(self, tokens: Tokens) -> TextFeatures:
        """Encode what its tokenizer, or one of the same vocabulary, made of phrases."""
        device = self.projection.weight.device
        ids, mask = tokens.ids.to(device), tokens.mask.to(device)
        hidden = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return TextFeatures(self.projection(hidden), mask, tokens.cut)


def teacher_text(teacher_config: dict[str, Any], context: int | None = None) -> TextEncoder:
    """SAM 3's own text encoder with fresh weights.

    Args:
        teacher_config: The teacher's `transformers` configuration as a dictionary.
        context: Tokens of a phrase; the teacher's by default. Its attention is causal, so a shorter context changes
            nothing but what is cut off.

    Raises:
        UserError: The context is longer than the teacher's.
    """
    detector: Any = Sam3VideoConfig.from_dict(teacher_config).detector_config
    text = detector.text_config
    limit = text.max_position_embeddings
    if context is not None and not 3 <= context <= limit:
        raise UserError(f"model.text_context is {context}, but the teacher's text encoder reads at most {limit}")
    text._attn_implementation = "sdpa"
    projection = nn.Linear(text.hidden_size, detector.detr_encoder_config.hidden_size)
    return TextEncoder(CLIPTextModel(text), projection, context or limit)


def mobileclip(kind: str, vocab_size: int, width: int, context: int) -> TextEncoder:
    """A small text encoder with fresh weights.

    Args:
        kind: A key of `MOBILECLIP`.
        vocab_size: Of the teacher's vocabulary, so that teacher and student read the same tokens.
        width: Of the detector.
        context: Tokens of a phrase: 16 or 32.

    Raises:
        UserError: No such encoder, or another context.
    """
    if kind not in MOBILECLIP:
        raise UserError(f"text encoder {kind!r} does not exist; choose one of {', '.join(get_args(TextKind))}")
    if context not in CONTEXTS:
        raise UserError(f"model.text_context is {context}; give 16 or 32")
    config = Sam3LiteTextTextConfig(vocab_size=vocab_size, max_position_embeddings=context, **MOBILECLIP[kind])
    config._attn_implementation = "sdpa"
    encoder = Sam3LiteTextTextModel(config)
    # The detector reads tokens; the pooled phrase of CLIP's contrastive loss is kept only for its published weights.
    encoder.projection.requires_grad_(False)
    return TextEncoder(encoder, nn.Linear(config.hidden_size, width), context)


def teacher_vocabulary(teacher_config: dict[str, Any]) -> tuple[int, int, int]:
    """Size of the vocabulary, width of the detector, and context of a teacher's text encoder."""
    detector: Any = Sam3VideoConfig.from_dict(teacher_config).detector_config
    text = detector.text_config
    return text.vocab_size, detector.detr_encoder_config.hidden_size, text.max_position_embeddings
