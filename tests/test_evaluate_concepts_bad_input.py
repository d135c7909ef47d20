"""What is wrong with files of concepts is said in one line, with the file and the id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from concept_files import changed, gold, result, rle, write

from phd.cli import main
from phd.errors import UserError
from phd.evaluate.concept_images import evaluate_concepts

Change = Callable[[Any], Any]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    content = gold({7: [(0, 0, 10, 10)], 8: []})
    names = {name: write(tmp_path / f"{name}.json", content) for name in ("gt_a", "gt_b", "gt_c")}
    return {**names, "pred": write(tmp_path / "pred.json", [result(7, (0, 0, 10, 10), 0.9)])}


def evaluate(files: dict[str, Path], iou_type: Any = "segm") -> dict[str, Any]:
    return evaluate_concepts([files[name] for name in ("gt_a", "gt_b", "gt_c")], files["pred"], iou_type)


def first(**values: Any) -> Change:
    return lambda content: content[0].update(values)


def without(name: str) -> Change:
    return lambda content: content[0].pop(name)


def annotation(**values: Any) -> Change:
    return lambda content: content["annotations"][0].update(values)


def entry(**values: Any) -> Change:
    return lambda content: content["images"][1].update(values)


PREDICTIONS = [
    (first(image_id=99), r"pred.json: prediction 0: image_id 99 is unknown to .*gt_a.json"),
    (without("image_id"), r"pred.json: prediction 0: has no 'image_id'"),
    (without("score"), r"pred.json: prediction 0 \(image id 7\): has no 'score'"),
    (without("segmentation"), r"prediction 0 \(image id 7\): has no 'segmentation'"),
    (first(score=float("nan")), r"pred.json: prediction 0 \(image id 7\): the score nan is no probability"),
    (first(score=float("inf")), r"the score inf is no probability"),
    (first(score="0.9"), r"the score '0.9' is no probability"),
    (first(score=87.0), r"the score 87.0 is no probability"),
    (first(category_id=3), r"prediction 0 \(image id 7\): category_id is 3; every phrase has the category 1"),
    (
        first(segmentation=rle((0, 0, 5, 5), 20, 20)),
        r"\(image id 7\): the RLE has size \[20, 20\] but the image \[40, 60\]",
    ),
    (first(segmentation={"size": [40, 60], "counts": "5"}), r"the RLE covers 5 pixels but the image has 2400"),
    (first(segmentation={"size": [40, 60], "counts": "~~"}), r"the counts of the RLE are damaged"),
    (first(segmentation={"size": [40, 60], "counts": "d"}), r"the counts of the RLE are damaged"),
    (first(segmentation={"size": [40, 60], "counts": [2401, -1]}), r"the counts of the RLE are damaged"),
    (first(segmentation={"size": [40, 60]}), r"the segmentation is no RLE"),
    (first(segmentation=[[1, 2, 3]]), r"the polygons are not"),
    (first(segmentation=[[1, 2, 3, 4, 5, 10**7]]), r"a polygon lies far outside the image"),
    (first(segmentation=[]), r"the polygons are not"),
]
BOXES = [
    (without("bbox"), r"pred.json: prediction 0 \(image id 7\): has no 'bbox'"),
    (first(bbox=[0.9, 0.1, 0.2, 0.1]), r"\(image id 7\): the box \[0.9, 0.1, 0.2, 0.1\] reaches outside the image"),
    (first(bbox=[-0.1, 0.1, 0.2, 0.1]), r"reaches outside the image; give fractions of the image, clipped to it"),
    (first(bbox=[3, 4, 10, 10]), r"reaches outside the image; give fractions of the image"),
    (first(bbox=[0.1, 0.1, -0.2, 0.1]), r"is not x, y, width, height"),
    (first(bbox=[0.1, float("nan"), 0.2, 0.1]), r"is not x, y, width, height"),
    (first(bbox=[0.1, 0.2]), r"is not x, y, width, height"),
]
TRUTH = [
    (annotation(image_id=99), r"gt_b.json: annotation id 1: image_id 99 is unknown to .*gt_b.json; mend the id"),
    (entry(text_input=" "), r"gt_b.json: image id 8: its text_input ' ' is empty"),
    (lambda content: content["annotations"][0].pop("image_id"), r"gt_b.json: annotation id 1: has no 'image_id'"),
    (annotation(segmentation=rle((0, 0, 2, 2), 9, 9)), r"gt_b.json: annotation id 1 \(image id 7\): the RLE has size"),
    (annotation(segmentation=None), r"gt_b.json: annotation id 1 \(image id 7\): the segmentation is no RLE"),
    (entry(is_instance_exhaustive=2), r"gt_b.json: image id 8: is_instance_exhaustive is 2, not 0 or 1"),
    (
        lambda content: content["images"][1].pop("is_instance_exhaustive"),
        r"image id 8: has no 'is_instance_exhaustive'",
    ),
    (lambda content: content["images"][1].pop("text_input"), r"gt_b.json: image id 8: has no 'text_input'"),
    (entry(height=0), r"gt_b.json: image id 8: height 0 is no number of pixels"),
    (entry(text_input="dog"), r"gt_b.json: image id 8 has text_input 'dog' but .*gt_a.json has 'phrase 8'"),
    (entry(id=9), r"gt_b.json: has no image id 8, but .*gt_a.json has"),
    (lambda content: content["images"].append({**content["images"][0], "id": 9}), r"gt_a.json: has no image id 9"),
    (entry(id=7), r"gt_b.json: two images have the id 7"),
    (lambda content: content["images"][0].pop("id"), r"gt_b.json: image number 0: has no 'id'"),
    (lambda content: content.pop("annotations"), r"gt_b.json: has no 'annotations', so it holds no truth"),
    (lambda content: content.update(images={}), r"gt_b.json: 'images': is no list of objects"),
    (lambda content: content.update(images=[], annotations=[]), r"gt_b.json: lists no images"),
]


def refused(files: dict[str, Path], message: str, iou_type: str = "segm") -> None:
    with pytest.raises(UserError, match=message) as caught:
        evaluate(files, iou_type)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "message"), PREDICTIONS)
def test_predictions(files: dict[str, Path], change: Change, message: str) -> None:
    changed(files["pred"], change)
    refused(files, message)


@pytest.mark.parametrize(("change", "message"), BOXES)
def test_boxes(files: dict[str, Path], change: Change, message: str) -> None:
    changed(files["pred"], change)
    refused(files, message, "bbox")


@pytest.mark.parametrize(("change", "message"), TRUTH)
def test_truth(files: dict[str, Path], change: Change, message: str) -> None:
    changed(files["gt_b"], change)
    refused(files, message)


def test_a_box_may_round_over_the_edge(files: dict[str, Path]) -> None:
    changed(files["pred"], first(bbox=[0.0, 0.0, 1.005, 1.0]))
    assert evaluate(files, "bbox")["num_predictions"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", r"pred.json: is not JSON"),
        (b"\xff\xfe\x00", r"pred.json: is not JSON"),
        (b'{"images": []}', r"pred.json: is no list of objects"),
        (b"[1, 2]", r"pred.json: is no list of objects"),
    ],
)
def test_no_predictions_file(files: dict[str, Path], content: bytes, message: str) -> None:
    files["pred"].write_bytes(content)
    refused(files, message)


def test_predictions_given_as_truth(files: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"pred.json: holds a list, not an object with images and annotations"):
        evaluate_concepts([files["pred"]], files["pred"])
    with pytest.raises(UserError, match=r"none.json: cannot be read \(No such file"):
        evaluate_concepts([files["pred"].with_name("none.json")], files["pred"])


def test_nothing_exhaustive(files: dict[str, Path]) -> None:
    for place in range(2):
        changed(files["gt_c"], lambda content, place=place: content["images"][place].update(is_instance_exhaustive=0))
    refused(files, "no datapoint is labelled exhaustively by all annotators")


def test_the_command_says_it_in_one_line(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    changed(files["pred"], first(score=float("nan")))
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "concepts", "--gt", str(files["gt_a"]), "--pred", str(files["pred"])])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("phd: error: ")
    assert error.count("\n") == 1
