"""AP of COCO and LVIS: the libraries' numbers, by hand where that is easy."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from concept_files import HEIGHT, WIDTH, Box, changed, rle, write

from phd.cli import run
from phd.errors import UserError
from phd.evaluate.concept_ap import evaluate_ap

PHOTOS = Path(os.environ.get("PHD_SHARED", "../shared")) / "data" / "annotations.json"
HAS_LVIS = importlib.util.find_spec("faster_coco_eval") is not None


def item(place: int, box: Box, category: int, **more: Any) -> dict[str, Any]:
    shape = {"bbox": list(box), "segmentation": rle(box), "area": box[2] * box[3]}
    return {"id": place, "image_id": 1, "category_id": category, **shape, **more}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """One class of two instances of which one is found exactly, and one class found with IoU 0.7."""
    truth = {
        "images": [{"id": 1, "height": HEIGHT, "width": WIDTH, "file_name": "a.jpg"}],
        "annotations": [item(1, (0, 0, 10, 10), 1), item(2, (30, 0, 10, 10), 1), item(3, (0, 20, 10, 10), 2)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    answers = [item(1, (0, 0, 10, 10), 1, score=0.9), item(2, (0, 20, 10, 7), 2, score=0.8)]
    return write(tmp_path / "gt.json", truth), write(tmp_path / "pred.json", answers)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_coco_by_hand(files: tuple[Path, Path], iou_type: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "ap.json"
    command = ["evaluate", "concepts", "--gt", str(files[0]), "--pred", str(files[1]), "--protocol", "coco"]
    run([*command, "--iou-type", iou_type, "--json", str(out)])
    found = json.loads(out.read_text())
    # Half of the dogs: precision 1 at 51 of 101 recalls. The cat up to 0.70, five of ten thresholds.
    assert found["ap_50"] == pytest.approx((51 / 101 + 1) / 2)
    assert found["ap"] == pytest.approx((51 / 101 + 5 / 10) / 2)
    assert found["ap_75"] == pytest.approx(51 / 101 / 2)
    assert found["ap_large"] is None
    assert found["protocol"]["library"] == "pycocotools"
    assert "ap_small" in capsys.readouterr().out


def test_no_predictions(files: tuple[Path, Path]) -> None:
    write(files[1], [])
    assert evaluate_ap(*files)["ap"] == 0


def test_photographs_against_themselves(tmp_path: Path) -> None:
    if not PHOTOS.is_file():
        pytest.skip("no real photographs; set PHD_SHARED to the folder that holds data/annotations.json")
    content = json.loads(PHOTOS.read_text())
    answers = [{**annotation, "score": 0.5} for annotation in content["annotations"] if not annotation.get("iscrowd")]
    found = evaluate_ap(PHOTOS, write(tmp_path / "pred.json", answers))
    assert found["ap"] == pytest.approx(1, abs=0.02)  # an image of more than 100 instances, and crowds
    assert found["num_images"] == 81


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[0].update(image_id=5), r"pred.json: prediction 0: image_id 5 is unknown to .*gt.json"),
        (lambda content: content[0].update(category_id=5), r"prediction 0 \(image id 1\): category_id 5 is unknown"),
        (lambda content: content[0].update(score=float("nan")), r"\(image id 1\): the score nan is no finite number"),
        (lambda content: content[0].pop("score"), r"\(image id 1\): has no 'score'"),
        (lambda content: content[0].update(segmentation=rle((0, 0, 2, 2), 5, 5)), r"the RLE has size \[5, 5\]"),
    ],
)
def test_bad_predictions(files: tuple[Path, Path], change: Callable[[Any], Any], message: str) -> None:
    changed(files[1], change)
    with pytest.raises(UserError, match=message):
        evaluate_ap(*files)


def test_a_box_outside_and_two_truths(files: tuple[Path, Path]) -> None:
    changed(files[1], lambda content: content[1].update(bbox=[55, 0, 10, 10]))
    with pytest.raises(UserError, match=r"prediction 1 \(image id 1\): the box .* reaches outside"):
        evaluate_ap(*files, "bbox")
    both = [str(files[0])] * 2
    with pytest.raises(UserError, match="coco has one file of truth, not 2"):
        run(["evaluate", "concepts", "--gt", *both, "--pred", str(files[1]), "--protocol", "coco"])


@pytest.mark.skipif(HAS_LVIS, reason="faster-coco-eval is installed")
def test_lvis_names_the_library_that_is_missing(files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"needs faster-coco-eval; install it: pip install 'phd-distill\[lvis\]'"):
        evaluate_ap(*files, protocol="lvis")


@pytest.mark.skipif(not HAS_LVIS, reason="faster-coco-eval is not installed: pip install 'phd-distill[lvis]'")
def test_lvis_by_hand(files: tuple[Path, Path]) -> None:
    def as_lvis(content: Any) -> None:
        content["images"][0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        for category, frequency in zip(content["categories"], "rf", strict=True):
            category |= {"frequency": frequency, "image_count": 1, "instance_count": 1}

    changed(files[0], as_lvis)
    found = evaluate_ap(*files, protocol="lvis")
    assert found["ap"] == pytest.approx((51 / 101 + 5 / 10) / 2)
    assert found["ap_rare"] == pytest.approx(51 / 101)
    assert found["ap_common"] is None
