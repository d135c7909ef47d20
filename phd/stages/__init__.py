"""The three LightningModules."""

from phd.stages.clip_prompts import ClipMix
from phd.stages.clip_terms import TrackingLosses
from phd.stages.encoder_distill import EncoderDistill, Losses, Phase, PromptMix
from phd.stages.memory_distill import MemoryDistill

__all__ = ["ClipMix", "EncoderDistill", "Losses", "MemoryDistill", "Phase", "PromptMix", "TrackingLosses"]
