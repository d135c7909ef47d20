"""Spreads the building over devices and nodes by Lightning Fabric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.cache.layout import Manifest
from datamodules.cache.quantise import Dtype
from datamodules.cache.recipe import Precision
from datamodules.reader import ShardReader
from datamodules.writer import terminable
from phd.cache.build import Builder
from phd.cache.live import LiveTrunk, recipe_of
from phd.errors import UserError
from phd.teachers import load_teacher


@dataclass(frozen=True)
class Settings:
    """Of `phd cache build`; its help explains them."""

    data: str
    out: Path
    teacher: str
    image_size: int | None = None
    dtype: Dtype = "int8"
    precision: Precision = "32-true"
    batch_size: int = 1
    threads: int = 4
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    stale_after: float = 120.0


def build(settings: Settings) -> Manifest | None:
    """Build a cache with as many processes as there are devices; each works by itself, on shards of its own.

    Every process returns when the whole cache is there, the first one with its manifest and the others with None.

    Raises:
        UserError: This machine has no such devices, or the building fails in one of the processes.
    """
    try:
        wanted = {"accelerator": settings.accelerator, "devices": settings.devices, "num_nodes": settings.num_nodes}
        fabric = Fabric(**wanted)
        # No process ever waits for another one by a collective: a slow shard would run into its time limit.
        fabric.launch()
    except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
        first_line = " ".join(str(error).split())
        raise UserError(
            f"--accelerator {settings.accelerator} --devices {settings.devices} --num-nodes {settings.num_nodes}: "
            f"cannot be had here ({first_line}); give what this machine or the launcher has"
        ) from error
    manifest = build_rank(settings, fabric)
    return manifest if fabric.global_rank == 0 else None


def build_rank(settings: Settings, fabric: Fabric) -> Manifest:
    """What one process does."""
    reader = ShardReader(settings.data)
    teacher = load_teacher(settings.teacher, settings.image_size)
    recipe = recipe_of(teacher, settings.dtype, settings.precision)
    builder = Builder(
        settings.out, reader, recipe, fabric.global_rank, fabric.world_size, stale_after=settings.stale_after
    )
    trunk = LiveTrunk(teacher, fabric.device, settings.precision)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")]
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=fabric.global_rank != 0)
    with terminable(), bar:
        task = bar.add_task("cache", total=len(reader), completed=builder.finished_images(), rate="")

        def report(finished: int, in_hand: int, waits_for: str) -> None:
            # What others have finished counts too, so the rate is that of all builders together.
            speed = bar.tasks[task].speed
            rate = waits_for or (f"{speed:.1f} images/s" if speed else "")
            bar.update(task, completed=finished + in_hand, rate=rate)

        return builder.run(trunk, settings.batch_size, settings.threads, report)
