"""Phrases, boxes and masks of concept data: which are asked, and what a view does to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from raw_samples import annotation, contract, image_bytes, rectangle
from record_samples import HEIGHT, WIDTH, changed, concept_record, grey_jpeg, phrase

from datamodules import rle
from datamodules.augmentation import Augmentation, View, generator
from datamodules.concept_transform import ConceptTransform, edges_in_view
from datamodules.phrase_choice import PhraseChoice, Question, names_a_side
from datamodules.placement import Placement
from phd.errors import UserError

STILL = Augmentation(0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0)


def ids(question: Question) -> list[Any]:
    return [item["id"] for item in question.instances]


def asked(record: dict[str, Any], rng: np.random.Generator | None = None, **settings: Any) -> dict[str, list[Any]]:
    return {question.text: ids(question) for question in PhraseChoice(**settings).questions(record, rng)}


def test_the_first_annotators_phrases():
    """Of the dogs one answer is a crowd; the cat is disputed; nobody saw a horse."""
    first, second = PhraseChoice().questions(concept_record(), None)
    assert (first.text, ids(first), first.exhaustive, first.hard) == ("dog", [1, 2], False, False)
    assert (second.text, ids(second), second.exhaustive, second.hard) == ("horse", [], True, True)


def test_a_drawn_annotator():
    drawn = [asked(concept_record(), generator(0, epoch, "a"), annotator="drawn") for epoch in range(60)]
    assert {tuple(found["dog"]) for found in drawn} <= {(1, 2), (2, 1), (4,)}
    assert {tuple(sorted(found["dog"])) for found in drawn} == {(1, 2), (4,)}
    assert 15 < sum("cat" in found for found in drawn) < 45
    assert all("horse" in found for found in drawn)
    assert all(found["cat"] == [5] for found in drawn if "cat" in found)


def test_phrases_that_prove_nothing():
    record = concept_record()
    record["phrases"] = [phrase("crowd", [3]), phrase("horse", []), phrase("cow", []), phrase("dog", [1])]
    record["phrases"][2]["answers"][0]["exhaustive"] = False
    record["phrases"][3]["answers"][0]["exhaustive"] = False
    assert asked(record) == {"dog": [1], "horse": []}
    assert [question.exhaustive for question in PhraseChoice().questions(record, None)] == [False, True]


def many(positives: int, hard: int, easy: int) -> dict[str, Any]:
    record = concept_record()
    record["phrases"] = [phrase(f"p{n}", [1]) for n in range(positives)]
    record["phrases"] += [{**phrase(f"h{n}", []), "hard": True} for n in range(hard)]
    record["phrases"] += [phrase(f"e{n}", []) for n in range(easy)]
    return record


@pytest.mark.parametrize(
    ("hard", "easy", "share", "expected"),
    [
        (9, 9, 0.5, ["h0", "h1", "h2", "h3", "e0", "e1", "e2", "e3"]),
        (9, 9, 0.25, ["h0", "h1", "e0", "e1", "e2", "e3", "e4", "e5"]),
        (1, 9, 0.5, ["h0", "e0", "e1", "e2", "e3", "e4", "e5", "e6"]),
        (9, 2, 0.5, ["h0", "h1", "h2", "h3", "h4", "h5", "e0", "e1"]),
        (2, 1, 0.5, ["h0", "h1", "e0"]),
        (9, 9, 0.0, ["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"]),
        (9, 0, 0.0, ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"]),
    ],
)
def test_shares_of_the_negatives(hard: int, easy: int, share: float, expected: list[str]):
    found = asked(many(5, hard, easy), max_positives=2, max_negatives=8, hard_negative_share=share)
    assert list(found) == ["p0", "p1", *expected]


def test_phrases_are_drawn():
    record = many(9, 9, 9)
    seen = [list(asked(record, generator(0, n, "a"), max_positives=3, max_negatives=4)) for n in range(40)]
    assert all([text[0] for text in texts] == ["p"] * 3 + ["h"] * 2 + ["e"] * 2 for texts in seen)
    assert {text for texts in seen for text in texts} == {f"{kind}{n}" for kind in "phe" for n in range(9)}


@pytest.mark.parametrize(
    ("text", "sided"),
    [
        ("left shoe", True),
        ("the dog on the Right", True),
        ("leftmost cup", True),
        ("right-hand glove", True),
        ("bright lamp", False),
        ("copyright sign", False),
        ("leftover pizza", False),
        ("upright piano", False),
    ],
)
def test_sides(text: str, sided: bool):
    assert names_a_side([Question("dog", [], True), Question(text, [], True)]) == sided


def test_the_box_of_a_part_is_not_the_part_of_the_box():
    # An L: a column x 2..4 over rows 1..15, and a foot x 2..20 over rows 13..15.
    mask = rectangle(20, 30, 1, 2, 15, 3) | rectangle(20, 30, 13, 2, 3, 19)
    code = rle.encode(mask)
    assert edges_in_view(code, View(0, 0, 20, 30)) == (2, 1, 21, 16)
    assert edges_in_view(code, View(0, 0, 10, 30)) == (2, 1, 5, 10)
    assert edges_in_view(code, View(12, 10, 8, 20)) == (10, 13, 21, 16)
    assert edges_in_view(code, View(0, 8, 12, 20)) is None  # in the box of the L, beside its pixels
    assert edges_in_view(code, View(17, 0, 3, 30)) is None


def whole_view(resize: str = "squash", **settings: Any) -> ConceptTransform:
    return ConceptTransform(contract(60, 30, resize), train=False, **settings)


def test_boxes_and_masks_of_the_whole_image():
    """20 x 30 pixels on a canvas of 60: 3 times as high, 2 times as wide; the grid has cells of 2 canvas pixels."""
    example = whole_view()(grey_jpeg(), concept_record(), "a")
    assert example.phrases == ["dog", "horse"]
    assert example.counts == [2, 0]
    assert example.exhaustive == [False, True]
    assert example.hard == [False, True]
    assert example.boxes.tolist() == [[0, 0, 12, 15], [20, 30, 32, 45]]
    assert example.masks.dtype == torch.uint8
    rows, columns = np.mgrid[:30, :30] * 2 + 1
    for mask, (x0, y0, x1, y1) in zip(example.masks, example.boxes.tolist(), strict=True):
        assert (mask.numpy() == (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)).all()
    padded = whole_view("pad")(grey_jpeg(), concept_record(), "a")
    assert padded.content.tolist() == [40, 60]
    assert padded.boxes.tolist() == [[0, 0, 12, 10], [20, 20, 32, 30]]


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_boxes_fit_their_masks_in_every_view(resize: str):
    augmentation = replace(STILL, horizontal_flip=0.5, crop_probability=0.7, crop_scale=(0.2, 0.9))
    transform = ConceptTransform(contract(120, 120, resize), augmentation)
    code = rectangle(HEIGHT, WIDTH, 3, 4, 9, 8) | rectangle(HEIGHT, WIDTH, 9, 4, 3, 20)
    record = {**concept_record(), "annotations": [annotation(1, code)], "phrases": [phrase("dog", [1])]}
    boxes = set()
    for epoch in range(40):
        example = transform(grey_jpeg(), record, "a", epoch)
        (box,) = example.boxes.tolist()
        boxes.add(tuple(box))
        rows, columns = (np.flatnonzero(example.masks[0].numpy().any(axis=axis)) for axis in (1, 0))
        # The grid is as fine as the canvas, so edges agree to a cell.
        assert np.abs(np.array(box) - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 1
        assert example.exhaustive == [True]
    assert len(boxes) > 20


def view_of(monkeypatch: pytest.MonkeyPatch, view: View) -> None:
    monkeypatch.setattr("datamodules.concept_transform.draw_view", lambda *_, **__: view)


def scene(*phrases: dict[str, Any]) -> dict[str, Any]:
    """One object in the left half, one in the right half, one across the middle."""
    shapes = {1: (2, 2, 6, 6), 2: (2, 22, 6, 6), 3: (12, 10, 6, 10)}
    masks = [annotation(number, rectangle(HEIGHT, WIDTH, *shape)) for number, shape in shapes.items()]
    return {**concept_record(), "annotations": masks, "phrases": list(phrases)}


LEFT_HALF = View(0, 0, HEIGHT, WIDTH // 2)


def test_what_a_crop_does_to_phrases(monkeypatch: pytest.MonkeyPatch):
    view_of(monkeypatch, LEFT_HALF)
    vague = phrase("vague", [2])
    vague["answers"][0]["exhaustive"] = False
    record = scene(phrase("both", [1, 2]), phrase("right", [2]), vague, phrase("middle", [3]), phrase("none", []))
    example = ConceptTransform(contract(60, 30), STILL)(grey_jpeg(), record, "a")
    found = dict(zip(example.phrases, zip(example.counts, example.exhaustive, strict=True), strict=True))
    # What lies outside is no instance of the picture; the vague phrase proves nothing without its instance.
    assert found == {"both": (1, True), "right": (0, True), "middle": (1, True), "none": (0, True)}
    both, middle = example.phrases.index("both"), example.phrases.index("middle")
    boxes = dict(
        zip((index for index, count in enumerate(example.counts) if count), example.boxes.tolist(), strict=True)
    )
    assert boxes[both] == [8, 6, 32, 24]  # 4 times as wide
    assert boxes[middle] == [40, 36, 60, 54]  # cut at the edge


def test_a_sliver_makes_a_phrase_incomplete(monkeypatch: pytest.MonkeyPatch):
    view_of(monkeypatch, View(0, 0, HEIGHT, 11))  # of the object in the middle one column is left
    record = scene(phrase("all", [1, 3]), phrase("middle", [3]))
    transform = ConceptTransform(contract(60, 30), STILL, min_area_cells=40)
    example = transform(grey_jpeg(), record, "a")
    # 6 rows of 20 are 9 cells of 30; one column of 11 is 2 or 3: less than 40 cells, so it is there but not asked.
    assert (example.phrases, example.counts, example.exhaustive) == (["all"], [1], [False])


def test_a_crop_without_instances_is_not_used(monkeypatch: pytest.MonkeyPatch):
    view_of(monkeypatch, View(9, 22, 3, 4))
    example = ConceptTransform(contract(60, 30), STILL)(grey_jpeg(), scene(phrase("both", [1, 2])), "a")
    assert example.counts == [2]
    assert example.boxes.shape == (2, 4)


def test_only_negatives_may_be_cropped(monkeypatch: pytest.MonkeyPatch):
    view_of(monkeypatch, LEFT_HALF)
    example = ConceptTransform(contract(60, 30), STILL)(grey_jpeg(), scene(phrase("none", [])), "a")
    assert (example.phrases, example.counts) == (["none"], [0])
    assert (example.masks.shape, example.boxes.shape) == ((0, 30, 30), (0, 4))


def test_too_many_instances():
    record = scene(phrase("all", [1, 2, 3]), phrase("one", [1]))
    choice = PhraseChoice(max_instances=2)
    example = whole_view(choice=choice)(grey_jpeg(), record, "a")
    assert (example.counts, example.exhaustive) == ([2, 1], [False, True])
    drawn = ConceptTransform(contract(60, 30), choice=choice)
    kept = set()
    for epoch in range(30):
        example = drawn(grey_jpeg(), record, "a", epoch)
        first = sum(example.counts[: example.phrases.index("all")])
        kept |= {tuple(box) for box in example.boxes[first : first + 2].tolist()}
    assert len(kept) == 3


def test_phrases_with_a_side_are_not_mirrored():
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, :15] = 255
    transform = ConceptTransform(contract(60, 30), replace(STILL, horizontal_flip=1.0))
    left = {}
    for text in ("left shoe", "shoe"):
        example = transform(image_bytes(pixels), scene(phrase(text, [1])), "a")
        left[text] = bool(example.image[:, :, :20].float().mean() > 200), example.boxes[0].tolist()
    assert left == {"left shoe": (True, [4, 6, 16, 24]), "shoe": (False, [44, 6, 56, 24])}


def test_placement_mirrors_boxes_within_the_view():
    placement = Placement(contract(60, 30), 20, 30, View(5, 10, 10, 15, mirrored=True))
    # 4 canvas pixels a column, 6 a row; columns 12 to 15 of the image are 2 to 5 of the view, from its right 10 to 13.
    assert placement.box(12, 6, 15, 8) == [40, 6, 52, 18]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("image", "height"), 21, "the image is 20 x 30 pixels .height x width. but its annotations say 21 x 30"),
        (("annotations", 0, "segmentation"), {"size": [20, 30], "counts": "5"}, "s: annotation 1: the runs of the RLE"),
    ],
)
def test_damage_is_named(path: tuple[Any, ...], value: Any, message: str):
    with pytest.raises(UserError, match=message):
        whole_view()(grey_jpeg(), changed(concept_record(), *path, to=value), "a", where="s")


def test_a_zoom_shows_an_instance_whole():
    transform = ConceptTransform(contract(60, 60), STILL, zoom=(1.2, 1.2))
    record = {**concept_record(), "annotations": [annotation(1, rectangle(HEIGHT, WIDTH, 2, 20, 10, 6))]}
    record["phrases"] = [phrase("dog", [1])]
    found = {tuple(transform(grey_jpeg(), record, "a", epoch).boxes[0].tolist()) for epoch in range(30)}
    # A square of 16 pixels, the least that is shown, on a canvas of 60: the instance keeps its 6 x 10 pixels.
    sizes = {(round(x1 - x0, 2), round(y1 - y0, 2)) for x0, y0, x1, y1 in found}
    assert sizes == {(22.5, 37.5)}
    assert len(found) > 5
    with pytest.raises(UserError, match=r"data\.zoom is \[0\.5, 2\]; give 1 <= smallest <= largest$"):
        ConceptTransform(contract(60, 60), zoom=(0.5, 2))


def test_finer_masks_are_of_the_same_instances():
    coarse, fine = (whole_view(mask_scale=scale)(grey_jpeg(), concept_record(), "a") for scale in (1, 2))
    assert (coarse.counts, coarse.boxes.tolist()) == (fine.counts, fine.boxes.tolist())
    assert (coarse.masks.shape, fine.masks.shape) == ((2, 30, 30), (2, 60, 60))
    rows, columns = np.mgrid[:60, :60] + 0.5
    for mask, (x0, y0, x1, y1) in zip(fine.masks, fine.boxes.tolist(), strict=True):
        assert (mask.numpy() == (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)).all()


def test_a_finer_grid_keeps_as_small_a_sliver(monkeypatch: pytest.MonkeyPatch):
    view_of(monkeypatch, View(0, 0, HEIGHT, 11))  # 2 or 3 columns of 9 cells as above, 4 times as many on the fine grid
    record = scene(phrase("all", [1, 3]), phrase("middle", [3]))
    kept = ConceptTransform(contract(60, 30), STILL, min_area_cells=12, mask_scale=2)
    assert kept(grey_jpeg(), record, "a").phrases == ["all", "middle"]
    dropped = ConceptTransform(contract(60, 30), STILL, min_area_cells=40, mask_scale=2)
    assert dropped(grey_jpeg(), record, "a").phrases == ["all"]
