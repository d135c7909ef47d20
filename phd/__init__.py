"""Progressive Hierarchical Distillation of the SAM family into small students."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phd.loading import load_segmenter
    from phd.predict import ImagePredictor
    from phd.video_concepts import ConceptTracker
    from phd.video_predictor import VideoPredictor

__all__ = ["ConceptTracker", "ImagePredictor", "VideoPredictor", "__version__", "load_segmenter"]
__version__ = "0.1.0"

_HOMES = {
    "ConceptTracker": "phd.video_concepts",
    "ImagePredictor": "phd.predict",
    "VideoPredictor": "phd.video_predictor",
    "load_segmenter": "phd.loading",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `phd --help` does not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'phd' has no attribute {name!r}")
