"""`phd shards`: convert raw data into shards, and verify shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.errors import UserError


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(prog="phd shards", description="Convert raw data into shards, and verify shards.")
    actions = parser.add_subparsers(dest="action", required=True)
    convert = actions.add_parser("convert", help="raw files to WebDataset shards with an index")
    kinds = convert.add_subparsers(dest="kind", required=True)
    sa1b = kinds.add_parser("sa1b", help="a folder of sa_*.jpg and sa_*.json")
    sa1b.add_argument("raw", type=Path, help="folder with the raw files")
    coco = kinds.add_parser("coco", help="any COCO-format file with its images: the own-data case")
    coco.add_argument("images", type=Path, help="folder of the images")
    coco.add_argument("annotations", type=Path, help="COCO JSON file")
    for kind in (sa1b, coco):
        kind.add_argument("out", type=Path, help="empty or new folder")
        kind.add_argument("--samples-per-shard", type=int, default=1000, help="images in one tar")
        kind.add_argument("--max-samples", type=int, default=None, help="stop after so many images")
        kind.add_argument("--skip-bad", type=int, default=0, help="tolerate so many bad samples; they are listed")
    verify = actions.add_parser("verify", help="read everything and list what is wrong")
    verify.add_argument("root", type=Path, help="folder of shards")
    options = parser.parse_args(arguments)
    _verify(options.root) if options.action == "verify" else _convert(options)


def _convert(options: argparse.Namespace) -> None:
    from datamodules.convert import convert_coco, convert_sa1b

    limits = {name: getattr(options, name) for name in ("samples_per_shard", "max_samples", "skip_bad")}
    if options.kind == "sa1b":
        summary = convert_sa1b(options.raw, options.out, **limits)
    else:
        summary = convert_coco(options.images, options.annotations, options.out, **limits)
    crowds = f", {summary.crowds} crowd regions" if summary.crowds else ""
    reencoded = f", {summary.reencoded} re-encoded as JPEG" if summary.reencoded else ""
    print(
        f"{options.out}: {summary.samples} images, {summary.masks} masks{crowds}{reencoded} "
        f"in {summary.shards} shards of {summary.bytes / 1e6:.1f} MB"
    )
    for skipped in summary.skipped:
        print(f"skipped: {skipped}")


def _verify(root: Path) -> None:
    from datamodules.verify import verify

    report = verify(root)
    for problem in report.problems:
        print(problem)
    print(
        f"{root}: {report.samples} images, {report.masks} masks, {report.crowds} crowd regions, {report.shards} shards"
    )
    if report.problems:
        raise UserError(f"{root}: {len(report.problems)} problems, listed above; convert the data again")
