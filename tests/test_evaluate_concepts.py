"""cgF1 of files: equal to the reference on its cases, and by the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from concept_files import changed, gold, result, write

from phd.cli import run
from phd.evaluate.concept_images import evaluate_concepts

ORACLES = Path(os.environ.get("PHD_SHARED", "../shared")) / "oracles" / "cgf1_cases"
REASON = "no reference values; set PHD_SHARED to the folder that holds oracles/cgf1_cases"
# Name in the reference -> ours.
NAMES = {
    "cgF1": "cgf1",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
    "positive_macro_F1": "positive_macro_f1",
    "positive_micro_F1": "pmf1",
    "positive_micro_precision": "positive_micro_precision",
    "IL_precision": "il_precision",
    "IL_recall": "il_recall",
    "IL_F1": "il_f1",
    "IL_FPR": "il_fpr",
    "IL_MCC": "il_mcc",
}
SUFFIXES = {"": "", "@0.5": "_50", "@0.75": "_75"}


def cases() -> list[Any]:
    found = [
        pytest.param(folder.name, iou_type, id=f"{folder.name}-{iou_type}")
        for folder in sorted(ORACLES.glob("*/"))
        for iou_type in json.loads((folder / "expected.json").read_text())
    ]
    return found or [pytest.param("", "", marks=pytest.mark.skip(reason=REASON))]


def truths(folder: Path) -> list[Path]:
    single = folder / "gt.json"
    return [single] if single.is_file() else [folder / f"gt_{letter}.json" for letter in "abc"]


@pytest.mark.parametrize(("case", "iou_type"), cases())
def test_equal_to_the_reference(case: str, iou_type: Any) -> None:
    folder = ORACLES / case
    expected = json.loads((folder / "expected.json").read_text())[iou_type]
    found = evaluate_concepts(truths(folder), folder / "pred.json", iou_type)
    assert found["num_datapoints"] == len(expected["evaluated_image_ids"])
    compared = 0
    for name, value in expected["results"].items():
        base, at, threshold = name.removeprefix(f"cgF1_eval_{iou_type}_").partition("@")
        mine = found[NAMES[base] + SUFFIXES[at + threshold]]
        # The reference writes -1 where a number is not defined.
        assert mine is None if value == -1 else mine == pytest.approx(value, abs=1e-9), name
        compared += 1
    assert compared == 26


def test_the_order_of_annotators_moves_the_number() -> None:
    folder = ORACLES / "12_gold_triple"
    if not folder.is_dir():
        pytest.skip(REASON)
    values = {
        order: evaluate_concepts([folder / f"gt_{letter}.json" for letter in order], folder / "pred.json")["cgf1"]
        for order in ("abc", "cab")
    }
    # The second is a case of the reference too, whose number its notes name.
    assert values == pytest.approx({"abc": 0.7070, "cab": 0.7499}, abs=5e-5)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two instances of which one is found, a false phrase, and one that is not labelled exhaustively."""
    content = gold({1: [(0, 0, 10, 10), (30, 20, 10, 10)], 2: [], 3: [(5, 5, 5, 5)]})
    content["images"][2]["is_instance_exhaustive"] = 0
    answers = [result(1, (0, 0, 10, 10), 0.9), result(2, (8, 8, 4, 4), 0.3), result(3, (5, 5, 5, 5), 0.9)]
    return write(tmp_path / "gt.json", content), write(tmp_path / "pred.json", answers)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_the_command(files: tuple[Path, Path], iou_type: str, tmp_path: Path, capsys: Any) -> None:
    truth, prediction = files
    out = tmp_path / "out" / "numbers.json"
    command = ["evaluate", "concepts", "--gt", str(truth), "--pred", str(prediction)]
    run([*command, "--iou-type", iou_type, "--json", str(out)])
    found = json.loads(out.read_text())
    assert list(found)[:3] == ["cgf1", "pmf1", "il_mcc"]
    assert found["pmf1"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["il_mcc"] == pytest.approx(1, abs=1e-5)
    assert found["cgf1"] == pytest.approx(2 / 3, abs=1e-3)
    assert (found["num_datapoints"], found["num_positive"], found["num_negative"]) == (2, 1, 1)
    assert (found["num_dropped_not_exhaustive"], found["num_predictions_dropped"]) == (1, 1)
    assert found["num_below_threshold"] == 1
    # Largest scores 0.9 of a true and 0.3 of a false phrase; of two predictions the surer one is right.
    assert found["presence_ece"] == found["score_ece"] == pytest.approx((0.1 + 0.3) / 2)
    filled = [row for row in found["reliability"]["presence"] if row["count"]]
    assert [(row["confidence"], row["accuracy"]) for row in filled] == [(0.3, 0), (0.9, 1)]
    assert found["protocol"]["iou_type"] == iou_type
    printed = capsys.readouterr()
    assert "2 datapoints, 1 of them negative" in printed.out
    assert "0.6666" in printed.out
    assert "warning" not in printed.err


def test_a_crowd_is_neither_target_nor_excuse(files: tuple[Path, Path]) -> None:
    truth, prediction = files
    changed(truth, lambda content: content["annotations"][0].update(iscrowd=1))
    found = evaluate_concepts([truth], prediction)
    assert found["num_crowd_dropped"] == 1
    assert found["recall"] == 0
    assert found["pmf1"] == 0


def test_without_false_phrases_there_is_a_warning(tmp_path: Path, capsys: Any) -> None:
    truth = write(tmp_path / "gt.json", gold({1: [(0, 0, 10, 10)]}))
    prediction = write(tmp_path / "pred.json", [result(1, (0, 0, 10, 10), 0.9)])
    run(["evaluate", "concepts", "--gt", str(truth), "--pred", str(prediction)])
    assert "no phrase is false: presence cannot be judged" in capsys.readouterr().err
    found = evaluate_concepts([truth], prediction)
    assert (found["cgf1"], found["pmf1"] > 0.99) == (0, True)
    write(prediction, [])
    assert evaluate_concepts([truth], prediction)["score_ece"] is None


def test_an_annotator_who_is_not_exhaustive_drops_the_datapoint(files: tuple[Path, Path], tmp_path: Path) -> None:
    truth, prediction = files
    content = json.loads(truth.read_text())
    content["images"][0]["is_instance_exhaustive"] = 0
    other = write(tmp_path / "b.json", content)
    found = evaluate_concepts([truth, other], prediction)
    assert (found["num_datapoints"], found["num_dropped_not_exhaustive"]) == (1, 2)
    assert sum(found["chosen_annotators"].values()) == 1


def test_polygons_and_uncompressed_masks_are_read(files: tuple[Path, Path]) -> None:
    truth, prediction = files
    before = evaluate_concepts([truth], prediction)
    outline = [[0, 0, 10, 0, 10, 10, 0, 10]]
    changed(prediction, lambda content: content[0].update(segmentation=outline))
    assert evaluate_concepts([truth], prediction)["cgf1"] == before["cgf1"]
    runs = [0, *[10, 30] * 9, 10, 2030]
    changed(truth, lambda content: content["annotations"][0].update(segmentation={"size": [40, 60], "counts": runs}))
    assert evaluate_concepts([truth], prediction)["cgf1"] == before["cgf1"]
