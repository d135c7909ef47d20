"""Progressive Hierarchical Distillation of the SAM family into small students."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phd.loading import load_segmenter
    from phd.predict import ImagePredictor

__all__ = ["ImagePredictor", "__version__", "load_segmenter"]
__version__ = "0.1.0"

_HOMES = {"ImagePredictor": "phd.predict", "load_segmenter": "phd.loading"}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `phd --help` does not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'phd' has no attribute {name!r}")
