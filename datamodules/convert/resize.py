"""Samples at a smaller size: images re-encoded, masks sampled from their run lengths at the new pixels' centres.

Training at 1024 pixels from photos of 2250 spends most of its time decoding pixels that it throws away. Boxes and areas
are those of the new masks. A mask without a pixel at the new size is left out and counted; a phrase that loses all its
masks is left out with them, because without them it would claim that the image does not show what it names.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from datamodules import rle
from datamodules.convert.kind import Converted, Form
from phd.errors import UserError

JPEG_QUALITY = 92


def new_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width with the longer side at most `side`, never larger than before."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class Resizer:
    """From one image size to another.

    Attributes:
        vanished: Masks so far that have no pixel at the new size.
    """

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        self.before, self.after = (height, width), (new_height, new_width)
        rows, columns = (
            np.floor((np.arange(new) + 0.5) * old / new).astype(np.int64)
            for new, old in zip(self.after, self.before, strict=True)
        )
        self._sampler = rle.PixelSampler(height, width, rows, columns)
        self.vanished = 0

    def jpeg(self, data: bytes, where: str) -> bytes:
        """The image at the new size, antialiased (Lanczos).

        Raises:
            UserError: It is not of the old size.
        """
        with Image.open(io.BytesIO(data)) as image:
            if image.size != self.before[::-1]:
                raise UserError(
                    f"{where}: is {image.size[1]} x {image.size[0]} pixels (height x width) where the record says "
                    f"{self.before[0]} x {self.before[1]}; mend the raw data"
                )
            smaller = image.convert("RGB").resize((self.after[1], self.after[0]), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        smaller.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()

    def mask(self, segmentation: dict[str, Any] | None) -> dict[str, Any] | None:
        """The mask at the new size; None for none, or for one that vanishes."""
        if segmentation is None:
            return None
        pixels = self._sampler(segmentation)
        if pixels.any():
            return rle.encode(pixels)
        self.vanished += bool(rle.area(segmentation, *self.before))
        return None

    def annotation(self, annotation: dict[str, Any]) -> dict[str, Any] | None:
        """The annotation at the new size; None where it vanishes. Fields unknown here stay as the source had them."""
        mask = self.mask(annotation["segmentation"])
        if mask is None:
            return None
        changed = {"segmentation": mask, "bbox": rle.bounding_box(mask), "area": rle.area(mask, *self.after)}
        across, down = self.after[1] / self.before[1], self.after[0] / self.before[0]
        if "point_coords" in annotation:  # of SA-1B
            changed["point_coords"] = [[x * across, y * down] for x, y in annotation["point_coords"]]
        if "crop_box" in annotation:
            x, y, width, height = annotation["crop_box"]
            changed["crop_box"] = [x * across, y * down, width * across, height * down]
        return {**annotation, **changed}

    def image(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The record's entry of the image or video, with the new size and the old one."""
        return {
            **entry,
            "height": self.after[0],
            "width": self.after[1],
            "original_height": self.before[0],
            "original_width": self.before[1],
        }


def resized(sample: Converted, form: Form, side: int) -> Converted:
    """The sample with its images' longer side at most `side` pixels.

    Raises:
        UserError: A frame is not of the size of its video.
    """
    entry = sample.record["video" if form == "video" else "image"]
    before = entry["height"], entry["width"]
    after = new_size(*before, side)
    if after == before:
        return sample
    resizer = Resizer(*before, *after)
    members = {name: resizer.jpeg(data, f"{sample.key}.{name}") for name, data in sample.members.items()}
    record = _video(sample.record, resizer) if form == "video" else _image(sample.record, resizer)
    return Converted(sample.key, members, record, sample.problems, bool(members), sample.vanished + resizer.vanished)


def _image(record: dict[str, Any], resizer: Resizer) -> dict[str, Any]:
    annotations = [new for old in record["annotations"] if (new := resizer.annotation(old)) is not None]
    changed: dict[str, Any] = {"image": resizer.image(record["image"]), "annotations": annotations}
    if "phrases" in record:
        left = {annotation["id"] for annotation in annotations}
        phrases = [_phrase(phrase, left) for phrase in record["phrases"]]
        changed["phrases"] = [phrase for phrase in phrases if phrase is not None]
    return {**record, **changed}


def _phrase(phrase: dict[str, Any], left: set[Any]) -> dict[str, Any] | None:
    """A phrase with the annotations that are left; None where an answer lost all it had."""
    answers = []
    for answer in phrase["answers"]:
        instances = [number for number in answer["instances"] if number in left]
        lost = len(instances) < len(answer["instances"])
        if lost and not instances:
            return None
        answers.append({**answer, "instances": instances, **({"exhaustive": False} if lost else {})})
    return {**phrase, "answers": answers}


def _video(record: dict[str, Any], resizer: Resizer) -> dict[str, Any]:
    objects = []
    for item in record["objects"]:
        masks = [resizer.mask(mask) for mask in item["masks"]]
        if any(masks) or not any(item["masks"]):
            objects.append({**item, "masks": masks, **_measures(item, masks, resizer)})
    changed: dict[str, Any] = {"video": resizer.image(record["video"]), "objects": objects}
    if "void" in record:
        counted = resizer.vanished
        changed["void"] = [resizer.mask(mask) for mask in record["void"]]
        resizer.vanished = counted  # a region that is not judged is no object
    if "phrases" in record:
        left = {item["id"] for item in objects}
        changed["phrases"] = []
        for phrase in record["phrases"]:
            numbers = [number for number in phrase["objects"] if number in left]
            if numbers or not phrase["objects"]:
                changed["phrases"].append({**phrase, "objects": numbers})
    return {**record, **changed}


def _measures(item: dict[str, Any], masks: list[dict[str, Any] | None], resizer: Resizer) -> dict[str, Any]:
    """Boxes and areas of each frame, where the source has them."""
    changed: dict[str, Any] = {}
    if "bboxes" in item:
        changed["bboxes"] = [mask and rle.bounding_box(mask) for mask in masks]
    if "areas" in item:
        changed["areas"] = [mask and rle.area(mask, *resizer.after) for mask in masks]
    return changed
