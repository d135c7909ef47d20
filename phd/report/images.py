"""The section of stage 1: how well images are segmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from phd.draw import overlay
from phd.evaluate.clicks import first_click
from phd.outputs import LabelledImage
from phd.predict import ImagePredictor
from phd.report.models import evaluations, predictors
from phd.report.page import figure, protocol_details, table

ROWS = {
    "box_miou": "from a box",
    "click1_miou": "from 1 click",
    "click3_miou": "from 3 clicks",
    "click5_miou": "from 5 clicks",
}
SIDE = 256  # of a picture, in pixels


def image_section(paths: dict[str, str], samples: Sequence[LabelledImage], teacher: str) -> str:
    """A table and pictures.

    Args:
        paths: The evaluations `before` and `after`, the students `untrained` and `student`.
        samples: Images to show.
        teacher: Its name.
    """
    before, after = evaluations(paths)
    models = predictors(paths, teacher)
    parts = ["<h2>Stage 1: the image encoder</h2>", image_table(before, after)]
    return "\n".join(parts + [image_row(models, sample, number) for number, sample in enumerate(samples)])


def image_table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Mean IoU of the teacher (100 %) and of the student before and after."""
    teacher = after["teacher"]
    rows: list[list[str]] = []
    for row, title in ROWS.items():
        cells = [f"{values[row]:.3f}" for values in (teacher, before, after)]
        rows.append([title, *cells, f"{after[row] / teacher[row]:.1%}" if teacher[row] else "-"])
    return (
        table(["mean IoU", "teacher", "student before", "student after", "share of the teacher"], rows)
        + f"<p>{after['num_images']} scenes that nobody was trained on, {after['num_instances']} things; the teacher "
        "is the 100 %.</p>" + protocol_details(after["protocol"])
    )


def image_row(models: dict[str, ImagePredictor], sample: LabelledImage, number: int) -> str:
    """One scene: the prompt with the true mask, and each model's answer with its IoU.

    The largest thing is asked for, in turn by a box and by one click at its centre.
    """
    masks = [coco_mask.decode(cast(Any, rle)).astype(bool) for rle in sample.masks]
    truth = max(masks, key=lambda mask: int(mask.sum()))
    prompt = box_prompt(truth) if number % 2 == 0 else click_prompt(truth)
    cells = [square(overlay(sample.image, truth, **prompt), f"prompt and true mask ({sample.key})")]
    for name, predictor in models.items():
        predictor.set_image(sample.image)
        prediction = predictor.segment(**prompt)
        union = int((prediction.mask | truth).sum())
        iou = int((prediction.mask & truth).sum()) / union
        cells.append(square(overlay(sample.image, prediction.mask, **prompt), f"{name}: IoU {iou:.2f}"))
    return f'<div class="row">{"".join(cells)}</div>'


def square(picture: Image.Image, caption: str) -> str:
    """A picture of a fixed size inside the page."""
    return figure(picture.resize((SIDE, SIDE)), caption)


def box_prompt(mask: np.ndarray) -> dict[str, Any]:
    """The tight box of a mask."""
    rows, columns = np.nonzero(mask)
    return {"box": [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]}


def click_prompt(mask: np.ndarray) -> dict[str, Any]:
    """One click at the pixel farthest from the border of a mask."""
    click = first_click(mask)
    return {"points": [[click.x, click.y]]}
