"""`phd evaluate video` from the command line, with a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import refused
from converted import SHARED
from evaluated_videos import write_davis
from PIL import Image
from tiny import tiny_sam
from tiny_video import tiny_sam2_video

from phd.cli import run

needs_davis = pytest.mark.skipif(not (SHARED / "videos").is_dir(), reason=f"{SHARED}: the real videos are not here")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "sam2"
    tiny_sam2_video().save(folder)
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two videos in DAVIS's layout; the first two objects in label maps."""
    return write_davis(tmp_path / "raw", ("one", "two"), frames=4)


def test_shards_and_raw_files_give_the_same_report(
    raw: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, file = tmp_path / "shards", tmp_path / "out" / "jf.json"
    run(["shards", "convert", "davis", str(raw), str(shards)])
    model = ["--model", str(teacher), "--protocol", "davis", "--json", str(file)]
    run(["evaluate", "video", "--davis", str(raw), *model, "--save-masks", str(tmp_path / "masks")])
    direct = json.loads(file.read_text())
    run(["evaluate", "video", "--data", str(shards), *model, "--teacher", str(teacher)])
    found = json.loads(file.read_text())
    for name in ("protocol", "j", "f", "jf", "objects", "videos", "protocol_details"):
        assert found[name] == direct[name] == found["teacher"][name]
    assert found["complete"] is True
    assert found["num_objects"] == 4
    assert "100.0%" in capsys.readouterr().out
    trees = ["--gt", str(raw / "Annotations" / "480p"), "--pred", str(tmp_path / "masks")]
    run(["evaluate", "video", *trees, "--protocol", "davis", "--json", str(file)])
    assert json.loads(file.read_text())["objects"] == direct["objects"]


def test_videos_can_be_chosen(raw: Path, teacher: Path, tmp_path: Path) -> None:
    (raw / "ImageSets" / "2017").mkdir(parents=True)
    (raw / "ImageSets" / "2017" / "val.txt").write_text("two\n")
    file = tmp_path / "jf.json"
    base = ["evaluate", "video", "--davis", str(raw), "--model", str(teacher), "--json", str(file)]
    for more, names in (
        (["--videos", "two", "one", "--max-videos", "1"], ["two"]),
        (["--split", "val"], ["two"]),
        (["--max-videos", "1"], ["one"]),
    ):
        run([*base, *more])
        assert [row["video"] for row in json.loads(file.read_text())["videos"]] == names


def test_what_was_done_before_a_damaged_frame_is_kept(
    raw: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = raw / "JPEGImages" / "480p" / "two" / "00002.jpg"
    Image.open(path).resize((30, 20)).save(path)
    file = tmp_path / "jf.json"
    said = refused(capsys, "evaluate", "video", "--davis", raw, "--model", teacher, "--json", file)
    assert f"{path}: is 20 x 30 pixels (height x width) but the first frame is 40 x 60" in said
    found = json.loads(file.read_text())
    assert [row["video"] for row in found["videos"]] == ["one"]
    assert found["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gt", "a"], "give --gt and --pred (masks on disk), or --model with --data or --davis"),
        (["--model", "toy-random"], "give --gt and --pred (masks on disk), or --model with --data or --davis"),
        (["--gt", "a", "--pred", "b", "--model", "m"], "--gt and --pred score masks on disk; leave out"),
        (["--gt", "a", "--pred", "b", "--save-masks", "m"], "leave out --data, --davis, --model, --save-masks"),
        (["--data", "a", "--model", "m", "--split", "val"], "--split: shards have no lists of videos"),
        (["--davis", "RAW", "--model", "m", "--max-videos", "0"], "--max-videos is 0; give at least 1"),
        (["--davis", "RAW", "--model", "m", "--keep-ends"], "--keep-ends: davis always drops the first and the last"),
        (
            ["--davis", "RAW", "--model", "m", "--keep-ends", "--protocol", "lvos"],
            "--keep-ends: lvos never drops",
        ),
        (["--davis", "RAW", "--model", "toy-random", "--videos", "bear"], "has no video bear; it has 2: one, two"),
        (["--davis", "NONE", "--model", "toy-random"], "NONE: no such folder"),
        (["--davis", "RAW", "--model", "SAM"], "cannot track; take a model of SAM 2 or SAM 3"),
        (["--data", "IMAGES", "--model", "toy-random"], "holds image data; name a folder of videos"),
    ],
)
def test_what_is_refused(
    raw: Path,
    tmp_path: Path,
    toy_shards: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    if "SAM" in arguments:
        tiny_sam().save(tmp_path / "sam")
    places = {"RAW": str(raw), "SAM": str(tmp_path / "sam"), "IMAGES": str(toy_shards)}
    assert message in refused(capsys, "evaluate", "video", *(places.get(word, word) for word in arguments))


@needs_davis
def test_a_real_video(teacher: Path, tmp_path: Path) -> None:
    """Tennis has two objects and void pixels; the tree of its masks gives the same numbers."""
    file, masks = tmp_path / "jf.json", tmp_path / "masks"
    model = ["--model", str(teacher), "--videos", "tennis", "--save-masks", str(masks)]
    run(["evaluate", "video", "--davis", str(SHARED), *model, "--json", str(file)])
    direct = json.loads(file.read_text())
    assert [(row["object"], row["frames"]) for row in direct["objects"]] == [("1", 22), ("2", 22)]
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "tennis").symlink_to(SHARED / "Annotations" / "tennis")
    run(["evaluate", "video", "--gt", str(tmp_path / "gt"), "--pred", str(masks), "--json", str(file)])
    found = json.loads(file.read_text())
    assert {name: found[name] for name in ("j", "f", "jf", "objects")} == {
        name: direct[name] for name in ("j", "f", "jf", "objects")
    }
