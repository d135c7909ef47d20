"""J, F and the protocols of video, by hand and against the numbers of the reference evaluators."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phd.errors import UserError
from phd.evaluate.video_protocol import ObjectScore, davis, lvos, sav, sav_object, statistics
from phd.metrics.video import boundary, boundary_accuracy, region_similarity

ORACLES = Path(os.environ.get("PHD_SHARED", "../shared")) / "oracles" / "jf"
needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"{ORACLES}: the reference values are not here")
CASES = sorted(json.loads((ORACLES / "jf_expected.json").read_text())) if ORACLES.is_dir() else []


def square(size: int, top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity_by_hand() -> None:
    assert region_similarity(square(20, 0, 0, 4), square(20, 0, 2, 4)) == pytest.approx(8 / 24)
    assert region_similarity(square(20, 0, 0, 0), square(20, 0, 0, 0)) == 1
    assert region_similarity(square(20, 0, 0, 2), square(20, 0, 0, 0)) == 0


def test_the_boundary_lies_on_the_upper_left_of_each_change() -> None:
    found = boundary(square(6, 2, 2, 2))
    assert [(int(y), int(x)) for y, x in np.argwhere(found)] == [
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 3),
    ]  # fmt: skip
    # The frame of the image is no boundary.
    assert not boundary(np.ones((5, 7), dtype=bool)).any()


def test_boundaries_match_within_the_tolerance() -> None:
    # The diagonal of 100 x 100 is 141.4 pixels: the tolerance is 1.13, rounded up to 2.
    for shift, expected in ((0, 1.0), (2, 1.0)):
        assert boundary_accuracy(square(100, 30, 30 + shift, 20), square(100, 30, 30, 20)) == expected
    assert boundary_accuracy(square(100, 30, 33, 20), square(100, 30, 30, 20)) < 1.0
    assert boundary_accuracy(square(100, 70, 70, 20), square(100, 10, 10, 20)) == 0
    empty = square(100, 0, 0, 0)
    assert boundary_accuracy(empty, empty) == 1
    assert boundary_accuracy(empty, square(100, 30, 30, 20)) == boundary_accuracy(square(100, 30, 30, 20), empty) == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="against"):
        region_similarity(square(4, 0, 0, 2), square(5, 0, 0, 2))
    with pytest.raises(ValueError, match="against"):
        boundary_accuracy(square(4, 0, 0, 2), square(5, 0, 0, 2))


def frames_of(labels: np.ndarray) -> tuple[list[str], Any]:
    names = [f"{number:05d}" for number in range(len(labels))]
    return names, lambda name: labels[int(name)]


def series_of(*maps: list[list[int]]) -> np.ndarray:
    return np.array(maps, dtype=np.uint8)


def test_davis_counts_the_objects_of_the_first_frame() -> None:
    # Void is background, and what appears later does not count.
    truth = series_of([[1, 255], [0, 0]], [[1, 255], [0, 2]], [[1, 0], [0, 2]])
    prediction = series_of([[0, 0], [0, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]])
    names, read = frames_of(truth)
    (score,) = davis("clip", names, read, frames_of(prediction)[1])
    assert (score.object, score.j) == ("1", [0.5])


def test_davis_refuses_what_stops_the_reference() -> None:
    truth = series_of([[1, 0], [0, 0]], [[1, 0], [0, 0]], [[1, 0], [0, 0]])
    wrong = truth.copy()
    wrong[1, 1, 1] = 2
    names, read = frames_of(truth)
    with pytest.raises(UserError, match=r"^clip/00001: the prediction has object 2, but the first frame shows 1 obj"):
        davis("clip", names, read, frames_of(wrong)[1])
    with pytest.raises(UserError, match=r"^clip: has 2 annotated frames; davis drops"):
        davis("clip", names[:2], read, read)
    with pytest.raises(UserError, match=r"^clip/00000: the first frame shows no object"):
        davis("clip", names, frames_of(np.zeros_like(truth))[1], read)
    with pytest.raises(UserError, match=r"^clip/00001: the prediction is 1 x 2 pixels .* but the truth 2 x 2"):
        davis("clip", names, read, frames_of(truth[:, :1])[1])


def test_sav_counts_an_object_from_where_it_is_first_seen() -> None:
    nothing, one = [[0, 0], [0, 0]], [[0, 1], [0, 0]]
    truth = series_of(nothing, nothing, one, nothing, nothing)
    # A prediction that comes one frame early adds a wrong frame; the frame after counts as right.
    early = series_of(nothing, one, one, nothing, nothing)
    names, read = frames_of(truth)
    assert sav("clip", names, read, read)[0].j == [1.0, 1.0]
    assert sav("clip", names, read, frames_of(early)[1])[0].j == [0.0, 1.0, 1.0]
    assert sav("clip", names, read, read, skip_ends=False)[0].j == [1.0, 1.0, 1.0]
    # What only the prediction shows does not count.
    assert [score.object for score in sav("clip", names, read, frames_of(3 * early)[1])] == ["1"]


def test_sav_refuses_an_object_without_a_frame() -> None:
    only_first = series_of([[1, 0]], [[0, 0]], [[0, 0]])
    names, read = frames_of(only_first)
    with pytest.raises(UserError, match=r"^clip/007: the truth shows the object in no frame that counts.*--keep-ends"):
        sav_object("clip", "007", names, read, read)
    assert sav_object("clip", "007", names, read, read, skip_ends=False).j == [1.0, 1.0, 1.0]


def test_lvos_counts_an_object_from_its_first_true_frame_to_the_end() -> None:
    nothing, one, both = [[0, 0], [0, 0]], [[1, 0], [0, 0]], [[1, 255], [0, 2]]
    truth = series_of(nothing, one, both, one)
    # A prediction before the truth, of an unknown object or on void is nothing; the first and the last frame count.
    prediction = series_of([[1, 0], [0, 3]], [[1, 1], [0, 0]], [[1, 2], [0, 2]], [[0, 0], [0, 2]])
    names, read = frames_of(truth)
    first, second = lvos("clip", names, read, frames_of(prediction)[1])
    assert (first.object, first.j) == ("1", [0.5, 1.0, 0.0])
    assert (second.object, second.j) == ("2", [0.5, 0.0])
    # Where both are empty after the beginning, as after an object has left: 1.
    assert lvos("clip", names, read, read)[1].j == [1.0, 1.0]
    with pytest.raises(UserError, match=r"^clip: no annotated frame shows an object"):
        lvos("clip", names, frames_of(np.full_like(truth, 255))[1], read)


@needs_oracles
def test_statistics_are_those_of_davis() -> None:
    for length, expected in json.loads((ORACLES / "db_statistics.json").read_text()).items():
        found = statistics(expected["values"])
        for name, value in found.items():
            if int(length) <= 256:  # beyond, the reference's decay is not a number
                assert value == pytest.approx(expected[name], abs=1e-6), (length, name)


def summary(scores: list[ObjectScore]) -> dict[str, dict[str, float]]:
    return {score.object: {"J": float(np.mean(score.j)), "F": float(np.mean(score.f))} for score in scores}


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_a_case_of_the_reference_evaluators(case: str) -> None:
    expected = json.loads((ORACLES / "jf_expected.json").read_text())[case]
    arrays = np.load(ORACLES / "jf_cases.npz")
    if f"{case}/gt" not in arrays:
        pytest.skip(f"{case}: a summary, not a case")
    truth, prediction = arrays[f"{case}/gt"], arrays[f"{case}/pred"]
    checked = 0
    if "davis_official" in expected:
        names, read = frames_of(truth)
        wanted = expected["davis_official"]
        scores = davis(case, names, read, frames_of(prediction)[1])
        for letter in "JF":
            series = [statistics(score.j if letter == "J" else score.f) for score in scores]
            for name in ("mean", "recall", "decay"):
                assert [s[name] for s in series] == pytest.approx(wanted[f"{letter}_{name}_per_object"], abs=1e-6)
            assert np.mean([s["mean"] for s in series]) == pytest.approx(wanted[letter], abs=1e-6)
        checked += 1
    for ending, skip in (("skip", True), ("noskip", False)):
        if f"sav_label_map_{ending}" in expected:
            names, read = frames_of(truth)
            wanted = expected[f"sav_label_map_{ending}"]
            found = summary(sav(case, names, read, frames_of(prediction)[1], skip_ends=skip))
            assert {name: 100 * value["J"] for name, value in found.items()} == pytest.approx(wanted["J_per_object"])
            assert {name: 100 * value["F"] for name, value in found.items()} == pytest.approx(wanted["F_per_object"])
            checked += 1
        checked += check_objects(case, truth, prediction, expected.get(f"sav_per_object_{ending}"), skip)
    assert checked >= 2


def check_objects(case: str, truth: np.ndarray, prediction: np.ndarray, wanted: Any, skip: bool) -> int:
    """Every object in a folder of its own; label maps hold those of the truth."""
    if wanted is None:
        return 0
    if truth.ndim == 4:
        stacks = {f"{number:03d}": (truth[number], prediction[number]) for number in range(len(truth))}
    else:
        ids = sorted(set(np.unique(truth).tolist()) - {0, 255})
        stacks = {f"{number:03d}": (truth == number, prediction == number) for number in ids}

    def score(name: str) -> ObjectScore:
        mine, theirs = (stack.astype(np.uint8) for stack in stacks[name])
        names, read = frames_of(mine)
        return sav_object(case, name, names, read, frames_of(theirs)[1], skip_ends=skip)

    if "error" in wanted:
        with pytest.raises(UserError):
            [score(name) for name in stacks]
        return 1
    for name in stacks:
        assert 100 * np.mean(score(name).j) == pytest.approx(wanted["J_per_object"][name], abs=1e-6)
        assert 100 * np.mean(score(name).f) == pytest.approx(wanted["F_per_object"][name], abs=1e-6)
    return 1
