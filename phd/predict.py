"""Predict masks on an image of one's own.

Example:
    from phd import ImagePredictor, load_segmenter
    predictor = ImagePredictor(load_segmenter("runs/student"))
    predictor.set_image("photo.jpg")
    prediction = predictor.segment(box=[10, 20, 200, 240])
    detections = predictor.detect("red car")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from phd.contract import Branch, ImageFeatures, Prompts
from phd.errors import UserError
from phd.predict_concepts import Detection, PhraseAnswer, answers_on
from phd.preprocess import boxes_to_canvas, mask_to_prompt, points_to_canvas, read_image, to_canvas
from phd.segmenter import Segmenter


@dataclass
class Prediction:
    """One mask of an image.

    Attributes:
        mask: (H, W) bool.
        score: Predicted IoU.
        logits: (m, m) mask logits over the canvas; give them back as `mask` to correct the mask with more points.
        box: Tight box x0 y0 x1 y1 of the mask in image pixels, x1 and y1 exclusive; None where the mask is empty.
        area: Pixels of the mask.
    """

    mask: np.ndarray
    score: float
    logits: Tensor
    box: list[int] | None
    area: int


class ImagePredictor:
    """Answers prompts on one image after another; each image is encoded once.

    Args:
        model: A teacher or a student; left in eval mode.
        device: Where to run it; where it is by default.
    """

    def __init__(self, model: Segmenter, device: torch.device | str | None = None) -> None:
        self.device = torch.device(device) if device is not None else _device_of(model)
        self.model = model.to(self.device).eval()
        self.image: np.ndarray | None = None
        self._features: ImageFeatures | None = None

    @torch.inference_mode()
    def set_image(self, image: np.ndarray | str | Path) -> None:
        """Encode an image.

        Args:
            image: (H, W, 3) uint8 RGB, or the path of an image file.

        Raises:
            UserError: The file cannot be read, or the array is no RGB image.
        """
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        branches = ("tracker", "detector") if "detect" in self.model.verbs else ("tracker",)
        self._features = encode_image(self.model, pixels, self.device, branches)
        self.image = pixels

    @torch.inference_mode()
    def segment(
        self,
        box: Sequence[float] | None = None,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        mask: np.ndarray | Tensor | None = None,
        multimask: bool | None = None,
    ) -> Prediction:
        """The mask of one object; of several candidates the one with the highest predicted IoU.

        Args:
            box: x0 y0 x1 y1 in image pixels, x1 and y1 exclusive.
            points: Points (x, y) in image pixels.
            labels: One for each point: 1 object, 0 background; all 1 by default.
            mask: (H, W) bool array, a rough mask of the image; or (m, m) logits of an earlier prediction.
            multimask: Ask for several candidates; by default only for a lone point.

        Raises:
            UserError: No image, no prompt, or a prompt that lies outside the image or is no prompt at all.
        """
        if self.image is None or self._features is None:
            raise UserError("no image yet; call set_image first")
        if box is None and points is None and mask is None:
            raise UserError("no prompt; give a box, points or a mask")
        height, width = self.image.shape[:2]
        contract = self.model.contract
        prompts = Prompts(torch.zeros(1, dtype=torch.long, device=self.device))
        if box is not None:
            corners = torch.tensor([check_box(box, height, width)])
            prompts.boxes = boxes_to_canvas(corners, contract, height, width).to(self.device)
        if points is not None or labels is not None:
            checked, signs = check_points(points, labels, height, width)
            prompts.points = points_to_canvas(torch.tensor([checked]), contract, height, width).to(self.device)
            prompts.labels = torch.tensor([signs], device=self.device)
        if mask is not None:
            prompts.masks = self._mask_prompt(mask).to(self.device)
        logits, scores = self.model.segment(self._features, prompts, multimask).best()
        full_size = (contract.to_image(logits, height, width)[0] > 0).cpu().numpy()
        box_of_mask, area = mask_box(full_size), int(full_size.sum())
        return Prediction(full_size, float(scores[0]), logits[0].cpu(), box_of_mask, area)

    @torch.inference_mode()
    def detect(
        self,
        phrases: str | Sequence[str] = (),
        exemplars: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        threshold: float = 0.5,
        nms: float | None = None,
    ) -> list[Detection]:
        """Every instance of one or more phrases, by phrase and score: the instances of `answer`, which see."""
        answers = self.answer(phrases, exemplars, labels, threshold, nms)
        return [detection for answer in answers for detection in answer.detections]

    @torch.inference_mode()
    def answer(
        self,
        phrases: str | Sequence[str] = (),
        exemplars: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        threshold: float = 0.5,
        nms: float | None = None,
    ) -> list[PhraseAnswer]:
        """Whether each phrase is there, and its instances, the best first; the image is not encoded again.

        Args:
            phrases: A noun phrase, or several; none where exemplars alone say what is meant.
            exemplars: Boxes x0 y0 x1 y1 in image pixels, x1 and y1 edges; they go with every phrase.
            labels: One for each exemplar: 1 an instance, 0 none; all 1 by default.
            threshold: Keep scores above it, in [0, 1].
            nms: Suppress masks that overlap a better one of the same phrase by an IoU above this; SAM 3 does not.

        Raises:
            UserError: No image, nothing asked, an empty phrase, a box outside the image, or a model that detects not.
        """
        if self.image is None or self._features is None:
            raise UserError("no image yet; call set_image first")
        asked = [phrases] if isinstance(phrases, str) else list(phrases)
        height, width = self.image.shape[:2]
        boxes = [check_box(box, height, width) for box in exemplars or ()]
        signs = [1] * len(boxes) if labels is None else [int(label) for label in labels]
        if len(signs) != len(boxes) or not {*signs} <= {0, 1}:
            raise UserError(f"{len(boxes)} exemplars with labels {signs}: give 1 or 0 for each")
        if "detect" not in self.model.verbs:
            self.model.encode_text(asked)  # says why
        pairs = list(zip(boxes, signs, strict=True))
        return answers_on(self.model, self._features, (height, width), asked, pairs, threshold, nms)

    def _mask_prompt(self, mask: np.ndarray | Tensor) -> Tensor:
        assert self.image is not None
        size, side = self.image.shape[:2], self.model.contract.mask_size
        if isinstance(mask, Tensor) and mask.is_floating_point() and mask.shape == (side, side):
            return mask.view(1, 1, side, side)
        if isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == size:
            return mask_to_prompt(mask, self.model.contract)
        raise UserError(
            f"mask {mask.dtype} of shape {tuple(mask.shape)}: give a boolean array of shape {size}, like the image, "
            f"or the logits of an earlier prediction, a float tensor of shape ({side}, {side})"
        )


def encode_image(
    model: Segmenter, image: np.ndarray, device: torch.device, branches: Sequence[Branch] = ("tracker",)
) -> ImageFeatures:
    """Features of one image (H, W, 3) uint8 RGB; by default those for the prompt-driven heads."""
    canvas, content = to_canvas(image, model.contract)
    filled = torch.tensor([content], device=device)
    return model.encode(model.contract.normalise(canvas.unsqueeze(0).to(device), filled), branches)


def mask_box(mask: np.ndarray) -> list[int] | None:
    """Tight box [x0, y0, x1, y1] of a mask (H, W), bool, x1 and y1 exclusive; None for an empty mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def check_box(box: Sequence[float], height: int, width: int) -> list[float]:
    """The box as floats.

    Raises:
        UserError: It is no box x0 y0 x1 y1 with x0 < x1 and y0 < y1 inside the image.
    """
    values = [float(value) for value in box]
    if len(values) != 4:
        raise UserError(f"box {_text(values)}: give four numbers x0 y0 x1 y1")
    x0, y0, x1, y1 = values
    if not (x0 < x1 and y0 < y1):
        raise UserError(f"box {_text(values)} is empty: give x0 y0 x1 y1 with x0 < x1 and y0 < y1")
    if not (x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height):
        raise UserError(
            f"box {_text(values)} lies outside the image of {width} x {height} pixels; "
            f"give 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
        )
    return values


