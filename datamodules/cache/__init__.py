"""Teacher features on disk: format, quantiser, reader, and the join with images."""

from __future__ import annotations

from datamodules.cache.join import CachedCollate, CacheJoin
from datamodules.cache.reader import CacheReader

__all__ = ["CacheJoin", "CacheReader", "CachedCollate"]
