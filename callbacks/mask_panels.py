"""Pictures of what teacher and student make of the same prompts, in images and in clips, and of the same phrases."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from callbacks.clip_rows import clip_rows
from callbacks.concept_rows import concept_rows
from callbacks.run_folder import is_dry_run, run_folder
from phd.batches import ClipBatch, ConceptBatch, ImageBatch
from phd.contract import Contract, Prompts
from phd.draw import Tile, overlay, panel
from phd.metrics import mask_iou
from phd.outputs import MaskPrediction, StepOutput


class MaskPanels(L.Callback):
    """Writes `media/epoch_XXX.jpg` into the run's folder, and the same picture to W&B where it logs.

    One row per image, the first images of the validation set: the image with its prompt, the teacher's mask, the
    student's mask, the ground truth (what there is of them). The prompt kinds take turns from row to row; of each
    image its first prompt is shown. In stage 2 a clip has three rows, a film strip: the ground truth, what the teacher
    tracked, what the student tracked from the same first masks. In stage 3 an image has a row for a phrase that is true
    and one for a phrase that is not: the ground truth, what the teacher found, what the student found, with presence
    and scores. Only rank 0 draws; nothing is drawn in the sanity check or a `fast_dev_run`.

    Args:
        num_images: Images or clips.
        every_n_epochs: Draw after every n-th epoch.
    """

    def __init__(self, num_images: int = 4, every_n_epochs: int = 1) -> None:
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self._drawn: list[list[list[Tile]]] = []  # the rows of each image or clip

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the run's folder, which every process must ask for."""
        self._folder = run_folder(trainer) / "media"

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an empty sheet."""
        self._drawn = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: ImageBatch | ClipBatch | ConceptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the images or clips of the first batches."""
        idle = trainer.sanity_checking or is_dry_run(trainer) or not trainer.is_global_zero
        if idle or trainer.current_epoch % self.every_n_epochs != 0:
            return
        output: StepOutput = outputs["output"]
        for index in range(len(batch)):
            if len(self._drawn) == self.num_images:
                return
            rows = self._rows_of(batch, index, output, cast(Contract, pl_module.contract))
            if rows:
                self._drawn.append(rows)

    def _rows_of(
        self, batch: ImageBatch | ClipBatch | ConceptBatch, index: int, output: StepOutput, contract: Contract
    ) -> list[list[Tile]]:
        """The rows of one image or clip; none where there is nothing to show."""
        if isinstance(batch, ClipBatch):
            return [] if output.clip is None else clip_rows(batch, index, output.clip)
        if isinstance(batch, ConceptBatch):
            return [] if output.concepts is None else concept_rows(batch, index, output.concepts, contract)
        kinds = list(output.masks)
        if not kinds:
            return []
        kind = kinds[len(self._drawn) % len(kinds)]
        row = draw_row(batch, index, kind, output.masks[kind], contract)
        return [row] if row else []

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the sheet."""
        if not self._drawn:
            return
        sheet = panel([row for rows in self._drawn for row in rows])
        self._folder.mkdir(parents=True, exist_ok=True)
        sheet.save(self._folder / f"epoch_{trainer.current_epoch:03d}.jpg", quality=90)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/panels", [sheet], step=trainer.global_step)
        self._drawn = []


def draw_row(
    batch: ImageBatch, image_index: int, kind: str, prediction: MaskPrediction, contract: Contract
) -> list[Tile]:
    """The tiles of one image and its first prompt; none if the image has no prompt of this kind.

    Args:
        batch: Holds the image.
        image_index: Its place in the batch.
        kind: Of the prompt, for the caption.
        prediction: Of the step, for the prompts of this kind.
        contract: Of the student.
    """
    places = (prediction.prompts.image_index == image_index).nonzero()[:, 0]
    if len(places) == 0:
        return []
    place = int(places[0])
    height, width = (int(side) for side in batch.content[image_index])
    image = batch.images[image_index, :, :height, :width].permute(1, 2, 0).cpu().numpy()

    def picture(masks: Tensor) -> np.ndarray:
        return _on_canvas(masks[place], contract)[:height, :width]

    prompt_mask = prediction.prompts.masks
    shown = None if prompt_mask is None else picture(prompt_mask[:, 0])
    box, points, labels = _visible(prediction.prompts, place)
    tiles: list[Tile] = [(overlay(image, shown, box, points, labels), f"{batch.keys[image_index]}: {kind}")]
    caption = "student"
    references = (("teacher", prediction.teacher), ("ground truth", prediction.target))
    for name, masks in references:
        if masks is not None:
            iou = mask_iou(prediction.student[place : place + 1], masks[place : place + 1])
            caption += f", IoU {iou.item():.2f} ({name})"
    if prediction.teacher is not None:
        tiles.append((overlay(image, picture(prediction.teacher)), "teacher"))
    tiles.append((overlay(image, picture(prediction.student)), caption))
    if prediction.target is not None:
        tiles.append((overlay(image, picture(prediction.target)), "ground truth"))
    return tiles


def _on_canvas(mask: Tensor, contract: Contract) -> np.ndarray:
    """A mask (m, m), logits or {0, 1}, as bool (S, S)."""
    logits = mask.float() if mask.is_floating_point() else mask.float() - 0.5
    size = (contract.image_size, contract.image_size)
    logits = torch.nn.functional.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)
    return (logits[0, 0] > 0).cpu().numpy()


def _visible(prompts: Prompts, place: int) -> tuple[list[float] | None, list[list[float]] | None, list[int] | None]:
    """Box, points and labels of one prompt, without padding points."""
    box = None if prompts.boxes is None else prompts.boxes[place].tolist()
    if prompts.points is None or prompts.labels is None:
        return box, None, None
    real = prompts.labels[place] >= 0
    return box, prompts.points[place][real].tolist(), prompts.labels[place][real].tolist()
