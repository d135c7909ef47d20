"""The demo's report: one HTML file with a table and pictures, nothing to download."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from phd.draw import overlay
from phd.evaluate.clicks import first_click
from phd.loading import load_segmenter
from phd.outputs import LabelledImage
from phd.predict import ImagePredictor

ROWS = {
    "box_miou": "from a box",
    "click1_miou": "from 1 click",
    "click3_miou": "from 3 clicks",
    "click5_miou": "from 5 clicks",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .3rem .9rem; border-bottom: 1px solid #ccc; text-align: right }
th:first-child, td:first-child { text-align: left } figure { margin: 0 } img { width: 100%; border-radius: 4px }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; margin-bottom: .8rem }
figcaption { font-size: 13px; color: #555 } code { background: #f3f3f3; padding: 0 .2rem }
"""


def write_report(out: Path, numbers: dict[str, dict[str, str]], samples: Sequence[LabelledImage], teacher: str) -> Path:
    """Write `report.html`.

    Args:
        out: Folder of the demo.
        numbers: By stage ("image", later "video" and "concept"), the paths that the stage returned.
        samples: Labelled images to show.
        teacher: The teacher's name.

    Returns:
        The page.
    """
    sections = []
    if "image" in numbers:
        paths = numbers["image"]
        before, after = (json.loads(Path(paths[name]).read_text()) for name in ("before", "after"))
        sections += ["<h2>Stage 1: the image encoder</h2>", image_table(before, after)]
        models = {
            "teacher": ImagePredictor(load_segmenter(teacher)),
            "student before": ImagePredictor(load_segmenter(paths["untrained"])),
            "student after": ImagePredictor(load_segmenter(paths["student"])),
        }
        sections += [image_row(models, sample, number) for number, sample in enumerate(samples)]
    page = out / "report.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>phd demo</title><style>{STYLE}</style>"
        "<h1>phd: one student, distilled on the embedded world</h1>"
        "<p>Rendered scenes, a small SAM 3 trained on them as the teacher, and an EfficientViT-B0 student. "
        "Everything here was computed on this machine; no weights were downloaded.</p>" + "\n".join(sections)
    )
    return page


def image_table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Mean IoU of the teacher (100 %) and of the student before and after."""
    teacher = after["teacher"]
    lines = ["<table><tr><th>mean IoU<th>teacher<th>student before<th>student after<th>share of the teacher</tr>"]
    for row, title in ROWS.items():
        share = f"{after[row] / teacher[row]:.1%}" if teacher[row] else "-"
        cells = [f"{values[row]:.3f}" for values in (teacher, before, after)]
        lines.append(f"<tr><td>{title}<td>" + "<td>".join([*cells, share]) + "</tr>")
    protocol = html.escape(json.dumps(after["protocol"], indent=1))
    return (
        "\n".join(lines) + f"</table><p>{after['num_images']} scenes that nobody was trained on, "
        f"{after['num_instances']} things; the teacher is the 100 %.</p>"
        f"<details><summary>Protocol</summary><pre>{protocol}</pre></details>"
    )


def image_row(models: dict[str, ImagePredictor], sample: LabelledImage, number: int) -> str:
    """One scene: the prompt with the true mask, and each model's answer with its IoU.

    The largest thing is asked for, in turn by a box and by one click at its centre.
    """
    masks = [coco_mask.decode(cast(Any, rle)).astype(bool) for rle in sample.masks]
    truth = max(masks, key=lambda mask: int(mask.sum()))
    prompt = box_prompt(truth) if number % 2 == 0 else click_prompt(truth)
    cells = [figure(overlay(sample.image, truth, **prompt), f"prompt and true mask ({sample.key})")]
    for name, predictor in models.items():
        predictor.set_image(sample.image)
        prediction = predictor.segment(**prompt)
        union = int((prediction.mask | truth).sum())
        iou = int((prediction.mask & truth).sum()) / union
        cells.append(figure(overlay(sample.image, prediction.mask, **prompt), f"{name}: IoU {iou:.2f}"))
    return f'<div class="row">{"".join(cells)}</div>'


def box_prompt(mask: np.ndarray) -> dict[str, Any]:
    """The tight box of a mask."""
    rows, columns = np.nonzero(mask)
    return {"box": [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]}


def click_prompt(mask: np.ndarray) -> dict[str, Any]:
    """One click at the pixel farthest from the border of a mask."""
    click = first_click(mask)
    return {"points": [[click.x, click.y]]}


def figure(picture: Image.Image, caption: str) -> str:
    """A picture inside the page."""
    buffer = io.BytesIO()
    picture.resize((256, 256)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="">'
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"
