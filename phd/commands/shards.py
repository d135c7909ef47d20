"""`phd shards`: convert raw data into shards, and inspect them."""

from __future__ import annotations

import argparse
import sys

from phd.commands import shards_inspect, shards_negatives
from phd.errors import warn_user

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
SHOWN = 20


def run(arguments: list[str]) -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(prog="phd shards", description="Convert raw data into shards, and inspect them.")
    actions = parser.add_subparsers(dest="action", required=True)
    convert = actions.add_parser("convert", help="raw files to WebDataset shards with an index")
    if arguments[:1] == ["convert"]:
        from datamodules.convert import KINDS  # takes seconds

        kinds = convert.add_subparsers(dest="kind", required=True)
        for kind in KINDS.values():
            kind.add_arguments(kinds.add_parser(kind.name, help=kind.help))
    shards_inspect.add_actions(actions)
    shards_negatives.add_action(actions, parse=arguments[:1] == ["negatives"])
    options = parser.parse_args(arguments)
    {"convert": _convert, "negatives": shards_negatives.run}.get(options.action, shards_inspect.run)(options)


def _convert(options: argparse.Namespace) -> None:
    from datamodules.convert import KINDS, convert

    try:
        summary = convert(KINDS[options.kind], options)
    except KeyboardInterrupt as error:
        print(f"phd: stopped: {str(error) or 'interrupted'}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    before = "finished already: " if summary.finished else ""
    print(f"{options.out}: {before}{summary}")
    for doubt in summary.doubts:
        warn_user(f"{options.out}: {doubt}")
    for skipped in summary.skipped[:SHOWN]:
        print(f"skipped: {skipped['problem']}")
    if len(summary.skipped) > SHOWN:
        print(f"skipped: {len(summary.skipped) - SHOWN} more, listed in {options.out / 'skipped.jsonl'}")
