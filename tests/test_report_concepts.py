"""The section of stage 3 holds the numbers, phrases and pictures that it is given."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scripted_concepts import SIDE, Scripted
from test_report import cells

from datamodules import rle
from phd.outputs import LabelledConcepts, LabelledPhrase
from phd.predict import ImagePredictor
from phd.predict_concepts import PhraseAnswer
from phd.report.concepts import concept_table, reliability_figure
from phd.report.phrases import agreed, most_alike, phrase_rows, told
from phd.report.reliability import reliability_diagram

BOX = (6, 16, 12, 8)  # x, y, width, height


def evaluation(cgf1: float, presence_ece: float | None, **more: Any) -> dict[str, Any]:
    values = {"cgf1": cgf1, "pmf1": 0.5, "il_mcc": 2 * cgf1, "presence_ece": presence_ece, "score_ece": None}
    counts = {"num_images": 3, "num_positive": 7, "num_negative": 9}
    return {**values, **counts, "warnings": [], "protocol": {"metric": "<cgF1>"}, **more}


def test_the_teacher_is_the_whole_of_scores_and_not_of_errors() -> None:
    after = evaluation(0.25, 0.04, teacher=evaluation(0.4, 0.02), warnings=["2 < 3 phrases"])
    text = concept_table(evaluation(0.0, None), after)
    rows = {row[0]: row[1:] for row in cells(text)}
    assert rows["cgF1"] == ["0.400", "0.000", "0.250", "62%"]
    assert rows["IL_MCC"] == ["0.800", "0.000", "0.500", "62%"]
    assert rows["pmF1"] == ["0.500", "0.500", "0.500", "100%"]
    assert rows["calibration error of presence"] == ["0.020", "-", "0.040", "-"]
    assert rows["calibration error of scores"] == ["-", "-", "-", "-"]
    assert "3 scenes that nobody was trained on, 7 phrases that are true and 9 that are not" in text
    assert "<p>2 &lt; 3 phrases" in text
    assert "&lt;cgF1&gt;" in text


def bins(*parts: tuple[float, float, int, float | None]) -> list[dict[str, Any]]:
    return [{"from": low, "to": high, "count": count, "accuracy": right} for low, high, count, right in parts]


def blue(picture: Image.Image) -> int:
    pixels = np.asarray(picture).astype(int)
    return int(((pixels[..., 2] - pixels[..., 0] > 60) & (pixels[..., 2] > 150)).sum())


def test_bars_are_as_high_as_the_share_that_is_true() -> None:
    whole = blue(reliability_diagram({"a": bins((0.0, 1.0, 4, 1.0))}))
    half = blue(reliability_diagram({"a": bins((0.0, 1.0, 4, 0.5))}))
    narrow = blue(reliability_diagram({"a": bins((0.0, 0.5, 4, 1.0), (0.5, 1.0, 0, None))}))
    assert whole > 10_000
    assert half / whole == pytest.approx(0.5, abs=0.05)
    assert narrow / whole == pytest.approx(0.5, abs=0.05)
    two = reliability_diagram({"a": bins((0.0, 1.0, 4, 1.0)), "b": bins((0.0, 1.0, 4, 1.0))})
    assert blue(two) > 1.5 * whole


def test_the_diagrams_of_all_three() -> None:
    reliability = {"reliability": {"presence": bins((0.0, 0.5, 0, None), (0.5, 1.0, 9, 0.8))}}
    after = evaluation(0.2, 0.1, **reliability, teacher=evaluation(0.4, 0.2, **reliability))
    text = reliability_figure(evaluation(0.0, None, **reliability), after)
    (picture,) = pictures(text)
    assert picture.size[0] == pytest.approx(3 * picture.size[1], abs=3)


def pictures(text: str) -> list[Image.Image]:
    found = re.findall('src="data:image/png;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def phrase(text: str, *counts: int, exhaustive: bool = True) -> LabelledPhrase:
    """So many instances by annotator, each the same box."""
    x, y, width, height = BOX
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return LabelledPhrase(text, [[rle.encode(mask)] * count for count in counts], exhaustive, 0)


def sample() -> LabelledConcepts:
    phrases = [
        phrase("green star", 0, 0),
        phrase("red ring", 1, 1),
        phrase("blue ring", 0, 0),
        phrase("ring of gold", 0, 1),
        phrase("heart", 0, 0, exhaustive=False),
    ]
    return LabelledConcepts("s", "<scene>.jpg", np.zeros((SIDE, SIDE, 3), dtype=np.uint8), phrases)


def test_phrases_on_which_all_agree() -> None:
    true, false = agreed(sample())
    assert [[item.text for item in items] for items in (true, false)] == [["red ring"], ["green star", "blue ring"]]
    assert [item.text for item in most_alike(true, false)] == ["red ring", "blue ring"]
    assert [item.text for item in most_alike([], false)] == ["green star"]
    wordy = [phrase("star", 1, 1), phrase("red striped ring", 1, 1)]
    assert [item.text for item in most_alike(wordy, false)] == ["star", "green star"]


def test_pictures_and_scores_of_true_and_false_phrases() -> None:
    good = Scripted([[("red ring", BOX, 0.9)]])
    bad = Scripted([[("blue ring", BOX, score) for score in (0.6, 0.7, 0.8, 0.9, 0.3)]])
    text = phrase_rows({"teacher": ImagePredictor(good), "student": ImagePredictor(bad)}, sample())
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == [
        "&quot;red ring&quot;: true, 1 of them",
        "teacher: presence 1.00, 1 found",
        "student: presence 0.25, 0 found",
        "&quot;blue ring&quot;: false",
        "teacher: presence 0.25, 0 found",
        "student: presence 1.00, 4 found",
    ]
    x, y, width, height = BOX
    centre = (x + width // 2, y + height - 2)
    assert [sum(picture.getpixel(centre)) > 0 for picture in pictures(text)] == [True, True, False, False, False, True]  # type: ignore[arg-type]
    rows = cells(text)
    assert rows[0] == ["phrase", "truth", "teacher: presence, scores", "student: presence, scores"]
    assert rows[1] == ["red ring", "true, 1 of them", "1.00, 0.90", "0.25, none"]
    assert rows[2] == ["green star", "false", "0.25, none", "0.25, none"]
    assert rows[3] == ["blue ring", "false", "0.25, none", "1.00, 0.90 0.80 0.70 and 2 more"]
    assert "&lt;scene&gt;" in text


def test_presence_of_what_was_not_found() -> None:
    assert told(PhraseAnswer("ring", 0.125, [])) == "0.12, none"
