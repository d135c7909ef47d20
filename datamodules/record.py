"""What a sample of stage 1 holds, an image and its annotations, and the checks of it.

The JSON record is `{"image": {"file_name", "width", "height", ...}, "annotations": [{"id", "segmentation", "bbox",
"area", "category"?, "iscrowd"?, ...}]}`, segmentations as compressed RLE, other fields as the source had them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from datamodules import rle
from phd.errors import UserError


def decode_rgb(data: bytes, where: str) -> Tensor:
    """Decode an image file to (3, H, W) uint8 RGB.

    Raises:
        UserError: It is truncated or no image.
    """
    try:
        return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except (RuntimeError, ValueError) as error:
        state = "is empty" if not data else "is truncated, damaged or no image"
        raise UserError(f"{where}: the image file {state} and cannot be decoded; replace or remove it") from error


def instances(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations that are single objects; crowds are regions of many."""
    return [annotation for annotation in record["annotations"] if not annotation.get("iscrowd")]


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
