"""Video metrics of files: equal to the published results, by hand, and what is wrong with such files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from concept_files import changed, rle, track, veval, write

from phd.cli import run
from phd.errors import UserError
from phd.evaluate.concept_video import evaluate_concepts_video

TOY = Path(os.environ.get("PHD_SHARED", "../shared")) / "oracles" / "veval_toy"
BOX = (0, 0, 10, 10)
HALF = (0, 0, 10, 5)
FAR = (40, 20, 10, 10)


@pytest.fixture(scope="module")
def toy() -> dict[str, Any]:
    if not TOY.is_dir():
        pytest.skip("no published results; set PHD_SHARED to the folder that holds oracles/veval_toy")
    names = (TOY / f"toy_saco_veval_sav_test_{part}.json" for part in ("gt", "pred"))
    found = evaluate_concepts_video(*names)
    return {**found, "published": json.loads((TOY / "toy_saco_veval_sav_test_eval_res.json").read_text())}


def test_published_numbers_of_the_data_set(toy: dict[str, Any]) -> None:
    expected = toy["published"]["dataset_results"]
    assert len(expected) == 88
    assert toy["dataset_results"] == pytest.approx(expected, abs=1e-8)
    assert toy["cgf1"] == toy["cgf1_macro"] == pytest.approx(expected["video_mask_demo_cgf1_50_95"])
    assert toy["cgf1_micro"] == pytest.approx(expected["video_mask_demo_cgf1_micro_50_95"])
    assert toy["tracking"]["HOTA"] == pytest.approx(expected["video_mask_all_phrase_HOTA"])


def test_published_numbers_of_pairs(toy: dict[str, Any]) -> None:
    found = {(row["video_id"], row["category_id"]): row for row in toy["video_np_results"]}
    published = toy["published"]["video_np_results"]
    assert sum(len(row) for row in published) == 334
    assert len(found) == len(published) == 8
    for row in published:
        assert found[row["video_id"], row["category_id"]] == pytest.approx(row, abs=1e-8)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Phrase 1 is found half in two of four frames, 2 is missed, 3 is false and 4 is false and answered."""
    truth = veval([track([BOX] * 4, 1), track([BOX, None, None, None], 2)], [(1, 1), (1, 2), (1, 3), (2, 4)])
    answers = [track([BOX, BOX, None, HALF], 1, score=0.9), track([FAR] * 4, 4, video=2, score=0.5)]
    return write(tmp_path / "gt.json", truth), write(tmp_path / "pred.json", answers)


def test_by_hand(files: tuple[Path, Path]) -> None:
    for iou_type in ("segm", "bbox"):
        found = evaluate_concepts_video(*files, iou_type)
        # Of four times 100 pixels 250 are shared: IoU 0.625, up to three of the thresholds.
        rows = {row["category_id"]: row for row in found["video_np_results"]}
        kind = "mask" if iou_type == "segm" else "bbox"
        assert rows[1][f"{kind}_TP_50_95"] == pytest.approx(0.3)
        assert rows[3][f"{kind}_F1_50_95"] == 1
        assert (rows[4][f"{kind}_FP_50"], rows[4][f"{kind}_F1_50"]) == (1, 0)
        # HOTA counts a score above 0.5 only, so there is no sequence for phrase 4.
        assert f"{kind}_HOTA" in rows[1]
        assert f"{kind}_HOTA" not in rows[4]
        assert found["positive_macro_f1_50"] == pytest.approx(0.9998, abs=1e-4)
        assert found["positive_macro_f1_all_50"] == pytest.approx(0.5, abs=1e-3)
        assert found["il_mcc"] == pytest.approx(0)
        assert (found["num_positive"], found["num_negative"], found["num_videos"]) == (2, 2, 2)


def test_masks_give_boxes_where_the_file_has_none(files: tuple[Path, Path]) -> None:
    before = evaluate_concepts_video(*files)
    changed(files[1], lambda content: [item.pop(name) for item in content for name in ("bboxes", "areas")])
    assert evaluate_concepts_video(*files)["dataset_results"] == before["dataset_results"]


def test_an_empty_mask_is_no_detection(files: tuple[Path, Path]) -> None:
    before = evaluate_concepts_video(*files)

    def emptied(content: Any) -> None:
        for name, value in (("segmentations", rle((0, 0, 0, 0))), ("bboxes", [0, 0, 0, 0]), ("areas", 0)):
            content[0][name][2] = value

    changed(files[1], emptied)
    assert evaluate_concepts_video(*files)["dataset_results"] == before["dataset_results"]


