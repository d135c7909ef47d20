"""The commands beside training; each module parses its own arguments and imports what it needs when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command and the module that runs it."""

    module: str
    summary: str

    def run(self, arguments: list[str]) -> Any:
        """Import the module and run it."""
        return import_module(f"phd.commands.{self.module}").run(arguments)


COMMANDS = {
    "students": Command("students", "print the nine students with their parameters and GMACs"),
    "shapes": Command("shapes", "write the embedded world as raw files of a real format"),
    "shards": Command("shards", "convert raw data into shards, and inspect them"),
    "cache": Command("cache", "plan, build and verify a cache of the teacher's features"),
    "segment": Command("segment", "segment a photograph from a box or points"),
    "track": Command("track", "track objects through a video from boxes, points or masks"),
    "detect": Command("detect", "find every instance of noun phrases in a photograph"),
    "evaluate": Command("evaluate", "measure a student or a teacher"),
    "bench": Command("bench", "measure what data path and memory cost on this machine"),
    "sweep": Command("sweep", "run a W&B sweep file without a server"),
    "ablation": Command("ablation", "compare variants on the embedded world, with several seeds"),
    "family": Command("family", "distil the students through the three stages and write one table"),
    "demo": Command("demo", "run the stages on the embedded world and write a report"),
    "toy-teacher": Command("toy_teacher", "train the embedded teacher again"),
}
