"""What an ablation runs: variants, each with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phd.errors import UserError


@dataclass(frozen=True)
class Variant:
    """One of the things that are compared.

    Attributes:
        name: Of folders and rows.
        flags: For `phd fit`, in which it differs from the others.
        facts: What the table says of it before it has run; plain types.
    """

    name: str
    flags: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Run:
    """One training of one variant."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant.name}-seed{self.seed}"


def plan_runs(variants: Sequence[Variant], first_seed: int, seeds: int) -> list[Run]:
    """All runs; seed by seed, so that what a stopped ablation has compares all variants.

    Raises:
        UserError: There is no seed or no variant, or a variant is named twice.
    """
    if seeds < 1 or first_seed < 0:
        raise UserError(f"--seeds is {seeds} and --first-seed {first_seed}; give at least 1 and 0")
    names = [variant.name for variant in variants]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or not names:
        raise UserError(f"--only: {f'{twice} is named twice' if twice else 'names no variant'}; name each once")
    return [Run(variant, seed) for seed in range(first_seed, first_seed + seeds) for variant in variants]
