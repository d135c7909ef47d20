"""What a sample of stage 1 holds, an image and its annotations, and the checks of it.

The JSON record is `{"image": {"file_name", "width", "height", ...}, "annotations": [{"id", "segmentation", "bbox",
"area", "category"?, "iscrowd"?, "annotator"?, ...}]}`, segmentations as compressed RLE, other fields as the source
had them. Records of concept data are records of images too.
"""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from datamodules import rle
from datamodules.freed_memory import keep_freed_memory
from phd.errors import UserError

# A few kilobytes of JPEG can declare 4 billion pixels, and decoding them would take all memory.
MOST_PIXELS = 1 << 29
# Converters and `verify` have a lower limit, as a setting.
MAX_PIXELS = 100_000_000
# Start of frame, every process but the three codes that mean something else (C4, C8, CC).
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in pixels that the header of a JPEG declares (ITU-T T.81, B.2.2); None where it has none."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker in FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def decode_rgb(data: bytes, where: str) -> Tensor:
    """Decode an image file to (3, H, W) uint8 RGB.

    Raises:
        UserError: It is truncated, no image, or a JPEG of more than MOST_PIXELS.
    """
    keep_freed_memory()  # here, because this runs in the process that loads
    height, width = jpeg_size(data) or (0, 0)
    if height * width > MOST_PIXELS:
        raise UserError(f"{where}: the image claims to have {width} x {height} pixels; scale it down or remove it")
    try:
        return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except (RuntimeError, ValueError) as error:
        state = "is empty" if not data else "is truncated, damaged or no image"
        raise UserError(f"{where}: the image file {state} and cannot be decoded; replace or remove it") from error


def annotator_of(annotation: dict[str, Any]) -> int:
    """Who drew an annotation, where several people annotated the image independently; 0 is the first."""
    return annotation.get("annotator", 0)


def instances(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The first annotator's annotations of single objects.

    Crowds are regions of many objects, and further annotators drew the same objects again.
    """
    return [item for item in record["annotations"] if not item.get("iscrowd") and not annotator_of(item)]


def check_annotation(annotation: dict[str, Any], height: int, width: int, where: str) -> None:
    """Check that an annotation has an id and a mask of the image's size with at least one pixel.

    Raises:
        UserError: Names the sample and the annotation.
    """
    if "id" not in annotation:
        raise UserError(f"{where}: an annotation has no id; mend the annotations")
    try:
        if not rle.area(annotation.get("segmentation"), height, width):
            raise UserError("its mask has no pixel; mend or remove the annotation")
    except UserError as error:
        raise UserError(f"{where}: annotation {annotation['id']}: {error}") from error


def check_size(record: dict[str, Any], height: int, width: int, where: str) -> None:
    """Check that the record describes an image of this size.

    Raises:
        UserError: It does not.
    """
    said = record["image"].get("height"), record["image"].get("width")
    if said != (height, width):
        raise UserError(
            f"{where}: the image is {height} x {width} pixels (height x width) but its annotations say "
            f"{said[0]} x {said[1]}; give the image that was annotated"
        )


def check_form(record: Any, where: str) -> None:
    """Check that a JSON record has an image and a list of annotations.

    Raises:
        UserError: It is something else.
    """
    image, annotations = (record.get("image"), record.get("annotations")) if isinstance(record, dict) else (0, 0)
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise UserError(f'{where}: has no "image" and "annotations" as SA-1B has them; is this another data set?')
    if not all(isinstance(annotation, dict) for annotation in annotations):
        raise UserError(f"{where}: an annotation is no JSON object; mend the annotations")
