"""What the family is trained and measured on: shards of one's own, or the embedded world."""

from __future__ import annotations

import argparse
from pathlib import Path

from phd.commands.steps import World, world_shards
from phd.errors import UserError

# The form of the shards by what the options call them; in the order of the stages.
FORMS = {"images": "image", "videos": "video", "concepts": "concept"}
DATA = [f"{split}_{what}" for split in ("data", "test") for what in FORMS]
# By option: default and meaning, of the embedded world. No other command trains or measures on these seeds.
NUMBERS = {
    "train_scenes": (800, "scenes to train on in stage 1"),
    "train_clips": (72, "clips, in stage 2"),
    "train_phrase_scenes": (800, "scenes with phrases, in stage 3"),
    "test_scenes": (50, "scenes to measure box mIoU on"),
    "test_clips": (8, "clips, J&F"),
    "test_phrase_scenes": (100, "scenes with phrases, cgF1 and IL_MCC"),
    "train_seed": (31, "of what is trained on"),
    "test_seed": (9200, "of what is measured on"),
}
SEEDS = ("train_seed", "test_seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the data."""
    own = parser.add_argument_group("data of your own", "six folders of shards (phd shards convert), or none of them")
    for name in DATA:
        split, what = name.split("_")
        meaning = "to train on" if split == "data" else "to measure on"
        own.add_argument(f"--{split}-{what}", metavar="SHARDS", help=f"{what} {meaning}")
    world = parser.add_argument_group("the embedded world")
    for name, (default, what) in NUMBERS.items():
        world.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=f"{what} ({default})")


def own_data(options: argparse.Namespace) -> bool:
    """Whether the shards are the user's own; numbers of the world that were not given get their defaults.

    Raises:
        UserError: Some of the six are missing, or they come with settings of the world; or a number is too small.
    """
    given = [name for name in DATA if getattr(options, name) is not None]
    numbers = [name for name in NUMBERS if getattr(options, name) is not None]
    missing = [name for name in DATA if name not in given]
    if given and missing:
        raise UserError(f"{_option(missing[0])}: missing beside {_option(given[0])}; give all six, or none of them")
    if given and numbers:
        raise UserError(f"{_option(numbers[0])}: is for the embedded world; leave it out beside {_option(given[0])}")
    for name, (default, _) in NUMBERS.items():
        value = getattr(options, name)
        setattr(options, name, default if value is None else value)
        least = 0 if name in SEEDS else 1
        if not given and getattr(options, name) < least:
            raise UserError(f"{_option(name)} is {value}; give at least {least}")
    if not given and options.train_seed == options.test_seed:
        raise UserError(f"--test-seed is {options.test_seed}, which is trained on; give another")
    return bool(given)


def family_data(options: argparse.Namespace, own: bool) -> dict[str, str]:
    """The shards by name of `DATA`: checked where they are the user's own, rendered where they are the world's.

    Raises:
        UserError: A folder holds no shards, or shards of another form.
    """
    if not own:
        root = options.out / "data"
        return {name: str(world_shards(root, world)) for name, world in worlds(options).items()}
    from datamodules.reader import ShardReader

    for name in DATA:
        form, wanted = ShardReader(getattr(options, name)).form, FORMS[name.split("_")[1]]
        # Images with phrases have masks too, which is all that stage 1 reads.
        if form != wanted and (form, wanted) != ("concept", "image"):
            raise UserError(f"{_option(name)} {getattr(options, name)}: holds {form} data, not {wanted} data")
    return {name: getattr(options, name) for name in DATA}


def worlds(options: argparse.Namespace) -> dict[str, World]:
    """The parts of the embedded world by name of `DATA`."""
    train, test = options.train_seed, options.test_seed
    # Training clips of 3 to 4 seconds have enough frames.
    short = ("--seconds", "3", "4")
    return {
        "data_images": World("sa1b", options.train_scenes, train),
        "data_videos": World("sav", options.train_clips, train, short),
        "data_concepts": World("saco-silver", options.train_phrase_scenes, train),
        "test_images": World("sa1b", options.test_scenes, test),
        "test_videos": World("sav", options.test_clips, test),
        "test_concepts": World("saco-gold", options.test_phrase_scenes, test),
    }


def identity(options: argparse.Namespace, own: bool) -> dict[str, str | int]:
    """What of the data two runs must have in common to share a table."""
    if not own:
        return {name: getattr(options, name) for name in NUMBERS}
    return {name: _place(getattr(options, name)) for name in DATA}


def _place(shards: str) -> str:
    return shards if "://" in shards else str(Path(shards).resolve())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
