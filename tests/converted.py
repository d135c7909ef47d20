"""What tests of converters ask of a folder of shards."""

import os
from pathlib import Path

from datamodules.concept_record import check_concept
from datamodules.convert import convert
from datamodules.reader import ShardReader

SHARED = Path(os.environ.get("PHD_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def keys(root):
    reader = ShardReader(root)
    return [reader.key(number) for number in range(len(reader))]


def concepts(kind, *paths, **settings):
    """Convert, and check every concept record: the summary, and the records by key."""
    summary = convert(kind, kind.options(*paths, **settings))
    reader = ShardReader(paths[-1])
    records = {reader.key(number): reader.record(number) for number in range(len(reader))}
    for record in records.values():
        check_concept(record, record["image"]["height"], record["image"]["width"], "record")
    return summary, records


def contents(root):
    """Every file in a folder with its bytes."""
    return {path.name: path.read_bytes() for path in root.iterdir()}


def nothing_written(tmp_path):
    return not (tmp_path / "out").exists()
