"""Average precision on COCO and LVIS, by the libraries that define it; no evaluator of our own."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from pathlib import Path
from typing import Any, Literal

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from phd.errors import UserError
from phd.evaluate.concept_gold import IouType
from phd.evaluate.concept_json import (
    box_of,
    by_id,
    finite,
    get,
    known,
    read_predictions,
    read_truth,
    side_lengths,
)
from phd.evaluate.concept_masks import areas, checked_mask
from phd.evaluate.concept_report import plain

# In the order of COCO's statistics.
COCO_NAMES = ("ap", "ap_50", "ap_75", "ap_small", "ap_medium", "ap_large")
COCO_NAMES += ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")
# Ours -> the name in the statistics of faster-coco-eval.
LVIS_NAMES = {
    "ap": "AP_all",
    "ap_50": "AP_50",
    "ap_75": "AP_75",
    "ap_small": "AP_small",
    "ap_medium": "AP_medium",
    "ap_large": "AP_large",
    "ap_rare": "APr",
    "ap_common": "APc",
    "ap_frequent": "APf",
    "ar_300": "AR_all",
}
LVIS_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


def evaluate_ap(
    truth: Path, prediction: Path, iou_type: IouType = "segm", protocol: Literal["coco", "lvis"] = "coco"
) -> dict[str, Any]:
    """Evaluate a file of results.

    Args:
        truth: A file of COCO, or of LVIS with its lists of categories that are absent or not exhaustively labelled.
        prediction: A list of COCO results; boxes are pixels.
        iou_type: Compare masks or boxes.
        protocol: "coco" by pycocotools; "lvis" by faster-coco-eval, which has to be installed.

    Returns:
        Fractions by name, None where the data has nothing of the kind, and the protocol.

    Raises:
        UserError: A file is damaged, the files do not belong together, or the library is missing.
    """
    if protocol == "lvis" and importlib.util.find_spec("faster_coco_eval") is None:
        raise UserError("--protocol lvis needs faster-coco-eval; install it: pip install 'phd-distill[lvis]'")
    content = read_truth(truth, ("images", "annotations", "categories"))
    images, categories = by_id(content["images"], "image", truth), by_id(content["categories"], "category", truth)
    check_truth(content, images, categories, iou_type, protocol, truth)
    results = [
        checked_result(item, images, categories, iou_type, f"{prediction}: prediction {place}", truth)
        for place, item in enumerate(read_predictions(prediction))
    ]
    numbers = (
        coco_numbers(content, results, iou_type) if protocol == "coco" else lvis_numbers(content, results, iou_type)
    )
    return {
        **numbers,
        "numbers": list(numbers),
        "num_images": len(images),
        "num_annotations": len(content["annotations"]),
        "num_predictions": len(results),
        "warnings": [],
        "protocol": {
            "metric": f"AP of {protocol.upper()}",
            "library": "pycocotools" if protocol == "coco" else "faster-coco-eval, lvis_style",
            "iou_type": iou_type,
            "predictions": f"the best {100 if protocol == 'coco' else 300} of an image"
            + (" and class" if protocol == "coco" else ""),
            "sizes": "by the area of the mask" if iou_type == "segm" else "by the area of the box",
        },
        "gt": str(truth),
        "pred": str(prediction),
    }


def check_truth(
    content: dict[str, Any], images: Any, categories: Any, iou_type: IouType, protocol: str, path: Path
) -> None:
    """Check what the libraries read.

    Raises:
        UserError: Something is missing, unknown or damaged.
    """
    for number, entry in images.items():
        side_lengths(entry, f"{path}: image id {number}")
        for name in LVIS_LISTS if protocol == "lvis" else ():
            get(entry, name, f"{path}: image id {number}")
    for number, annotation in by_id(content["annotations"], "annotation", path).items():
        where = f"{path}: annotation id {number}"
        entry = images[known(annotation, "image_id", images, where, path)]
        known(annotation, "category_id", categories, where, path)
        get(annotation, "area", where)
        annotation.setdefault("iscrowd", 0)  # LVIS has no crowds, and the libraries ask for the key
        if iou_type == "bbox":
            box_of(annotation, entry["width"], entry["height"], where)
        else:
            checked_mask(get(annotation, "segmentation", where), entry["height"], entry["width"], where)


def checked_result(
    item: dict[str, Any], images: Any, categories: Any, iou_type: IouType, where: str, truth: Path
) -> dict[str, Any]:
    """One result as the libraries want it, with the area of what is compared.

    A result with mask and box would be sorted into sizes by its box.

    Raises:
        UserError: Something is missing, unknown or damaged.
    """
    number = known(item, "image_id", images, where, truth)
    where = f"{where} (image id {number})"
    result: dict[str, Any] = {
        "image_id": number,
        "category_id": known(item, "category_id", categories, where, truth),
        "score": get(item, "score", where),
    }
    if not finite(result["score"]):
        raise UserError(f"{where}: the score {result['score']!r} is no finite number; drop or mend this prediction")
    height, width = images[number]["height"], images[number]["width"]
    if iou_type == "bbox":
        box = box_of(item, width, height, where)
        return {**result, "bbox": box, "area": box[2] * box[3]}
    mask = checked_mask(get(item, "segmentation", where), height, width, where)
    return {**result, "segmentation": mask, "area": float(areas([mask])[0])}


def coco_numbers(content: dict[str, Any], results: list[dict[str, Any]], iou_type: IouType) -> dict[str, float | None]:
    """The twelve numbers of COCO (Lin et al., ECCV 2014; cocodataset.org, "Detection Evaluation")."""
    found = [{**item, "id": place, "iscrowd": 0} for place, item in enumerate(results, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        data_sets: Any = COCO(), COCO()
        for data_set, annotations in zip(data_sets, (content["annotations"], found), strict=True):
            data_set.dataset = {**content, "annotations": annotations}
            data_set.createIndex()
        evaluation = COCOeval(data_sets[0], data_sets[1], iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: defined(value) for name, value in zip(COCO_NAMES, evaluation.stats, strict=True)}


def lvis_numbers(content: dict[str, Any], results: list[dict[str, Any]], iou_type: IouType) -> dict[str, float | None]:
    """The numbers of LVIS (Gupta et al., CVPR 2019, section 4.2), with at most 300 predictions of an image."""
    if not results:
        raise UserError("--pred: holds no predictions, which faster-coco-eval cannot evaluate; predict something")
    library: Any = importlib.import_module("faster_coco_eval")
    truth = library.COCO(content)
    evaluation = library.COCOeval_faster(truth, truth.loadRes(results), iou_type, lvis_style=True)
    evaluation.params.maxDets = [300]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    statistics = evaluation.stats_as_dict
    return {name: defined(statistics[theirs]) for name, theirs in LVIS_NAMES.items()}


def defined(value: Any) -> float | None:
    """A number; -1, with which the libraries say that there is nothing of the kind, becomes None."""
    number = plain(value)
    return None if number == -1 else number
