"""`phd evaluate concepts --data SHARDS --model FOLDER`: a model beside its teacher."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.commands.device import checked_device
from phd.commands.json_file import write_json
from phd.errors import UserError

SHARES = ("cgf1", "cgf1_50", "cgf1_75", "pmf1", "il_mcc", "positive_macro_f1", "precision", "recall")
ERRORS = ("presence_ece", "score_ece")


def run_model(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the model, and the teacher beside it; save the model's predictions where asked."""
    from datamodules.labelled_concepts import ConceptImages
    from datamodules.reader import ShardReader
    from phd.evaluate.concept_model import THRESHOLD, evaluate_concept_model
    from phd.evaluate.concept_saved import SavedConcepts
    from phd.loading import load_segmenter

    threshold = THRESHOLD if options.threshold is None else options.threshold
    for name, value in (("threshold", threshold), ("nms", options.nms)):
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name} is {value}; give a number from 0 to 1")
    if options.max_images is not None and options.max_images < 1:
        raise UserError(f"--max-images is {options.max_images}; give at least 1")
    device = checked_device(options.device)
    samples = ConceptImages(ShardReader(options.data), options.max_images)
    path: Path | None = options.save
    saved = None if path is None else SavedConcepts()

    def measure(name: str, segmenter: Any, save: Any) -> dict[str, Any]:
        numbers = evaluate_concept_model(
            segmenter,
            samples,
            iou_type=options.iou_type,
            threshold=threshold,
            nms=options.nms,
            save=save,
            device=device,
        )
        size = segmenter.contract.image_size
        return {**numbers, "model": name, "image_size": size, "data": str(options.data)}

    # The teacher's contract first, so that a mismatch is found before the work; one model in memory at a time.
    contract = load_segmenter(options.teacher, options.image_size).contract if options.teacher else None
    model = load_segmenter(options.model, options.image_size)
    if contract is not None:
        model.contract.require_equal(contract, f"the model {options.model}", f"the teacher {options.teacher}")
    result = measure(options.model, model, saved)
    del model
    if saved is not None and path is not None:
        result["saved"] = save_files(path, saved)
    if options.teacher:
        result["teacher"] = measure(options.teacher, load_segmenter(options.teacher, options.image_size), None)
        print_shares(result)
    return result


def save_files(path: Path, saved: Any) -> dict[str, Any]:
    """Write the predictions, and beside them the truth of each annotator; tell the names."""
    truths = saved.truths()
    letters = [""] if len(truths) == 1 else [f"_{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[: len(truths)]]
    files = [path.with_name(f"{path.stem}_gt{letter}.json") for letter in letters]
    write_json(path, saved.predictions)
    for file, truth in zip(files, truths, strict=True):
        write_json(file, truth)
    print(f"phd evaluate concepts --gt {' '.join(map(str, files))} --pred {path}")
    return {"pred": str(path), "gt": [str(file) for file in files]}


def print_shares(result: dict[str, Any]) -> None:
    """Print the model beside the teacher, which is the 100 %; errors of calibration have no share."""
    from rich.console import Console
    from rich.table import Table

    teacher = result["teacher"]
    table = Table(title=f"{result['num_images']} images, {result['num_datapoints']} phrases")
    for name in ("", Path(result["model"]).name or result["model"], "teacher", "share"):
        table.add_column(name, justify="right" if name else "left")
    for name in (*SHARES, *ERRORS):
        mine, theirs = result[name], teacher[name]
        known = mine is not None and theirs and name not in ERRORS
        cells = ["-" if value is None else f"{value:.4f}" for value in (mine, theirs)]
        table.add_row(name, *cells, f"{mine / theirs:.1%}" if known else "-")
    Console().print(table)
