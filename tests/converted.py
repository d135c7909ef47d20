"""What tests of converters ask of a folder of shards."""

import os
from pathlib import Path

from datamodules.reader import ShardReader

SHARED = Path(os.environ.get("PHD_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def keys(root):
    reader = ShardReader(root)
    return [reader.key(number) for number in range(len(reader))]


def contents(root):
    """Every file in a folder with its bytes."""
    return {path.name: path.read_bytes() for path in root.iterdir()}


def nothing_written(tmp_path):
    return not (tmp_path / "out").exists()
