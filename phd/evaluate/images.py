"""The interactive protocol on images: mean IoU from a box, and after one, three and five clicks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phd.contract import Contract
from phd.errors import UserError
from phd.evaluate.report import SIZES, ImageReport, InstanceResult
from phd.evaluate.simulate import MASK_THRESHOLD, box_ious, click_ious
from phd.outputs import LabelledImage
from phd.predict import encode_image
from phd.segmenter import Segmenter

PROTOCOL_VERSION = 1


@torch.inference_mode()
def evaluate_images(
    model: Segmenter,
    samples: Iterable[LabelledImage],
    *,
    max_clicks: int = 5,
    clicks: Sequence[int] = (1, 3, 5),
    prompts_per_forward: int = 32,
    num_crowd: int = 0,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> ImageReport:
    """Evaluate a teacher or a student on labelled images.

    The protocol is that of SAM (Kirillov et al. 2023, section 7.1 and appendix D.1): a simulated user clicks where the
    prediction is most wrong (`phd.evaluate.clicks`). The report spells it out. Every instance is evaluated.

    Args:
        model: Moved to `device` and left in eval mode.
        samples: Read once, in order.
        max_clicks: Clicks given to each instance.
        clicks: After how many of them the IoU is reported.
        prompts_per_forward: Instances of one image that are decoded together; changes memory, not results.
        num_crowd: Crowd regions that the reader of the samples left out, for the report.
        progress: Show progress on stderr.
        device: Where the model runs.

    Raises:
        UserError: There is no instance at all, an instance has an empty mask or one of another size than its image, or
            the numbers of clicks do not fit.
    """
    if not clicks or min(clicks) < 1 or max(clicks) > max_clicks:
        raise UserError(f"clicks {list(clicks)}: give numbers from 1 to max_clicks, which is {max_clicks}")
    if prompts_per_forward < 1:
        raise UserError(f"prompts_per_forward {prompts_per_forward}: give at least 1")
    device = torch.device(device)
    model.to(device).eval()
    results: list[InstanceResult] = []
    num_images = 0
    with _progress_bar(disable=not progress) as bar:
        task = bar.add_task(f"evaluate {model.name}", total=len(samples) if isinstance(samples, Sized) else None)
        for sample in samples:
            results += _evaluate_image(model, sample, max_clicks, clicks, prompts_per_forward, device)
            num_images += 1
            bar.advance(task)
    if not results:
        raise UserError(f"nothing to evaluate: {num_images} images without any instance; check the data")
    return ImageReport(
        protocol=describe_protocol(model.contract, max_clicks),
        model=model.name,
        num_images=num_images,
        prompts=["box", *(f"click{count}" for count in clicks)],
        instances=results,
        num_crowd=num_crowd,
    )


def describe_protocol(contract: Contract, max_clicks: int) -> dict[str, Any]:
    """Every choice that moves the numbers, in words, for the report."""
    return {
        "name": "interactive images",
        "version": PROTOCOL_VERSION,
        "input": f"{contract.resize} to {contract.image_size} px, bilinear with antialiasing",
        "resolution": "IoU, boxes, clicks and areas at the image's own size; "
        f"logits of {contract.mask_size} x {contract.mask_size} resized bilinearly, then thresholded",
        "mask_threshold": MASK_THRESHOLD,
        "box": "tight box of the ground truth: x0, y0, xmax + 1, ymax + 1; one mask asked for",
        "click": "the centre of a pixel",
        "first_click": "positive, the pixel of the ground truth mask farthest from its border; "
        "the image's edge is border; first in row-major order where equal",
        "next_click": "the same pixel of the largest error region of the full-size prediction: 8-connected, "
        "misses and additions apart, a miss before an addition and then row-major order where equally large; "
        "positive on a miss, negative on an addition",
        "mask_selection": "click 1: several masks asked for, highest predicted IoU taken; later clicks: one mask",
        "feedback": "all clicks so far, and the logits of the mask taken before as mask prompt",
        "no_error_left": "no further click; the mask stays",
        "max_clicks": max_clicks,
        "average": "over instances, each counted once",
        "sizes": {name: [low, high if math.isfinite(high) else None] for name, (low, high) in SIZES.items()},
        "crowd": "left out by the reader and counted in num_crowd",
    }


def _evaluate_image(
    model: Segmenter,
    sample: LabelledImage,
    max_clicks: int,
    clicks: Sequence[int],
    prompts_per_forward: int,
    device: torch.device,
) -> list[InstanceResult]:
    if len(sample.masks) != len(sample.ids):
        raise UserError(f"{sample.key}: {len(sample.masks)} masks but {len(sample.ids)} ids; mend the sample")
    if not sample.masks:
        return []
    features = encode_image(model, sample.image, device)
    results = []
    for start in range(0, len(sample.masks), prompts_per_forward):
        ids = sample.ids[start : start + prompts_per_forward]
        targets = np.stack([_decode(sample, start + offset) for offset in range(len(ids))])
        boxes = box_ious(model, features, targets)
        clicked = click_ious(model, features, targets, max_clicks)
        for instance, target, from_box, after in zip(ids, targets, boxes, clicked, strict=True):
            ious = {"box": from_box, **{f"click{count}": after[count - 1] for count in clicks}}
            results.append(InstanceResult(sample.key, instance, int(target.sum()), ious))
    return results


def _decode(sample: LabelledImage, index: int) -> np.ndarray:
    """Ground truth (H, W), bool, of one instance; checked, since no instance may drop out in silence.

    Whether the runs fill the mask is checked by the reader: pycocotools leaves what they do not fill uninitialised.
    """
    where = f"{sample.key}, instance {sample.ids[index]}"
    rle, size = sample.masks[index], sample.image.shape[:2]
    if list(rle["size"]) != list(size):
        raise UserError(
            f"{where}: the mask is {rle['size'][1]} x {rle['size'][0]} pixels, the image {size[1]} x {size[0]}; "
            "mend the annotation"
        )
    mask = coco_mask.decode(rle).astype(bool)  # pyright: ignore[reportArgumentType]
    if not mask.any():
        raise UserError(f"{where}: the mask is empty, so there is nothing to prompt; remove the instance")
    return mask


def _progress_bar(disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=disable)
