"""LightningDataModules over WebDataset shards, and the converters that write them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.clips import Clips
    from datamodules.concepts import Concepts
    from datamodules.phrases import Phrases
    from datamodules.sa1b import SA1B

__all__ = ["SA1B", "Clips", "Concepts", "Phrases"]
MODULES = {"SA1B": "sa1b", "Clips": "clips", "Concepts": "concepts", "Phrases": "phrases"}


def __getattr__(name: str) -> Any:
    """Import a data module when it is asked for: the converters need no Lightning, which takes seconds to import."""
    if name in MODULES:
        return getattr(import_module(f"datamodules.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
