"""The teacher at work for the cache: plan, build, verify."""

from __future__ import annotations

from phd.cache.build import Builder, new_manifest
from phd.cache.live import LiveTrunk, recipe_of
from phd.cache.plan import Estimate, estimate
from phd.cache.verify import VerifyReport, verify

__all__ = [
    "Builder",
    "Estimate",
    "LiveTrunk",
    "VerifyReport",
    "estimate",
    "new_manifest",
    "recipe_of",
    "verify",
]