def test_a_crowd_is_no_target(files: tuple[Path, Path]) -> None:
    changed(files[0], lambda content: content["annotations"][0].update(iscrowd=1))
    found = evaluate_concepts_video(*files)
    assert (found["num_positive"], found["num_negative"]) == (1, 3)
    # AP leaves the crowd and what lies on it out; the other class is not found.
    assert found["dataset_results"]["video_mask_phrase_ap_50"] == 0


def test_two_empty_tracks_agree(tmp_path: Path) -> None:
    truth = write(tmp_path / "gt.json", veval([track([None] * 4, 1)], [(1, 1), (1, 2)]))
    prediction = write(tmp_path / "pred.json", [track([None] * 4, 1, score=0.9)])
    found = evaluate_concepts_video(truth, prediction)
    assert found["cgf1"] == pytest.approx(1, abs=1e-3)


def test_nothing_predicted(files: tuple[Path, Path]) -> None:
    write(files[1], [])
    found = evaluate_concepts_video(*files)
    assert found["cgf1"] is None
    assert found["cgf1_micro"] == 0
    assert found["dataset_results"]["video_mask_mAP_50_95"] == 0
    assert found["dataset_results"]["video_mask_teta"] == 0


def test_the_command(files: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    changed(files[1], lambda content: content.append(track([FAR] * 4, 5, score=0.9)))
    out = tmp_path / "numbers.json"
    run(["evaluate", "concepts-video", "--gt", str(files[0]), "--pred", str(files[1]), "--json", str(out)])
    found = json.loads(out.read_text())
    assert found["num_pairs_not_asked"] == 1
    assert found["num_datapoints"] == 5
    printed = capsys.readouterr()
    assert "1 pairs of video and phrase were not asked" in printed.err
    assert "video id 1, category id 5; each counts as a false phrase" in printed.err
    assert "HOTA" in printed.out


def prediction(**values: Any) -> Callable[[Any], Any]:
    return lambda content: content[0].update(values)


PREDICTIONS = [
    (prediction(video_id=9), r"pred.json: prediction 0: video_id 9 is unknown to .*gt.json"),
    (prediction(category_id=9), r"pred.json: prediction 0: category_id 9 is unknown to"),
    (prediction(score=float("nan")), r"prediction 0 \(video id 1, category id 1\): the score nan is no probability"),
    (prediction(segmentations=[None] * 3), r"segmentations has 3 entries but the video 4 frames"),
    (prediction(segmentations=None), r"segmentations has no entries but the video 4 frames"),
    (prediction(bboxes=[[0, 0, 5, 5]]), r"bboxes has 1 entries"),
    (
        prediction(segmentations=[None, None, rle(BOX, 9, 9), None]),
        r"id 1\), frame 2: the RLE has size \[9, 9\]",
    ),
    (
        prediction(bboxes=[None, [50, 0, 20, 5], None, None]),
        r"frame 1: the box .* reaches outside the image",
    ),
    (lambda content: content[0].pop("segmentations"), r"has no 'segmentations'"),
]
TRUTH = [
    (lambda content: content.pop("video_np_pairs"), r"gt.json: has no 'video_np_pairs'"),
    (lambda content: content["annotations"][0].update(video_id=7), r"gt.json: annotation id 1: video_id 7 is unknown"),
    (lambda content: content["categories"][1].pop("name"), r"gt.json: category id 2: has no 'name'; add it"),
    (
        lambda content: content["video_np_pairs"][1].update(noun_phrase=""),
        r"pairs number 1: its noun_phrase '' is empty",
    ),
    (lambda content: content["video_np_pairs"][1].update(category_id=7), r"video_np_pairs number 1: category_id 7"),
    (lambda content: content["videos"][0].pop("file_names"), r"gt.json: video id 1: has no 'file_names'"),
    (lambda content: content.update(video_np_pairs=[], annotations=[]), r"gt.json: asks for no phrase in any video"),
]


@pytest.mark.parametrize(("change", "message"), PREDICTIONS)
def test_bad_predictions(files: tuple[Path, Path], change: Callable[[Any], Any], message: str) -> None:
    changed(files[1], change)
    with pytest.raises(UserError, match=message):
        evaluate_concepts_video(*files)


@pytest.mark.parametrize(("change", "message"), TRUTH)
def test_bad_truth(files: tuple[Path, Path], change: Callable[[Any], Any], message: str) -> None:
    changed(files[0], change)
    write(files[1], [])
    with pytest.raises(UserError, match=message):
        evaluate_concepts_video(*files)
