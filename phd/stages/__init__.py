"""The three LightningModules, and those of text encoders and of the embedded teacher."""

from phd.stages.clip_prompts import ClipMix
from phd.stages.clip_terms import TrackingLosses
from phd.stages.concept_finetune import ConceptFinetune
from phd.stages.concept_losses import ConceptLosses
from phd.stages.concept_prompts import ConceptMix
from phd.stages.concept_rates import PartRates
from phd.stages.encoder_distill import EncoderDistill, Losses, Phase, PromptMix
from phd.stages.memory_distill import MemoryDistill
from phd.stages.named_things import NamedThings
from phd.stages.text_distill import TextDistill, TextLosses

__all__ = [
    "ClipMix",
    "ConceptFinetune",
    "ConceptLosses",
    "ConceptMix",
    "EncoderDistill",
    "Losses",
    "MemoryDistill",
    "NamedThings",
    "PartRates",
    "Phase",
    "PromptMix",
    "TextDistill",
    "TextLosses",
    "TrackingLosses",
]
