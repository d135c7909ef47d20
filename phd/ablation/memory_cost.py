"""What reading and compressing a memory costs for each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from phd.ablation.plan import Variant
from phd.bench.memory_work import MemoryWork
from phd.bench.timing import by_turns, one_core
from phd.heads.memory.compressors import MemorySettings
from phd.heads.memory.video import VideoHeads

ROUNDS = 15


def memory_costs(
    variants: Sequence[Variant], build: Callable[[MemorySettings], VideoHeads], rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Cost of one object in one frame with a full bank, for each variant.

    Args:
        variants: Of `phd.ablation.memory`.
        build: Makes heads with a memory of these settings; the weights do not matter.
        rounds: How often each is timed; the variants take turns on one core.

    Returns:
        By variant: GMACs by arithmetic and median milliseconds of CPU time, of the memory attention (`read`) and of the
        compression (`write`); the tokens of a frame, and all tokens and pointers that are read (`keys`).
    """
    settings = {each.name: MemorySettings(**each.facts["settings"]) for each in variants}
    works = {name: MemoryWork(build(each)) for name, each in settings.items()}
    calls = {
        (name, part): (lambda item, work=work, part=part: getattr(work, part)())
        for name, work in works.items()
        for part in ("read", "write")
    }
    with one_core():
        times = by_turns({" ".join(key): call for key, call in calls.items()}, 1, rounds)
    costs: dict[str, dict[str, Any]] = {}
    for name, work in works.items():
        gmacs = work.gmacs(settings[name])
        milliseconds = {part: times[f"{name} {part}"].median_cpu for part in ("read", "write")}
        costs[name] = {
            **{f"{part}_gmacs": gmacs[part] for part in milliseconds},
            **{f"{part}_ms": value for part, value in milliseconds.items()},
            "tokens": work.heads.compressor.num_tokens,
            "keys": work.keys,
        }
    return costs
