"""From a stored image and its phrases to a contract: phrases, boxes and masks through one view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules import rle
from datamodules.augmentation import (
    Augmentation,
    View,
    draw_colours,
    draw_view,
    draw_view_around,
    generator,
    recolour,
)
from datamodules.phrase_choice import PhraseChoice, Question, names_a_side
from datamodules.placement import Placement, require_fit
from datamodules.record import check_size, decode_rgb
from datamodules.transforms import instance_mask
from phd.contract import Contract
from phd.errors import UserError

# A mask with its box, edges x0 y0 x1 y1 in contract pixels.
Instance = tuple[np.ndarray, list[float]]


@dataclass(frozen=True)
class ConceptExample:
    """One sample of a `ConceptBatch`: its phrases, how many instances each has, and these one after the other."""

    key: str
    image: Tensor
    content: Tensor
    phrases: list[str]
    exhaustive: list[bool]
    hard: list[bool]
    counts: list[int]
    masks: Tensor
    boxes: Tensor


class ConceptTransform:
    """Makes examples for one contract.

    What a crop does to a phrase:

    - An instance that lies outside the view is no instance of the picture any more. A phrase that loses all its
      instances so is a negative where it is exhaustive, and is left out where it is not.
    - An instance that is partly inside keeps that part, and its box is the part's. Where the part covers fewer than
      `min_area_cells`, it is left out and the phrase is no longer exhaustive; so it is with tiny instances, and
      with those beyond `max_instances`. Without any other instance the phrase is left out.
    - A crop that shows no instance of any phrase is not used.

    An image with a phrase that says left or right is not mirrored.

    Args:
        contract: Canvas, resize rule and mask grid.
        augmentation: What to vary, or None.
        choice: Which phrases are asked.
        min_area_cells: Least cells of an instance on the mask grid.
        seed: Of augmentation and choice.
        train: Choose at random; otherwise the first phrases, instances and answers.
        zoom: Show a square around one of the instances, its side drawn between these two, in longest sides of the
            instance; None for the crops of `augmentation`. Only in training.
        mask_scale: How many times finer than the contract's the mask grid is; `min_area_cells` are of the contract's.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self,
        contract: Contract,
        augmentation: Augmentation | None = None,
        choice: PhraseChoice | None = None,
        min_area_cells: int = 1,
        seed: int = 0,
        train: bool = True,
        zoom: tuple[float, float] | None = None,
        mask_scale: int = 1,
    ) -> None:
        self.contract, self.augmentation, self.choice = contract, augmentation, choice or PhraseChoice()
        self.min_area_cells, self.mask_scale = min_area_cells * mask_scale**2, mask_scale
        self.seed, self.train = seed, train
        self.zoom = zoom if train else None
        if zoom is not None and not 1 <= zoom[0] <= zoom[1]:
            raise UserError(f"data.zoom is [{zoom[0]}, {zoom[1]}]; give 1 <= smallest <= largest")
        self.choice.check()
        if augmentation is not None:
            augmentation.check()

    def __call__(self, jpg: bytes, record: dict[str, Any], key: str, epoch: int = 0, where: str = "") -> ConceptExample:
        """Decode, choose, augment, resize; masks straight from their run lengths.

        Args:
            jpg: The image file.
            record: A concept record, its form checked.
            key: Names the sample; keys its random numbers.
            epoch: Likewise.
            where: Names the sample in errors; the key by default.

        Raises:
            UserError: The image cannot be decoded or is too narrow, or a mask is not of its size.
        """
        where = where or key
        rng = generator(self.seed, epoch, key)
        image = decode_rgb(jpg, where)
        height, width = int(image.shape[1]), int(image.shape[2])
        check_size(record, height, width, where)
        require_fit(self.contract, height, width, where)
        questions = self.choice.questions(record, rng if self.train else None)
        view = self._view(rng, questions, height, width)
        whole = View(0, 0, height, width)
        placement = Placement(self.contract, height, width, view, self.mask_scale)
        asked = self._asked(rng, questions, placement, where)
        if view != whole and not any(instances for _, instances in asked):
            placement = Placement(self.contract, height, width, whole, self.mask_scale)
            asked = self._asked(rng, questions, placement, where)
        canvas = placement.canvas(recolour(placement.shown(image), *draw_colours(rng, self.augmentation)))
        instances = [instance for _, found in asked for instance in found]
        masks = np.zeros((len(instances), placement.grid, placement.grid), dtype=np.uint8)
        for index, (mask, _) in enumerate(instances):
            masks[index] = mask
        return ConceptExample(
            key=key,
            image=canvas,
            content=torch.tensor(placement.content),
            phrases=[question.text for question, _ in asked],
            exhaustive=[question.exhaustive for question, _ in asked],
            hard=[question.hard for question, _ in asked],
            counts=[len(found) for _, found in asked],
            masks=torch.from_numpy(masks),
            boxes=torch.tensor([box for _, box in instances], dtype=torch.float32).reshape(-1, 4),
        )

    def _view(self, rng: np.random.Generator, questions: list[Question], height: int, width: int) -> View:
        """What is shown of the image."""
        view = draw_view(rng, self.augmentation, height, width, flip=not names_a_side(questions))
        if self.zoom is None:
            return view
        boxes = [rle.bounding_box(each["segmentation"]) for question in questions for each in question.instances]
        boxes = [box for box in boxes if box[2] > 0]
        if not boxes:
            return view
        around = draw_view_around(rng, boxes[int(rng.integers(len(boxes)))], self.zoom, height, width)
        return replace(around, mirrored=view.mirrored)

    def _asked(
        self, rng: np.random.Generator, questions: list[Question], placement: Placement, where: str
    ) -> list[tuple[Question, list[Instance]]]:
        """The phrases that this view leaves, each with what it shows of its instances."""
        asked = []
        for question in questions:
            found, complete = self._visible(question, placement, where)
            if len(found) > self.choice.max_instances:
                order = rng.permutation(len(found)) if self.train else np.arange(len(found))
                found = [found[index] for index in order[: self.choice.max_instances]]
                complete = False
            left = replace(question, exhaustive=question.exhaustive and complete)
            if found or left.exhaustive:
                asked.append((left, found))
        return asked

    def _visible(self, question: Question, placement: Placement, where: str) -> tuple[list[Instance], bool]:
        """The instances inside the view, and whether these are all that have a pixel there."""
        found: list[Instance] = []
        complete = True
        for annotation in question.instances:
            mask = instance_mask(annotation, placement, where)
            edges = edges_in_view(annotation["segmentation"], placement.view)
            if edges is None:
                continue
            if np.count_nonzero(mask) < self.min_area_cells:
                complete = False
                continue
            found.append((mask, placement.box(*edges)))
        return found, complete


def edges_in_view(code: dict[str, Any], view: View) -> tuple[float, float, float, float] | None:
    """The tight box of the part of a mask that lies in a view.

    Args:
        code: Compressed RLE.
        view: Of the image.

    Returns:
        Edges x0, y0, x1, y1 in image pixels; None where no pixel lies in the view.
    """
    left, top, width, height = rle.bounding_box(code)
    right, bottom = left + width, top + height
    view_right, view_bottom = view.left + view.width, view.top + view.height
    if not width or left >= view_right or top >= view_bottom or right <= view.left or bottom <= view.top:
        return None
    if left >= view.left and top >= view.top and right <= view_right and bottom <= view_bottom:
        return left, top, right, bottom
    # The box of a part is not the part of the box.
    part = rle.decode(code)[view.top : view_bottom, view.left : view_right]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if not len(rows):
        return None
    x0, y0 = view.left + int(columns[0]), view.top + int(rows[0])
    return x0, y0, view.left + int(columns[-1]) + 1, view.top + int(rows[-1]) + 1
