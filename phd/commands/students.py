"""`phd students`: the table of the nine, and their full size with each text encoder."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.commands.json_file import write_json


def run(arguments: list[str]) -> None:
    """Parse, count, print."""
    parser = argparse.ArgumentParser(
        prog="phd students",
        description=(
            "The nine students at SAM 3's contract (1008 pixels, full width), and their size with each of four text "
            "encoders; nothing is downloaded."
        ),
    )
    parser.add_argument("--json", type=Path, default=None, help="also write the table here, as counts")
    parser.add_argument("names", nargs="*", help="only these; all nine by default")
    options = parser.parse_args(arguments)

    from transformers import Sam3ImageProcessor, Sam3VideoConfig

    from phd.student.account import print_table, students_table
    from phd.teachers.sam3 import sam3_contract

    config = Sam3VideoConfig()
    contract = sam3_contract(config, Sam3ImageProcessor())
    rows = students_table(contract, config.to_dict(), options.names or None)
    print_table(rows)
    write_json(options.json, rows)
