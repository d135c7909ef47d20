"""Which frames a film strip shows, and what is drawn and written in each tile."""

from __future__ import annotations

import numpy as np
import pytest

from phd.film_strip import (
    OBJECT_COLOURS,
    TRUTH,
    absences,
    film_frames,
    film_strip,
    longest_absence,
    mean_similarity,
    objects_overlay,
)


def seen(*rows: str) -> np.ndarray:
    """Rows such as "11.1": a point where the object is not seen."""
    return np.array([[character == "1" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("row", "spans"),
    [
        ("1111", []),
        ("11..1.1", [(2, 3), (5, 5)]),
        ("..11", []),  # it has not begun yet
        ("11..", []),  # it does not come back
        ("....", []),
    ],
)
def test_absences_are_between_two_sightings(row: str, spans: list[tuple[int, int]]) -> None:
    assert absences(seen(row)[0]) == spans


def test_the_longest_absence_is_that_of_any_object() -> None:
    assert longest_absence(seen("1.1..1", "1...11", "111111")) == (1, 3)
    assert longest_absence(seen("11", "..")) is None


def test_frames_lie_at_equal_distances_from_the_first_to_the_last() -> None:
    assert film_frames(seen("1" * 9), 3) == [0, 4, 8]
    assert film_frames(seen("1" * 3), 8) == [0, 1, 2]
    assert film_frames(seen("1"), 8) == [0]


def test_one_frame_lies_in_the_longest_absence() -> None:
    # Of 0, 4 and 8 none lies in frames 5 to 7; 4 is nearer to their middle than any other inner one.
    assert film_frames(seen("11111...1"), 3) == [0, 6, 8]
    assert film_frames(seen("1111..111"), 3) == [0, 4, 8]


def squares(*columns: int) -> np.ndarray:
    """Masks (N, 8, 8) of squares of 4 pixels at these columns."""
    masks = np.zeros((len(columns), 8, 8), dtype=bool)
    for mask, column in zip(masks, columns, strict=True):
        mask[2:6, column : column + 4] = True
    return masks


def test_objects_keep_their_colours() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    picture = objects_overlay(image, squares(0, 4))
    assert picture[2, 0].tolist() == list(OBJECT_COLOURS[0])
    assert picture[2, 4].tolist() == list(OBJECT_COLOURS[1])
    assert not image.any()


def test_j_of_a_frame() -> None:
    # Half of a square of 4 x 4 is shared: 8 of 24 pixels; the second object is hit.
    assert mean_similarity(squares(0, 4), squares(2, 4)) == pytest.approx((1 / 3 + 1) / 2)
    nothing = np.zeros((1, 8, 8), dtype=bool)
    assert mean_similarity(nothing, nothing) == 1


def test_rows_and_captions() -> None:
    images = [np.zeros((8, 8, 3), dtype=np.uint8)] * 2
    tracks = {TRUTH: np.stack([squares(0)] * 2), "student": np.stack([squares(0), squares(2)])}
    rows = film_strip(images, tracks, ["frame 0", "frame 4"])
    assert [[caption for _, caption in row] for row in rows] == [
        ["frame 0", "frame 4"],
        ["student, J 1.00", "student, J 0.33"],
    ]
    truth, student = (np.asarray(row[1][0]).any(axis=2) for row in rows)
    assert (truth == squares(0)[0]).all()
    assert (student == squares(2)[0]).all()


def test_a_frame_without_truth_shows_none_and_is_not_compared() -> None:
    images = [np.zeros((8, 8, 3), dtype=np.uint8)] * 2
    tracks = {TRUTH: np.stack([squares(0)] * 2), "student": np.stack([squares(0)] * 2)}
    rows = film_strip(images, tracks, ["frame 0", "frame 1"], known=np.array([True, False]))
    assert [caption for _, caption in rows[1]] == ["student, J 1.00", "student"]
    assert not np.asarray(rows[0][1][0]).any()
    assert np.asarray(rows[1][1][0]).any()


def test_without_any_truth_each_row_has_the_frames() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    rows = film_strip([image], {"student": squares(0)[None]}, ["frame 3"])
    assert [[caption for _, caption in row] for row in rows] == [["student, frame 3"]]
