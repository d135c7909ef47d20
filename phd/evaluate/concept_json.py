"""Files of truth and predictions for concepts: read, and named where something in them is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from phd.errors import UserError

# How far a box may reach beyond the image, as a share of its side: what rounding and an unclipped regressor do.
BOX_SLACK = 0.01


def read_json(path: Path) -> Any:
    """The content of a file.

    Raises:
        UserError: There is none, or it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name an existing file") from error
    except ValueError as error:  # also text that is not UTF-8
        raise UserError(f"{path}: is not JSON ({error}); write or download it again") from error


def read_truth(path: Path, lists: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """The named lists of objects in a file.

    Raises:
        UserError: One is missing or is something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not an object with {' and '.join(lists)}")
    for name in lists:
        if name not in content:
            raise UserError(f"{path}: has no {name!r}, so it holds no truth; predictions go to --pred")
        _require_objects(content[name], f"{path}: {name!r}")
    return content


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """A list of results, which may be empty.

    Raises:
        UserError: It is something else.
    """
    content = read_json(path)
    _require_objects(content, str(path))
    return content


def _require_objects(value: Any, where: str) -> None:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UserError(f"{where}: is no list of objects; write it in the format of COCO")


def get(item: dict[str, Any], name: str, where: str) -> Any:
    """A key that has to be there.

    Raises:
        UserError: It is not.
    """
    if name not in item:
        raise UserError(f"{where}: has no {name!r}; add it")
    return item[name]


def by_id(items: list[dict[str, Any]], what: str, path: Path) -> dict[Any, dict[str, Any]]:
    """Entries by their `id`, in the order of the file.

    Raises:
        UserError: An id is missing, is no number or text, or is there twice.
    """
    found: dict[Any, dict[str, Any]] = {}
    for place, item in enumerate(items):
        number = get(item, "id", f"{path}: {what} number {place}")
        if not isinstance(number, int | str):
            raise UserError(f"{path}: {what} number {place}: the id {number!r} is no number; mend the file")
        if number in found:
            raise UserError(f"{path}: two {what}s have the id {number}; mend the file")
        found[number] = item
    return found


def known(item: dict[str, Any], name: str, ids: Any, where: str, truth: Path) -> Any:
    """A reference to an id that the truth has.

    Raises:
        UserError: It is missing, or the truth does not have it.
    """
    number = get(item, name, where)
    if not isinstance(number, int | str) or number not in ids:
        own = where.startswith(f"{truth}: ")
        advice = "mend the id, or add what it names" if own else "evaluate against the file it was made for"
        raise UserError(f"{where}: {name} {number!r} is unknown to {truth}; {advice}")
    return number


def text_of(item: dict[str, Any], name: str, where: str) -> str:
    """A noun phrase, or the name of a category.

    Raises:
        UserError: It is missing, no text, or empty.
    """
    text = get(item, name, where)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: its {name} {text!r} is empty; write the phrase that was asked, or remove the entry")
    return text


def side_lengths(item: dict[str, Any], where: str) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        UserError: They are missing or no whole numbers above 0.
    """
    height, width = get(item, "height", where), get(item, "width", where)
    for name, value in (("height", height), ("width", width)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}: {name} {value!r} is no number of pixels; mend the file")
    return height, width


def finite(value: Any) -> bool:
    """Whether it is a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def score_of(item: dict[str, Any], where: str) -> float:
    """The score, in [0, 1].

    Raises:
        UserError: It is missing, NaN, or no probability.
    """
    score = get(item, "score", where)
    if not finite(score) or not 0 <= score <= 1:
        raise UserError(f"{where}: the score {score!r} is no probability in [0, 1]; drop or mend this prediction")
    return float(score)


def box_of(item: dict[str, Any], width: float, height: float, where: str) -> list[float]:
    """The box, x y width height, within an image of this size; fractions where the size is 1 by 1.

    Raises:
        UserError: It is missing, no box, or reaches outside the image by more than `BOX_SLACK`.
    """
    box = get(item, "bbox", where)
    require_box(box, width, height, where)
    return [float(value) for value in box]


def require_box(box: Any, width: float, height: float, where: str) -> None:
    """Check a box x y width height.

    Raises:
        UserError: It is no box, or reaches outside the image by more than `BOX_SLACK`.
    """
    if not isinstance(box, list) or len(box) != 4 or not all(map(finite, box)) or min(box[2:]) < 0:
        raise UserError(f"{where}: the box {box!r} is not x, y, width, height; mend it")
    for start, length, side in ((box[0], box[2], width), (box[1], box[3], height)):
        if start < -BOX_SLACK * side or start + length > (1 + BOX_SLACK) * side:
            unit = "fractions of the image" if width == height == 1 else f"pixels of an image of {width} x {height}"
            raise UserError(f"{where}: the box {box} reaches outside the image; give {unit}, clipped to it")
