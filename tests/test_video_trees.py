"""J&F of trees of PNG files, and what is wrong with such trees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phd.cli import run
from phd.errors import UserError
from phd.evaluate.video_trees import evaluate_trees, read_labels
from phd.metrics import JAndF


def write(folder: Path, frames: list[np.ndarray], mode: str = "P") -> None:
    folder.mkdir(parents=True)
    for number, labels in enumerate(frames):
        image = Image.fromarray(labels.astype(np.uint8))
        if mode == "P":
            # The highest label gets the darkest colour: only the indices may count.
            image.putpalette([255 - value for value in range(256) for _ in range(3)])
        image.save(folder / f"{number:05d}.png")


def moving(shift: int = 0, frames: int = 4) -> list[np.ndarray]:
    found = []
    for number in range(frames):
        labels = np.zeros((40, 60), dtype=np.uint8)
        labels[5:15, 5 + number + shift : 15 + number + shift] = 1
        labels[20:30, 40:50] = 2
        found.append(labels)
    return found


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for video in ("a", "b"):
        write(tmp_path / "gt" / video, moving())
        write(tmp_path / "pred" / video, moving(shift=5 if video == "b" else 0))
    return tmp_path / "gt", tmp_path / "pred"


def test_davis_by_the_command(trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, pred = trees
    file = tmp_path / "out" / "jf.json"
    run(["evaluate", "video", "--gt", str(gt), "--pred", str(pred), "--protocol", "davis", "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["protocol"] == "davis"
    assert (found["num_videos"], found["num_objects"]) == (2, 4)
    # Of four objects one is shifted by half its width: it shares 50 of 150 pixels.
    assert found["j"] == pytest.approx((3 + 1 / 3) / 4)
    assert found["jf"] == pytest.approx((found["j"] + found["f"]) / 2)
    rows = {(row["video"], row["object"]): row for row in found["objects"]}
    assert rows["b", "1"]["j"] == pytest.approx(1 / 3)
    assert rows["b", "1"]["frames"] == 2
    assert rows["b", "1"]["j_recall"] == 0
    assert next(row["jf"] for row in found["videos"]) == 1
    assert "mean over objects" in capsys.readouterr().out


def test_sav_with_a_folder_for_each_object(tmp_path: Path) -> None:
    for tree in ("gt", "pred"):
        for number in (1, 2):
            frames = [np.where(labels == number, 255, 0) for labels in moving(frames=5)]
            write(tmp_path / tree / "clip" / f"{number - 1:03d}", frames, mode="L")
    report = evaluate_trees(tmp_path / "gt", tmp_path / "pred", "sav").to_dict()
    assert [(row["object"], row["j"], row["frames"]) for row in report["objects"]] == [("000", 1.0, 3), ("001", 1.0, 3)]
    report = evaluate_trees(tmp_path / "gt", tmp_path / "pred", "sav", skip_ends=False).to_dict()
    assert [row["frames"] for row in report["objects"]] == [5, 5]
    with pytest.raises(UserError, match="holds a folder for each object, which davis does not"):
        evaluate_trees(tmp_path / "gt", tmp_path / "pred", "davis")


def test_lvos_counts_late_objects_and_the_ends(tmp_path: Path) -> None:
    truth = moving()
    truth[0][truth[0] == 2] = 0
    write(tmp_path / "gt" / "a", truth)
    write(tmp_path / "pred" / "a", moving())
    report = evaluate_trees(tmp_path / "gt", tmp_path / "pred", "lvos").to_dict()
    assert [(row["object"], row["frames"], row["j"]) for row in report["objects"]] == [("1", 4, 1.0), ("2", 3, 1.0)]
    assert report["drops_first_and_last_frame"] is False
    assert "meta.json" in report["protocol_details"]["frames"]
    with pytest.raises(UserError, match="--keep-ends: lvos never drops the last frame"):
        evaluate_trees(tmp_path / "gt", tmp_path / "pred", "lvos", skip_ends=False)


def test_files_beside_the_videos_are_no_predictions(trees: tuple[Path, Path]) -> None:
    (trees[1] / "results.csv").touch()
    (trees[1] / "a" / ".DS_Store").touch()
    assert evaluate_trees(*trees, "davis").to_dict()["num_objects"] == 4


def without(name: str) -> Callable[[Path, Path], None]:
    return lambda gt, pred: (pred / name).unlink()


def as_mode(mode: str) -> Callable[[Path, Path], None]:
    def change(gt: Path, pred: Path) -> None:
        Image.new(mode, (60, 40)).save(pred / "a" / "00001.png")

    return change


def add(gt: Path, pred: Path) -> None:
    write(pred / "c", moving())


def as_objects(gt: Path, pred: Path) -> None:
    (pred / "a" / "001").mkdir()


def smaller(*trees: str) -> Callable[[Path, Path], None]:
    def change(gt: Path, pred: Path) -> None:
        for tree in trees:
            path = {"gt": gt, "pred": pred}[tree] / "a" / "00002.png"
            Image.open(path).resize((30, 20)).save(path)

    return change


def cut(gt: Path, pred: Path) -> None:
    path = pred / "a" / "00001.png"
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("a/00001.png"), r"pred/a/00001: this PNG is missing; the truth has 4"),
        (lambda gt, pred: (gt / "a" / "00002.png").unlink(), r"pred/a/00002: this PNG has no truth beside it"),
        (add, r"pred/c: this folder has no truth beside it; remove it"),
        (as_mode("RGB"), r"pred/a/00001.png: has mode RGB, which is no map of labels"),
        (as_mode("I;16"), r"pred/a/00001.png: has mode I;16, which is no map of labels"),
        (lambda gt, pred: (pred / "a" / "00001.jpg").touch(), r"pred/a/00001.jpg: is no mask of a frame, a PNG with"),
        (as_objects, r"pred/a: holds a folder for each object, but .*gt/a does not; write both in one layout"),
        (smaller("pred"), r"pred/a/00002.png: is 20 x 30 pixels .* but 00001.png is 40 x 60"),
        (smaller("gt", "pred"), r"gt/a/00002.png: is 20 x 30 pixels .* but 00000.png is 40 x 60"),
        (cut, r"pred/a/00001.png: cannot be read as a PNG"),
    ],
)
def test_a_tree_that_does_not_fit_gives_one_line(
    trees: tuple[Path, Path], damage: Callable[[Path, Path], None], message: str
) -> None:
    damage(*trees)
    with pytest.raises(UserError, match=message) as caught:
        evaluate_trees(*trees, "davis")
    assert "\n" not in str(caught.value)


def test_a_missing_tree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        evaluate_trees(tmp_path / "none", tmp_path, "davis")
    (tmp_path / "gt").mkdir()
    with pytest.raises(UserError, match="holds no folder; name the folder that holds one folder of masks"):
        evaluate_trees(tmp_path / "gt", tmp_path / "gt", "davis")


def test_palettes_are_read_as_labels(tmp_path: Path) -> None:
    labels = np.array([[0, 7], [255, 1]], dtype=np.uint8)
    write(tmp_path / "v", [labels])
    assert np.array_equal(read_labels(tmp_path / "v" / "00000.png"), labels)


def test_the_metric_is_a_mean_over_objects() -> None:
    metrics = {part: JAndF(part) for part in ("j", "f", "jf")}
    for metric in metrics.values():
        metric.update([1.0, 0.0], [1.0, 1.0])
        metric.update([0.25], [0.75])
    values = {part: float(metric.compute()) for part, metric in metrics.items()}
    assert values == pytest.approx({"j": 0.375, "f": 0.875, "jf": 0.625})
    with pytest.raises(ValueError, match="one of each for every frame"):
        metrics["j"].update([], [])
