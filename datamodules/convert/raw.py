"""Reading and checking raw files, for all converters."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.record import MAX_PIXELS, check_annotation
from datamodules.shards import LONGEST_KEY
from phd.errors import UserError

TooManyPixels = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_json(data: bytes, where: str) -> Any:
    """Parse JSON.

    Raises:
        UserError: It is none.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); replace or remove it") from error


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError where the name has a null byte
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}); check the path") from error


def tar_safe(name: str) -> str:
    """A name as a key: letters, digits, `_` and `-`, no longer than a key may be."""
    key = re.sub(r"[^\w-]", "_", name)
    if len(key.encode()) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{key.encode()[: LONGEST_KEY - 13].decode(errors='ignore')}-{digest}"


def good_annotations(
    annotations: Sequence[dict[str, Any]], height: int, width: int, where: str
) -> tuple[list[dict[str, Any]], list[UserError]]:
    """Divide annotations into those with a mask of the image's size and one error for each other."""
    good: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for annotation in annotations:
        try:
            check_annotation(annotation, height, width, where)
        except UserError as error:
            problems.append(error)
        else:
            good.append(annotation)
    return good, problems


def too_many_pixels(where: str, limit: int) -> UserError:
    """The error about an image with more pixels than allowed."""
    return UserError(f"{where}: has more than {limit} pixels; replace it, or allow more with --max-pixels")


def check_pixels(data: bytes, where: str, limit: int = MAX_PIXELS) -> None:
    """Check by its header, before anything is decoded, that an image has no more pixels than allowed.

    What is no image passes: whoever decodes it has the better message.

    Raises:
        UserError: It has more.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except TooManyPixels as error:
        raise too_many_pixels(where, limit) from error
    except (OSError, SyntaxError, ValueError):
        return
    if width * height > limit:
        raise too_many_pixels(where, limit)


@contextlib.contextmanager
def pixel_limit(limit: int) -> Iterator[None]:
    """Let Pillow refuse any image with more pixels while the block runs; by default it only warns."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = limit
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
