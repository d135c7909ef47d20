"""The grammar of the prompts of `phd track`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_videos import write_labels

from phd.commands.track_prompts import GRAMMAR, Group, add_prompts, by_frame, checked_groups, read_prompt
from phd.errors import UserError


def groups(line: str) -> list[Group]:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    add_prompts(parser)
    return checked_groups(getattr(parser.parse_args(["clip.mp4", *line.split()]), "groups", []))


def test_prompts_without_object_are_those_of_object_1() -> None:
    assert groups("--point 1 2 --negative 3 4.5 --box 0 0 9 9 --point -5 6") == [
        Group(1, None, [0, 0, 9, 9], [[1, 2], [3, 4.5], [-5, 6]], [1, 0, 1])
    ]


def test_objects_take_the_next_number_or_their_own() -> None:
    found = groups("--box 0 0 9 9 --object --point 1 1 --object 7 --frame 3 --mask a.png --object --point 2 2")
    assert [(group.object_id, group.frame) for group in found] == [(1, None), (2, None), (7, 3), (8, None)]
    assert found[2].mask == Path("a.png")
    assert [group.object_id for group in groups("--object --point 1 1 --object --point 1 1")] == [1, 2]


def test_a_second_group_of_an_object_is_a_correction() -> None:
    found = groups("--frame 2 --box 0 0 9 9 --object 1 --frame 40 --negative 3 3 --object 1 --frame 7 --mask a.png")
    order = by_frame(found, "clip.mp4", None, None)
    assert {frame: [group.object_id for group in ones] for frame, ones in order.items()} == {2: [1], 40: [1], 7: [1]}


@pytest.mark.parametrize("line", [line for line in GRAMMAR.splitlines() if line.startswith("  phd track")])
def test_the_examples_of_the_help_parse(line: str) -> None:
    words = line.split()
    source, model = words.index("track") + 1, words.index("--model")
    assert groups(" ".join(words[source + 1 : model]))
    assert words[model:] == ["--model", "M", "--out", "OUT"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no prompt: give --box"),
        ("--object --box 0 0 1 1 --object", "--object 2: has no prompt"),
        ("--frame 3", "--object 1: has no prompt"),
        ("--box 0 0 1 1 --box 0 0 2 2", "object 1: --box is given twice; begin a new group"),
        ("--mask a.png --mask b.png", "object 1: --mask is given twice"),
        ("--frame 3 --point 1 1 --frame 4", "object 1: --frame is given twice"),
        ("--mask a.png --point 1 1", "--object 1: --mask stands alone"),
        ("--object 0 --box 0 0 1 1", "--object 0: give an ID from 1 to 254"),
        ("--object 255 --box 0 0 1 1", "--object 255: give an ID from 1 to 254"),
    ],
)
def test_lines_that_make_no_sense(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        groups(line)


def test_frames_are_those_of_the_source() -> None:
    line = "--box 0 0 9 9 --object --frame 12 --point 1 1"
    order = by_frame(groups(line), "frames", [10, 12, 14], None)
    assert {frame: [group.object_id for group in ones] for frame, ones in order.items()} == {10: [1], 12: [2]}
    assert sorted(by_frame(groups(line), "camera 0", None, None)) == [0, 12]


@pytest.mark.parametrize(
    ("line", "numbers", "limit", "message"),
    [
        ("--frame 3 --point 1 1", range(3), None, "clip: object 1 has a prompt for frame 3, .* the frames are 0 to 2$"),
        ("--frame 3 --point 1 1", range(9), 2, "frame 3, which is not there; the frames are 0 to 1 by --max-frames 2"),
        ("--frame 3 --point 1 1", None, 2, "the frames are 0 to 1 by --max-frames 2"),
        ("--frame -3 --point 1 1", None, None, "frame -3, which is not there; the frames are 0 and later ones"),
        ("--frame 11 --point 1 1", [10, 12], None, "frame 11, which is not there; the frames are 10 to 12"),
        ("--frame 0 --point 1 1 --object 1 --box 0 0 9 9", range(3), None, "clip: frame 0: object 1 is used twice"),
        ("--negative 1 1", range(3), None, "clip: frame 0: object 1 begins with points that are not on it"),
        ("--box 0 0 1 1 --frame 2 --object 1 --negative 3 3", range(3), None, "frame 0: object 1 begins with points"),
    ],
)
def test_frames_that_are_not_there(line: str, numbers: range | list[int] | None, limit: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        by_frame(groups(line), "clip", numbers, limit)


def test_a_mask_of_several_labels_is_read_by_the_id(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), dtype=np.uint8)
    labels[2:5, 3:9], labels[10:12, 1:3] = 2, 5
    write_labels(tmp_path / "two.png", labels)
    write_labels(tmp_path / "one.png", np.where(labels == 5, 255, 0), mode="L")
    for number in (2, 5):
        mask = read_prompt(Group(number, 0, mask=tmp_path / "two.png"), 20, 30).mask
        np.testing.assert_array_equal(mask, labels == number)
    # A mask of one label is the object whatever the label.
    np.testing.assert_array_equal(read_prompt(Group(9, 0, mask=tmp_path / "one.png"), 20, 30).mask, labels == 5)


def test_masks_that_are_none(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), dtype=np.uint8)
    write_labels(tmp_path / "empty.png", labels)
    labels[:5], labels[10:] = 2, 5
    write_labels(tmp_path / "two.png", labels)
    Image.fromarray(labels.astype(np.uint16) * 300).save(tmp_path / "deep.png")
    Image.fromarray(np.repeat(labels[..., None], 3, axis=2)).save(tmp_path / "colours.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "two.png").read_bytes()[:60])
    for name, message in (
        ("deep", "deep.png: has mode I;16, which is no map of labels"),
        ("colours", "colours.png: has mode RGB, which is no map of labels"),
        ("broken", "broken.png: cannot be read as a PNG"),
        ("missing", "missing.png: no such file"),
        ("empty", "empty.png: the mask is empty"),
        ("two", r"two.png: holds the labels \[2, 5\]; choose one of them with --object ID"),
    ):
        with pytest.raises(UserError, match=message):
            read_prompt(Group(1, 0, mask=tmp_path / f"{name}.png"), 20, 30)
    with pytest.raises(UserError, match=r"the mask is 20 x 30 pixels .* but the frames are 30 x 20"):
        read_prompt(Group(2, 0, mask=tmp_path / "two.png"), 30, 20)
