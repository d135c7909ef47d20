"""`phd demo`: the stages on the embedded world, end to end, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.commands import demo_concepts, demo_images, demo_videos
from phd.commands.steps import TEACHER, require_recipes, say, split_at_dashes
from phd.one_command import only_command_in

BACKBONE = "efficientvit_b0"


def run(arguments: list[str]) -> None:
    """Run what is not there yet, and write the report."""
    parser = argparse.ArgumentParser(
        prog="phd demo",
        description="Distil one student on the embedded world: images, video, noun phrases.",
        epilog="After --: more arguments for phd fit, of every stage.",
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/demo"), help="folder of the demo")
    parser.add_argument("--train-scenes", type=int, default=demo_images.TRAIN, help="stage 1 (%(default)s)")
    parser.add_argument("--test-scenes", type=int, default=demo_images.TEST)
    parser.add_argument("--train-clips", type=int, default=demo_videos.TRAIN, help="stage 2 (%(default)s)")
    parser.add_argument("--test-clips", type=int, default=demo_videos.TEST)
    parser.add_argument(
        "--train-phrases", type=int, default=demo_concepts.TRAIN, metavar="SCENES", help="stage 3 (%(default)s)"
    )
    parser.add_argument("--test-phrases", type=int, default=demo_concepts.TEST, metavar="SCENES")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the YAML files")
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)
    require_recipes(options.experiments, ["stage1", "stage2", "stage3"])

    out, experiments = options.out, options.experiments
    with only_command_in(out):
        images = demo_images.data(out, options.train_scenes, options.test_scenes)
        numbers = {"image": demo_images.stage(out, images, experiments, more, BACKBONE, TEACHER)}
        videos = demo_videos.data(out, options.train_clips, options.test_clips)
        numbers["video"] = demo_videos.stage(out, videos, experiments, more, numbers["image"]["student"], TEACHER)
        phrases = demo_concepts.data(out, options.train_phrases, options.test_phrases)
        numbers["concept"] = demo_concepts.stage(out, phrases, experiments, more, numbers["video"]["student"], TEACHER)
        from phd.report import write_report

        sections = [
            demo_images.section(numbers["image"], images["test"], TEACHER),
            demo_videos.section(numbers["video"], videos["test"], TEACHER),
            demo_concepts.section(numbers["concept"], phrases["test"], TEACHER),
        ]
        say(f"[bold]report:[/] {write_report(out, sections)}")
