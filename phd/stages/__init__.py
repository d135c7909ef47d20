"""The three LightningModules."""

from phd.stages.encoder_distill import EncoderDistill, Phase, PromptMix

__all__ = ["EncoderDistill", "Phase", "PromptMix"]
