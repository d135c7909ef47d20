"""The three LightningModules."""

from phd.stages.encoder_distill import EncoderDistill, Losses, Phase, PromptMix

__all__ = ["EncoderDistill", "Losses", "Phase", "PromptMix"]
