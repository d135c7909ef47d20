"""`phd cache`: teacher features on disk, so that training need not run the teacher's trunk."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from phd.commands.image_size import add_image_size
from phd.errors import UserError

DTYPES, PRECISIONS = ("int8", "fp16", "bf16"), ("32-true", "bf16-mixed")


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    options = parser().parse_args(arguments)
    for name in ("batch_size", "threads", "tries", "num_nodes"):
        if getattr(options, name, 1) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give at least 1")
    {"plan": plan, "build": build, "verify": verify, "info": info}[options.action](options)


def parser() -> argparse.ArgumentParser:
    """Of the four actions."""
    whole = argparse.ArgumentParser(prog="phd cache", description="Teacher features on disk.")
    actions = whole.add_subparsers(dest="action", required=True)
    one = actions.add_parser("plan", help="print bytes, files and hours; nothing is written")
    two = actions.add_parser("build", help="run the teacher over the data; go on where an earlier build was stopped")
    three = actions.add_parser("verify", help="check all sizes, and run the teacher again on a sample")
    for action in (one, two):
        action.add_argument("data", help="folder of image shards")
        action.add_argument("--dtype", default="int8", choices=DTYPES, help="int8 has a scale for each channel")
        action.add_argument("--precision", default="32-true", choices=PRECISIONS, help="what the trunk runs in")
    one.add_argument("--out", type=Path, default=Path(), help="where the cache would lie: its free space is printed")
    one.add_argument("--tries", type=int, default=4, help="images on which the teacher is timed")
    two.add_argument("--out", type=Path, required=True, help="folder of the cache")
    two.add_argument("--accelerator", default="auto", help="as of Lightning: auto, cpu, gpu")
    two.add_argument("--devices", default="auto", help="processes on this machine; auto: all GPUs, or one CPU process")
    two.add_argument("--num-nodes", type=int, default=1, help="machines; start the same command on each")
    two.add_argument(
        "--stale-after", type=float, default=120.0, help="seconds until a silent builder's shard is taken over"
    )
    three.add_argument("dir", type=Path, help="folder of the cache")
    three.add_argument("--data", required=True, help="folder of the image shards that it was made from")
    three.add_argument("--sample", type=float, default=0.01, help="share of the images; always the same ones")
    for action in (one, two, three):
        action.add_argument("--teacher", required=True, help="hub id, folder, or toy-teacher")
        add_image_size(action)
        action.add_argument("--batch-size", type=int, default=1, help="images at once")
    for action in (one, three):
        action.add_argument("--device", default="auto", help="cpu or cuda; auto: cuda where there is one")
    for action in (two, three):
        threads = min(8, os.cpu_count() or 1)
        action.add_argument("--threads", type=int, default=threads, help="for decoding, in each process")
    actions.add_parser("info", help="print what a cache holds").add_argument("dir", type=Path, help="its folder")
    return whole


def plan(options: argparse.Namespace) -> None:
    """Print what a cache would cost."""
    from datamodules.cache.quantise import LIMIT
    from datamodules.reader import ShardReader
    from phd.cache import LiveTrunk, estimate, recipe_of
    from phd.cache.plan import free_bytes
    from phd.teachers import load_teacher

    reader, device = ShardReader(options.data), _device(options.device)
    teacher = load_teacher(options.teacher, options.image_size)
    recipe = recipe_of(teacher, options.dtype, options.precision)
    costs = estimate(reader, recipe, LiveTrunk(teacher, device, options.precision), options.tries, options.batch_size)
    others = ", ".join(f"{name} {_size(size)}" for name, size in costs.bytes_by_dtype.items() if name != options.dtype)
    free = free_bytes(options.out)
    print(f"images: {costs.images} in {costs.shards} shards of {options.data}")
    total, each = _size(costs.bytes), _size(costs.image_bytes)
    print(f"bytes:  {costs.bytes} ({total} as {options.dtype}, {each} an image; {others})")
    print(f"files:  {costs.files} (a tar and an index for each shard, and the manifest)")
    print(
        f"hours:  {costs.hours:.3g} on one device: {costs.seconds:.3g} s an image on {device}, {options.precision}, "
        f"measured on {costs.tried} images after a batch to warm up; n devices take 1/n of it"
    )
    fits = "" if costs.relative_mse <= LIMIT else f", MORE than the {LIMIT:.0e} that is allowed: choose another --dtype"
    print(f"error:  relative MSE of at most {costs.relative_mse:.2e} on these images{fits}")
    print(f"free:   {_size(free)} at {options.out}{'' if costs.bytes < free else ', which is NOT ENOUGH'}")


def build(options: argparse.Namespace) -> None:
    """Build, or go on building."""
    from phd.cache.spread import Settings
    from phd.cache.spread import build as build_cache

    if not options.stale_after > 0:  # which holds for NaN too
        raise UserError(f"--stale-after is {options.stale_after}; give a number of seconds above 0")
    devices: Any = int(options.devices) if options.devices.isdigit() else options.devices
    names = Settings.__dataclass_fields__.keys() - {"devices"}
    manifest = build_cache(Settings(**{name: getattr(options, name) for name in names}, devices=devices))
    if manifest is None:
        return
    largest = ", ".join(f"{name} {error['max']:.2e}" for name, error in manifest.relative_mse.items())
    print(
        f"{options.out}: features of {manifest.samples} images in {len(manifest.parts)} shards, "
        f"{_size(manifest.bytes)}; relative MSE at most {largest}"
    )


def verify(options: argparse.Namespace) -> None:
    """Check sizes, and compare a sample with the teacher."""
    from rich.console import Console
    from rich.progress import Progress

    from datamodules.cache.layout import read_manifest
    from datamodules.reader import ShardReader
    from phd.cache import LiveTrunk, recipe_of
    from phd.cache import verify as verify_cache
    from phd.teachers import load_teacher

    if not 0 < options.sample <= 1:
        raise UserError(f"--sample is {options.sample}; give a share above 0 and at most 1")
    recipe = read_manifest(options.dir).recipe
    teacher = load_teacher(options.teacher, options.image_size)
    differing = recipe.differences(recipe_of(teacher, recipe.dtype, recipe.precision))
    if differing:
        raise UserError(
            f"{options.dir}: made by {recipe.teacher}, which is not this teacher {options.teacher} "
            f"({'; '.join(differing[:3])}); name the one that it was made by"
        )
    trunk = LiveTrunk(teacher, _device(options.device), recipe.precision)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("verify")
        report = verify_cache(
            options.dir,
            ShardReader(options.data),
            trunk,
            options.sample,
            options.batch_size,
            options.threads,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    for problem in report.problems:
        print(problem)
    print(f"{options.dir}: sizes of {report.shards} shards checked, {report.images} images run again")
    for number, (mean, largest) in enumerate(zip(report.mean, report.largest, strict=True)):
        print(f"level{number}: relative MSE mean {mean:.2e}, max {largest:.2e}")
    if report.problems:
        raise UserError(f"{options.dir}: {len(report.problems)} problems, listed above")


def info(options: argparse.Namespace) -> None:
    """Print the manifest, and how far the building is."""
    from datamodules.cache.layout import read_manifest

    manifest = read_manifest(options.dir)
    recipe, contract = manifest.recipe, manifest.recipe.contract
    done = [part for part in manifest.parts if part.done(options.dir)]
    size = sum((options.dir / part.tar).stat().st_size for part in done)
    levels = ", ".join(f"{level.channels} x {level.size} x {level.size}" for level in contract.trunk)
    print(f"state:     {f'finished {manifest.date}' if manifest.finished else 'not finished'}")
    print(f"shards:    {len(done)} of {len(manifest.parts)}, {_size(size)}")
    print(f"images:    {sum(part.samples for part in done)} of {manifest.samples}, of {manifest.data}")
    print(f"teacher:   {recipe.teacher}, weights {recipe.weights_sha256[:12]}")
    print(f"contract:  {contract.family}, {contract.resize} to {contract.image_size}; trunk {levels}")
    print(f"transform: {recipe.transform_sha256[:12]}")
    print(f"stored:    {recipe.dtype}, quantiser {recipe.quantiser}; made in {recipe.precision}")
    for name, error in manifest.relative_mse.items():
        print(f"{name}:    relative MSE mean {error['mean']:.2e}, max {error['max']:.2e}")


def _device(name: str) -> Any:
    import torch

    from phd.cache.plan import best_device
    from phd.commands.device import checked_device

    return best_device() if name == "auto" else torch.device(checked_device(name))


def _size(count: int) -> str:
    """Bytes in decimal units, as disks are sold."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
