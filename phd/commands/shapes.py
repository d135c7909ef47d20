"""`phd shapes`: the embedded world as raw files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.errors import UserError

FORMATS = {
    "sa1b": "still images",
    "sav": "clips",
    "saco-gold": "still images with noun phrases, three annotators",
    "saco-silver": "the same with one exact answer",
    "saco-veval": "clips with noun phrases",
}
# What further settings are for, with the formats that have it.
CLIPS = ("clips", "sav", "saco-veval")
PHRASES = ("noun phrases", "saco-gold", "saco-silver", "saco-veval")
CROWDS = ("still images with noun phrases", "saco-gold", "saco-silver")
ONLY_FOR = {"seconds": CLIPS, "occlusion": CLIPS, "crowd": CROWDS} | dict.fromkeys(
    ("positives", "negatives", "hard", "synonyms"), PHRASES
)


def run(arguments: list[str]) -> None:
    """Parse and write."""
    options = _parser().parse_args(arguments)
    if options.samples < 1:
        raise UserError(f"--samples is {options.samples}; give at least 1")
    order = {"samples": options.samples, "seed": options.seed, "workers": options.workers}
    given = {name: value for name in ONLY_FOR if (value := getattr(options, name)) is not None}
    for name in given:
        what, *formats = ONLY_FOR[name]
        if options.format not in formats:
            raise UserError(f"--{name} is for {what}; add --format {' or '.join(formats)}, or leave it out")
    if options.format == "sa1b":
        from datamodules.shapes import write_sa1b

        write_sa1b(options.out, **order)
    elif options.format == "sav":
        from datamodules.shapes.sav import write_sav

        write_sav(options.out, **order, **given)
    else:
        _write_phrases(options.format, options.out, order, given)


def _write_phrases(kind: str, out: Path, order: dict[str, int], given: dict[str, Any]) -> None:
    from datamodules.shapes.questions import Asking

    asking = Asking(**{name: given.pop(name) for name in list(given) if ONLY_FOR[name] is PHRASES})
    if kind == "saco-veval":
        from datamodules.shapes.veval import write_veval

        write_veval(out, **order, asking=asking, **given)
        return
    from datamodules.shapes.saco import write_saco_gold, write_saco_silver

    write = write_saco_gold if kind == "saco-gold" else write_saco_silver
    write(out, **order, asking=asking, **given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phd shapes", description="Write the embedded world as raw files.")
    parser.add_argument("out", type=Path, help="empty or new folder")
    described = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    parser.add_argument("--format", default="sa1b", choices=FORMATS, help=f"whose raw format to write. {described}")
    parser.add_argument("--samples", type=int, default=500, help="number of scenes or clips")
    parser.add_argument("--seed", type=int, default=7, help="the same seed writes the same bytes")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    clips = parser.add_argument_group(f"clips ({', '.join(CLIPS[1:])})")
    clips.add_argument(
        "--seconds", type=float, nargs=2, metavar=("LEAST", "MOST"), help="duration of a clip (default: 3 to 5)"
    )
    clips.add_argument(
        "--occlusion",
        choices=["any", "long"],
        help="long: in each clip, an object that is seen in the first frame is hidden for at least half of the frames "
        "(default: any)",
    )
    phrases = parser.add_argument_group(f"phrases ({', '.join(PHRASES[1:])})")
    phrases.add_argument("--positives", type=int, metavar="N", help="most true phrases of an image (default: 6)")
    phrases.add_argument("--negatives", type=float, metavar="FACTOR", help="false phrases per true one (default: 1)")
    phrases.add_argument(
        "--hard", type=float, metavar="SHARE", help="of the false ones, one attribute away from a thing (default: 0.5)"
    )
    phrases.add_argument("--synonyms", type=float, metavar="SHARE", help="of the words (default: 0.25)")
    phrases.add_argument(
        "--crowd",
        type=float,
        metavar="SHARE",
        help=f"of the scenes ({', '.join(CROWDS[1:])}): many of a kind, tiny, touching, some hidden (default: 0.25)",
    )
    return parser
