"""The option `--image-size`."""

from __future__ import annotations

import argparse


def add_image_size(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Let the user run a model at another size than it was made for; the size is checked where it is loaded."""
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="run SAM 3, or a student of it, at this size, not its own"
    )
