"""Any file in COCO's format: polygons, uncompressed and compressed RLE; the way in for own data."""

from __future__ import annotations

import argparse
import io
import math
import struct
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from datamodules import rle
from datamodules.convert.coco_file import Entry, read_coco, read_file_names
from datamodules.convert.common import convert
from datamodules.convert.kind import Converted, Kind, Plan
from datamodules.convert.raw import TooManyPixels, check_pixels, good_annotations, read_file
from datamodules.convert.summary import Summary
from datamodules.record import MAX_PIXELS, check_size, decode_rgb
from phd.errors import UserError

JPEG_MAGIC = b"\xff\xd8\xff"
JPEG_QUALITY = 95
EXIF_ORIENTATION = 0x0112
# How far a box may reach beyond the image, as a share of its side: annotation tools round.
BOX_SLACK = 0.01


def read_entries(images: Path, annotations: Path) -> list[Entry]:
    """The images of a COCO file in its order.

    Raises:
        UserError: It is no COCO file, or refers to an image or category that it does not list.
    """
    file = read_coco(annotations, categories_required=False)
    return file.entries(read_file_names(file.images, annotations), images)


def as_jpeg(data: bytes, height: int, width: int, where: str) -> tuple[bytes, bool]:
    """The image as a JPEG whose pixels are stored upright, and whether it had to be made.

    A photo may be stored lying, with a note (EXIF orientation) for the viewer. Annotations are drawn on what the viewer
    shows, so it is turned where the upright size is the annotated one.

    Raises:
        UserError: The image cannot be decoded, or has 16 bits.
    """
    is_jpeg = data.startswith(JPEG_MAGIC)
    try:
        image = Image.open(io.BytesIO(data))
        turned = image.getexif().get(EXIF_ORIENTATION, 1) != 1
        if not turned and is_jpeg:
            return data, False
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, struct.error, *TooManyPixels) as error:
        raise UserError(f"{where}: the image cannot be decoded ({error}); replace or remove it") from error
    if is_jpeg and upright.size != (width, height):
        return data, False
    if upright.mode.startswith(("I", "F")):
        raise UserError(f"{where}: has more than 8 bits a channel; save it with 8 bits")
    buffer = io.BytesIO()
    upright.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue(), True


def compressed(annotation: dict[str, Any], height: int, width: int, where: str) -> dict[str, Any]:
    """The annotation with its mask as compressed RLE, and with bbox and area.

    Raises:
        UserError: It has no mask, or one that cannot be read, or a bbox that is none or not of this image.
    """
    segmentation = annotation.get("segmentation")
    try:
        if not segmentation:
            raise UserError("has no segmentation (a box alone is not enough); add a mask or remove it")
        if isinstance(segmentation, list):
            mask = rle.from_polygons(segmentation, height, width)
        else:
            rle.validate(segmentation, height, width)
            mask = rle.compress(segmentation)
        if annotation.get("bbox") is not None:
            check_box(annotation["bbox"], height, width)
    except UserError as error:
        raise UserError(f"{where}: annotation {annotation.get('id')}: {error}") from error
    given = {name: value for name, value in annotation.items() if value is not None or name != "bbox"}
    return {"bbox": rle.bounding_box(mask), "area": rle.area(mask, height, width), **given, "segmentation": mask}


def check_box(box: Any, height: int, width: int) -> None:
    """Check that a box, x y width height in pixels, lies within an image, but for rounding.

    Raises:
        UserError: It does not, or it is no box.
    """
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)
    if not numbers or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise UserError(f"its bbox {box!r} is not x, y, width, height; mend it, or leave it out: its mask has one")
    for start, length, side in ((box[0], box[2], width), (box[1], box[3], height)):
        if start < -BOX_SLACK * side or start + length > (1 + BOX_SLACK) * side:
            raise UserError(
                f"its bbox {box} reaches outside the image of {width} x {height} pixels; mend it, or leave it out: "
                f"its mask has one"
            )


def read_entry(entry: Entry, annotations: Path, max_pixels: int = MAX_PIXELS) -> Converted:
    """One COCO image with its annotations.

    Raises:
        UserError: The image is missing, damaged or of another size.
    """
    where = str(entry.path)
    source = read_file(entry.path)
    check_pixels(source, where, max_pixels)
    said = entry.image.get("height"), entry.image.get("width")
    jpg, reencoded = as_jpeg(source, said[0] or 0, said[1] or 0, where)
    _, height, width = decode_rgb(jpg, where).shape
    image = {"height": height, "width": width, **entry.image}
    check_size({"image": image}, height, width, where)
    masks: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for annotation in entry.annotations:
        try:
            masks.append(compressed(annotation, height, width, f"{annotations}: {entry.path.name}"))
        except UserError as error:
            problems.append(error)
    good, empty = good_annotations(masks, height, width, f"{annotations}: {entry.path.name}")
    return Converted(entry.key, {"jpg": jpg}, {"image": image, "annotations": good}, problems + empty, reencoded)


def plan_coco(options: argparse.Namespace) -> Plan[Entry]:
    """All images of a COCO file, also those without annotations."""
    if not options.images.is_dir():
        raise UserError(f"{options.images}: no such folder; name the folder with the images")
    read = partial(read_entry, annotations=options.annotations, max_pixels=options.max_pixels)
    return Plan(read_entries(options.images, options.annotations), read)


COCO = Kind(
    name="coco",
    form="image",
    help="any COCO-format file with its images: the own-data case",
    paths=(("images", "folder of the images"), ("annotations", "COCO JSON file")),
    plan=plan_coco,
)


def convert_coco(images: Path, annotations: Path, out: Path, **settings: Any) -> Summary:
    """Convert a COCO file and its images to shards; images without annotations are kept.

    JPEG bytes are copied unchanged; other formats, and photos stored lying, become JPEGs of quality 95.

    Args:
        images: Folder that the file names in `annotations` start from.
        annotations: The COCO file.
        out: New or empty folder.
        settings: The flags of the command line (`samples_per_shard`, `max_samples`, `skip_bad`, ...).

    Raises:
        UserError: Something is wrong with a sample.
    """
    return convert(COCO, COCO.options(images, annotations, out, **settings))
