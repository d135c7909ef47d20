"""A contact sheet of what a folder of shards holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track

from datamodules.concept_record import is_negative
from datamodules.reader import ShardReader
from datamodules.record import decode_rgb, instances
from datamodules.rle import PixelSampler
from datamodules.video_record import frame_extension
from phd import draw
from phd.errors import UserError

TILE = 320
GAP = 8
COLUMNS = 4
FRAMES = 5
# Phrases under a picture, and the height of a line of them in pixels.
LINES, LINE = 8, 18
# Dark and light take turns, so that neighbours differ in print, too.
COLOURS: tuple[draw.Colour, ...] = (
    (230, 25, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (60, 140, 60), (240, 50, 230), (128, 0, 0), (210, 245, 60), (0, 0, 160), (250, 190, 212),
)  # fmt: skip


def preview(root: str | Path, out: Path, samples: int, seed: int) -> int:
    """Draw some samples of a folder of shards; returns how many.

    Images have their masks; images of concept data also their phrases, green where something answers, red where
    nothing does. A video is a row of frames.

    Args:
        root: Path or URL of the shards.
        out: PNG to write.
        samples: How many to draw, chosen at random.
        seed: Of the choice.

    Raises:
        UserError: The shards or the PNG are at fault, or a setting is out of range.
    """
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"--{name} is {value}; give at least {least}")
    reader = ShardReader(root)
    chosen = np.random.default_rng(seed).choice(len(reader), min(samples, len(reader)), replace=False)
    drawing = {"image": _image_cell, "concept": _concept_cell, "video": _video_cell}[reader.form]
    numbers = [int(number) for number in np.sort(chosen)]
    cells = [drawing(reader, number) for number in track(numbers, "draw", console=Console(stderr=True), transient=True)]
    draw.save_png(_sheet(cells, 1 if reader.form == "video" else COLUMNS), out)
    return len(cells)


def with_masks(
    image: np.ndarray, masks: list[tuple[Any, draw.Colour]], height: int, width: int, where: str
) -> np.ndarray:
    """A picture with its masks, small enough for a tile.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: RLE and colour of each.
        height: Of the masks, in pixels.
        width: Likewise.
        where: Names the sample in errors.

    Raises:
        UserError: A mask is damaged or of another size.
    """
    scale = min(1, TILE / max(height, width))
    rows, columns = (
        ((np.arange(count) + 0.5) * (side / count)).astype(int)
        for side, count in ((side, max(1, round(side * scale))) for side in (height, width))
    )
    small = np.array(Image.fromarray(image).resize((len(columns), len(rows)), Image.Resampling.BOX))
    sample = PixelSampler(height, width, rows, columns)
    try:
        sampled = [(sample(mask).astype(bool), colour) for mask, colour in masks]
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    # Large ones first, or they would cover the others.
    for mask, colour in sorted(sampled, key=lambda pair: -np.count_nonzero(pair[0])):
        small = np.array(draw.overlay(small, mask, colour=colour))
    return small


def _labelled(reader: ShardReader, number: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The picture of a sample with the masks of its objects, and its record."""
    sample, where = reader.read(number), reader.where(number)
    image = decode_rgb(sample.jpg, where).permute(1, 2, 0).numpy()
    masks = [(item.get("segmentation"), _colour(place)) for place, item in enumerate(instances(sample.record))]
    height, width, _ = image.shape
    return with_masks(image, masks, height, width, where), sample.record


def _image_cell(reader: ShardReader, number: int) -> Image.Image:
    picture, _ = _labelled(reader, number)
    return draw.panel([[(picture, reader.key(number))]], TILE, GAP)


def _concept_cell(reader: ShardReader, number: int) -> Image.Image:
    picture, record = _labelled(reader, number)
    head = draw.panel([[(picture, reader.key(number))]], TILE, GAP)
    cell = Image.new("RGB", (head.width, head.height + LINES * LINE), "white")
    cell.paste(head)
    paint, font = ImageDraw.Draw(cell), ImageFont.load_default(size=LINE - 5)
    for place, (text, colour) in enumerate(phrase_lines(record)):
        paint.text((GAP, head.height + place * LINE), text, fill=colour, font=font)
    return cell


def phrase_lines(record: dict[str, Any]) -> list[tuple[str, draw.Colour]]:
    """Phrases with their colours, positives and then hard negatives first, as many as fit."""
    phrases = sorted(record["phrases"], key=lambda phrase: (is_negative(phrase), not phrase.get("hard")))
    lines: list[tuple[str, draw.Colour]] = []
    for phrase in phrases:
        counts = " / ".join(str(len(answer["instances"])) for answer in phrase["answers"])
        open_end = "" if all(answer.get("exhaustive") for answer in phrase["answers"]) else ", perhaps more"
        if is_negative(phrase):
            kind = "hard negative" if phrase.get("hard") else "negative"
            lines.append((f"{phrase['text']} ({kind}{open_end})", draw.NEGATIVE_COLOUR))
        else:
            lines.append((f"{phrase['text']} ({counts}{open_end})", draw.POSITIVE_COLOUR))
    if len(lines) <= LINES:
        return lines
    return [*lines[: LINES - 1], (f"and {len(lines) - LINES + 1} more", (90, 90, 90))]


def _video_cell(reader: ShardReader, number: int) -> Image.Image:
    record, where = reader.record(number), reader.where(number)
    height, width = record["video"]["height"], record["video"]["width"]
    tiles: list[draw.Tile] = []
    for place in spread(record["labelled"] or list(range(len(record["frames"]))), FRAMES):
        frame = record["frames"][place]
        if reader.manifest.get("images", True):
            data = reader.member(number, frame_extension(frame))
            image = decode_rgb(data, where).permute(1, 2, 0).numpy()
        else:
            image = np.full((height, width, 3), 60, dtype=np.uint8)
        shown = [(item["masks"][place], _colour(row)) for row, item in enumerate(record["objects"])]
        masks = [(mask, colour) for mask, colour in shown if mask is not None]
        name = f"frame {frame}" if tiles else f"{reader.key(number)}: frame {frame}"
        tiles.append((with_masks(image, masks, height, width, where), name))
    return draw.panel([tiles], TILE, GAP)


def spread(places: list[int], count: int) -> list[int]:
    """At most `count` of these places, the first and the last among them, evenly apart."""
    chosen = np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
    return [places[number] for number in chosen]


def _colour(place: int) -> draw.Colour:
    return COLOURS[place % len(COLOURS)]


def _sheet(cells: list[Image.Image], columns: int) -> Image.Image:
    """The cells side by side, row by row."""
    columns = min(columns, len(cells))
    width, height = (max(sizes) for sizes in zip(*(cell.size for cell in cells), strict=True))
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), "white")
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        sheet.paste(cell, (column * width, row * height))
    return sheet