def check_points(
    points: Sequence[Sequence[float]] | None, labels: Sequence[int] | None, height: int, width: int
) -> tuple[list[list[float]], list[int]]:
    """The points as floats, with a label for each.

    Raises:
        UserError: A point is no pair or lies outside the image, or the labels do not fit the points.
    """
    pairs = [[float(value) for value in point] for point in points] if points is not None else []
    signs = [int(label) for label in labels] if labels is not None else [1] * len(pairs)
    if not pairs or len(signs) != len(pairs):
        raise UserError(f"{len(pairs)} points with {len(signs)} labels: give at least one point, and a label for each")
    for pair in pairs:
        if len(pair) != 2:
            raise UserError(f"point {_text(pair)}: give two numbers x y")
        if not (0 <= pair[0] < width and 0 <= pair[1] < height):
            raise UserError(
                f"point {_text(pair)} lies outside the image of {width} x {height} pixels; "
                f"give 0 <= x < {width} and 0 <= y < {height}"
            )
    wrong = [sign for sign in signs if sign not in (0, 1)]
    if wrong:
        raise UserError(f"label {wrong[0]}: give 1 for the object or 0 for the background")
    return pairs, signs


def to_json(prediction: Prediction, **context: Any) -> dict[str, Any]:
    """Plain types for a JSON file.

    Args:
        prediction: The mask becomes a COCO compressed RLE under "rle".
        **context: Further entries that come first, such as the image, the prompts and the model.
    """
    counts = coco_mask.encode(np.asfortranarray(prediction.mask, dtype=np.uint8))["counts"]
    return {
        **context,
        "rle": {
            "size": list(prediction.mask.shape),
            "counts": counts if isinstance(counts, str) else counts.decode("ascii"),
        },
        "box": prediction.box,
        "area": prediction.area,
        "score": prediction.score,
    }


def _device_of(model: Segmenter) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _text(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
