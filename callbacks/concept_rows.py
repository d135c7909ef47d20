"""Tiles of what teacher and student found of the phrases of an image."""

from __future__ import annotations

from torch import Tensor

from phd.batches import ConceptBatch
from phd.contract import Contract
from phd.draw import Tile
from phd.draw_detections import overlay_detections
from phd.outputs import ConceptPrediction, FoundInstances

MOST_SCORES = 3  # in a caption


def concept_rows(
    batch: ConceptBatch, image_index: int, prediction: ConceptPrediction, contract: Contract
) -> list[list[Tile]]:
    """A row for the first phrase of an image that is true and one for the first that is not: truth, teacher, student.

    Args:
        batch: Holds the image.
        image_index: Its place in the batch.
        prediction: Of the step, for all pairs of the batch.
        contract: Of the student.
    """
    truth = prediction.truth
    mine = prediction.image_index == image_index
    # Where not all instances are annotated, a phrase without any says nothing.
    kinds = (mine & truth.present, mine & ~truth.present & truth.exhaustive)
    pairs = [int(kind.nonzero()[0]) for kind in kinds if bool(kind.any())]
    height, width = (int(side) for side in batch.content[image_index])
    image = batch.images[image_index, :, :height, :width].permute(1, 2, 0).cpu().numpy()

    def tile(masks: Tensor | None, names: list[str], caption: str) -> Tile:
        """The masks (K, m, m), those without a pixel left out, each with its tight box."""
        if masks is None or not len(masks):
            return image, caption
        canvas = (contract.to_image(masks.float() - 0.5, height, width) > 0).cpu()
        drawn = [(mask, name) for mask, name in zip(canvas, names, strict=True) if bool(mask.any())]
        boxes = [_box(mask) for mask, _ in drawn]
        return overlay_detections(image, [m.numpy() for m, _ in drawn], boxes, [name for _, name in drawn]), caption

    def found(name: str, instances: FoundInstances, pair: int) -> Tile:
        here = instances.pair == pair
        scores = [f"{score:.2f}" for score in instances.scores[here].tolist()]
        told = " ".join(scores[:MOST_SCORES]) + ("..." if len(scores) > MOST_SCORES else "")
        caption = f"{name}: presence {float(instances.presence[pair]):.2f}; {told or 'none'}"
        return tile(instances.masks[here], scores, caption)

    rows: list[list[Tile]] = []
    for pair in pairs:
        count = int(truth.counts[pair])
        masks = None if truth.masks is None else truth.masks[truth.pair == pair]
        what = f"{count} of them" if count else "none"
        row = [
            tile(
                masks,
                [str(number) for number in range(1, count + 1)],
                f"{batch.keys[image_index]}: {prediction.phrases[pair]}, {what}",
            )
        ]
        models = (("teacher", prediction.teacher), ("student", prediction.student))
        rows.append(row + [found(name, instances, pair) for name, instances in models if instances is not None])
    return rows


def _box(mask: Tensor) -> list[float]:
    """x0 y0 x1 y1 around a mask (H, W) that has a pixel."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return [float(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
