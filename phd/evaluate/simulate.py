"""One image under a simulated user: the IoU of its instances from a box, and after each click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from phd.contract import Contract, ImageFeatures, Prompts
from phd.evaluate.clicks import Click, first_click, next_click
from phd.metrics import mask_iou
from phd.predict import mask_box
from phd.preprocess import boxes_to_canvas, points_to_canvas
from phd.segmenter import Segmenter

MASK_THRESHOLD = 0.0


def box_ious(model: Segmenter, features: ImageFeatures, targets: np.ndarray) -> list[float]:
    """IoU of each instance from the tight box of its ground truth, one mask asked for.

    Args:
        model: A teacher or a student, in eval mode.
        features: Of the one image.
        targets: (P, H, W) bool ground truth at the size of the image, none empty.
    """
    height, width = targets.shape[1:]
    boxes = torch.tensor([mask_box(target) for target in targets], dtype=torch.float32)
    boxes = boxes_to_canvas(boxes, model.contract, height, width).to(features.device)
    prompts = Prompts(_first_image(len(targets), features), boxes=boxes)
    logits, _ = model.segment(features, prompts, multimask=False).best()
    predictions = (_full_size(logits[index], model.contract, targets[index]) for index in range(len(targets)))
    return [_iou(prediction, target) for prediction, target in zip(predictions, targets, strict=True)]


def click_ious(model: Segmenter, features: ImageFeatures, targets: np.ndarray, max_clicks: int) -> list[list[float]]:
    """IoU of each instance after 1, 2, ..., `max_clicks` clicks.

    After the first click several masks are asked for and the one with the highest predicted IoU is kept; its logits are
    fed back with all clicks so far, and one mask is asked for (SAM, section 3 and appendix A). An instance without any
    error left gets no further click and keeps its mask.

    Args:
        model: A teacher or a student, in eval mode.
        features: Of the one image.
        targets: (P, H, W) bool ground truth at the size of the image, none empty.
        max_clicks: At least 1.

    Returns:
        P lists of `max_clicks` values.
    """
    clicks: list[list[Click]] = [[first_click(target)] for target in targets]
    ious: list[list[float]] = [[] for _ in targets]
    active = list(range(len(targets)))
    previous: Tensor | None = None
    for count in range(1, max_clicks + 1):
        prompts = _click_prompts([clicks[i] for i in active], features, model.contract, *targets.shape[1:])
        prompts.masks = None if previous is None else previous.unsqueeze(1)
        logits, _ = model.segment(features, prompts, multimask=count == 1).best()
        still_wrong = []
        for place, index in enumerate(active):
            prediction = _full_size(logits[place], model.contract, targets[index])
            ious[index].append(_iou(prediction, targets[index]))
            click = next_click(prediction, targets[index]) if count < max_clicks else None
            if click is not None:
                clicks[index].append(click)
                still_wrong.append(place)
        previous = logits[still_wrong]
        active = [active[place] for place in still_wrong]
        if not active:
            break
    return [values + values[-1:] * (max_clicks - len(values)) for values in ious]


def _click_prompts(
    clicks: Sequence[Sequence[Click]], features: ImageFeatures, contract: Contract, height: int, width: int
) -> Prompts:
    """Prompts of P instances that all have the same number of clicks."""
    points = torch.tensor([[(click.x, click.y) for click in each] for each in clicks], dtype=torch.float32)
    labels = torch.tensor([[click.label for click in each] for each in clicks])
    return Prompts(
        image_index=_first_image(len(clicks), features),
        points=points_to_canvas(points, contract, height, width).to(features.device),
        labels=labels.to(features.device),
    )


def _first_image(count: int, features: ImageFeatures) -> Tensor:
    return torch.zeros(count, dtype=torch.long, device=features.device)


def _full_size(logits: Tensor, contract: Contract, target: np.ndarray) -> np.ndarray:
    """The mask (H, W), bool, of logits (m, m); one at a time, since a photograph's worth of floats is large."""
    height, width = target.shape
    return (contract.to_image(logits.unsqueeze(0), height, width)[0] > MASK_THRESHOLD).cpu().numpy()


def _iou(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(mask_iou(torch.from_numpy(prediction)[None], torch.from_numpy(target)[None]))
