"""The embedded world in the raw formats of SA-Co/Gold and SA-Co/Silver: pairs of an image and a noun phrase.

Gold has three files with the same pairs, one of each annotator; here they draw borders a pixel or two apart and rarely
miss an instance. Silver has one file, here with the exact masks. A pair that is not exhaustive is true of something
that is too hidden or too small to be annotated. Source of the formats: https://github.com/facebookresearch/sam3,
scripts/eval/gold and scripts/eval/silver.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules import rle
from datamodules.shapes.annotators import misses, redraw
from datamodules.shapes.asked import CROWD, AskedScene, asked_scene
from datamodules.shapes.questions import Asking
from datamodules.shapes.writing import check_order, jpeg, numbered, write_text
from phd.errors import UserError

SUBSET = "shapes"
IMAGES = "images"
GOLD_FILES = tuple(f"gold_{SUBSET}_merged_{letter}_release_test.json" for letter in "abc")
SILVER_FILES = (f"silver_{SUBSET}_merged_test.json",)
FIRST_PAIR = 10_000_000

_STREAM = 59  # keeps the draws of annotators apart from all others

# Of one image: the entries of its pairs, and for each file the annotations of each pair, both still without ids.
Pairs = tuple[list[dict[str, Any]], list[list[list[dict[str, Any]]]]]


@dataclass(frozen=True)
class Order:
    """What is written.

    Attributes:
        out: The folder.
        seed: Number of the world.
        asking: How many phrases are drawn.
        crowd: Share of the scenes that are crowded.
        annotators: 3 for Gold; 1 is Silver, whose masks are exact.
    """

    out: Path
    seed: int
    asking: Asking
    crowd: float
    annotators: int


def write_saco_gold(
    out: Path, samples: int, seed: int, workers: int = 1, asking: Asking | None = None, crowd: float = CROWD
) -> None:
    """Write scenes 0 to `samples - 1` of the world `seed` with phrases and three annotators.

    The same seed gives the same bytes, and the first scenes are the same for any number of samples.

    Args:
        out: A folder that does not exist or is empty.
        samples: Number of images.
        seed: Number of the world.
        workers: Processes that render; the files do not depend on it.
        asking: How many phrases are drawn.
        crowd: Share of the scenes that are crowded.

    Raises:
        UserError: `out` is a file or holds something, or a number is out of range.
    """
    _write(Order(out, seed, asking or Asking(), crowd, annotators=3), GOLD_FILES, samples, workers)


def write_saco_silver(
    out: Path, samples: int, seed: int, workers: int = 1, asking: Asking | None = None, crowd: float = CROWD
) -> None:
    """Write the same scenes and phrases with one exact answer; see `write_saco_gold`."""
    _write(Order(out, seed, asking or Asking(), crowd, annotators=1), SILVER_FILES, samples, workers)


def saco_pairs(asked: AskedScene, file_name: str, by_annotator: Iterable[list[dict[int, NDArray[np.bool_]]]]) -> Pairs:
    """Describe an image as SA-Co does, but for the ids.

    Args:
        asked: The image and its questions.
        file_name: Of the image.
        by_annotator: For each annotator and question the masks that answer it, by number of the thing.
    """
    height, width = asked.image.shape[:2]
    entries = [
        {
            "file_name": file_name,
            "text_input": question.text,
            "width": width,
            "height": height,
            "queried_category": "0",
            "is_instance_exhaustive": int(question.exhaustive),
            "is_pixel_exhaustive": int(question.exhaustive),
        }
        for question in asked.questions
    ]
    return entries, [[[_annotation(mask) for mask in found.values()] for found in answers] for answers in by_annotator]


def exact_answers(asked: AskedScene) -> list[dict[int, NDArray[np.bool_]]]:
    """The true masks of each question, by number of the thing."""
    return [{number: asked.masks[number] for number in question.things} for question in asked.questions]


def human_answers(asked: AskedScene, rng: np.random.Generator) -> list[dict[int, NDArray[np.bool_]]]:
    """What an annotator answers to each question: every thing drawn once, and some overlooked in some answers."""
    asked_for = sorted({number for question in asked.questions for number in question.things})
    drawn = {number: redraw(rng, asked.masks[number]) for number in asked_for}
    answers = []
    for question in asked.questions:
        missed = misses(rng, len(question.things))
        kept = (number for number, gone in zip(question.things, missed, strict=True) if not gone)
        answers.append({number: drawn[number] for number in kept})
    return answers


def _write(order: Order, files: tuple[str, ...], samples: int, workers: int) -> None:
    order.asking.check()
    if not 0 <= order.crowd <= 1:
        raise UserError(f"crowd is {order.crowd:g}: give a share from 0 to 1")
    check_order(order.out, samples, order.seed, workers)
    (order.out / IMAGES).mkdir()
    contents: list[dict[str, Any]] = [_empty(order.seed) for _ in files]
    for entries, answers in numbered(partial(_write_one, order), samples, workers, "rendering scenes"):
        first = FIRST_PAIR + len(contents[0]["images"])
        for content, found in zip(contents, answers, strict=True):
            content["images"] += [{"id": first + place, **entry} for place, entry in enumerate(entries)]
            content["annotations"] += _numbered(found, first, len(content["annotations"]) + 1)
    for name, content in zip(files, contents, strict=True):
        write_text(order.out / name, json.dumps(content))


def _write_one(order: Order, index: int) -> Pairs:
    """Write an image; its pairs are for the files that hold those of all images."""
    asked = asked_scene(order.seed, index, order.asking, order.crowd)
    name = f"{index + 1:06d}.jpg"
    (order.out / IMAGES / name).write_bytes(jpeg(asked.image))
    if order.annotators == 1:
        return saco_pairs(asked, name, [exact_answers(asked)])
    people = (np.random.default_rng([order.seed, index, _STREAM, number]) for number in range(order.annotators))
    return saco_pairs(asked, name, (human_answers(asked, rng) for rng in people))


def _numbered(answers: list[list[dict[str, Any]]], pair: int, number: int) -> Iterator[dict[str, Any]]:
    """The annotations of consecutive pairs with ids."""
    for found in answers:
        for annotation in found:
            yield {"id": number, "image_id": pair, **annotation}
            number += 1
        pair += 1


def _annotation(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """An instance; box (x, y, width, height) and area are fractions of the image."""
    height, width = mask.shape
    code = rle.encode(mask)
    left, top, columns, rows = rle.bounding_box(code)
    return {
        "source": "manual",
        "area": float(mask.mean()),
        "bbox": [left / width, top / height, columns / width, rows / height],
        "segmentation": code,
        "category_id": 1,
        "iscrowd": 0,
    }


def _empty(seed: int) -> dict[str, Any]:
    info = {"version": "v1", "description": f"The embedded world, seed {seed}"}
    return {"info": info, "images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
