"""`phd track` on small videos, whole and broken, with an untrained teacher whose masks are those that it is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from cli_runs import files, refused
from PIL import Image
from pycocotools import mask as coco_mask
from raw_videos import picture, square, write_frames, write_labels, write_mp4

from phd.cli import main

REAL = Path(os.environ.get("PHD_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
FIRST, SECOND = square(0) > 0, np.roll(square(0), 200, axis=1) > 0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames, and the masks of two objects in the first."""
    folder = tmp_path_factory.mktemp("clip")
    write_mp4(folder / "clip.mp4", (picture(number) for number in range(6)))
    write_labels(folder / "first.png", FIRST)
    write_labels(folder / "both.png", FIRST + 4 * SECOND)
    return folder


def track(*arguments: object) -> dict:
    main(["track", *map(str, arguments)])
    out = Path(str(arguments[arguments.index("--out") + 1]))
    return json.loads((out / "tracks.json").read_text())


def labels_at(out: Path, name: str) -> np.ndarray:
    with Image.open(out / "masks" / f"{name}.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]
        return np.asarray(image)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_clip_with_late_objects_and_a_correction(clip: Path, toy_folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    mask = ["--mask", clip / "first.png"]
    late = ["--object", "--frame", 2, *["--box", "90", "30", "150", "70"], "--object", 7, "--frame", 3, *mask]
    prompts = [*mask, *late, "--object", 1, "--frame", 4, *mask]
    found = track(clip / "clip.mp4", *prompts, "--model", toy_folder, "--out", out)
    names = {f"masks/{number:05d}.png" for number in range(6)}
    assert files(out) == {"overlay.mp4", "tracks.json", *names}
    ids = [[row["id"] for row in frame["objects"]] for frame in found["frames"]]
    assert ids == [[1], [1], [1, 2], *[[1, 2, 7]] * 3]
    assert found["num_frames"] == 6
    assert found["stopped"] is None
    assert found["fps"] == 24
    assert found["memory_tokens"] == 64  # dense, on the toy's grid of 8 x 8
    assert found["prompts"][1] == {
        "object": 2, "frame": 2, "box": [90, 30, 150, 70], "points": [], "labels": [], "mask": None
    }  # fmt: skip
    # A mask that is given comes back, at the start, late and as a correction; 64 pixels stand for 320.
    for frame, row in ((0, 0), (3, 2), (4, 0)):
        entry = found["frames"][frame]["objects"][row]
        mask = coco_mask.decode(entry["rle"]) > 0
        assert overlap(mask, FIRST) > 0.8
        assert entry["area"] == mask.sum()
        x0, y0, x1, y1 = entry["box"]
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert entry["score"] == 1
        assert entry["presence"] > 0.99
    alone = coco_mask.decode(found["frames"][0]["objects"][0]["rle"])
    np.testing.assert_array_equal(labels_at(out, "00000"), alone)
    shown = pictures(out / "overlay.mp4")
    assert len(shown) == 6
    assert shown[0].shape == (96, 320, 3)
    # The overlay is redder than the frame where the object is, and the frame itself elsewhere.
    change = shown[0].astype(int) - picture(0)
    assert change[FIRST][:, 0].mean() > 20
    assert abs(change[:, 100:]).mean() < 4
    said = capsys.readouterr().out
    assert said.startswith("tracked 3 objects in 6 frames: ")
    assert "frames/s on cpu, 64 memory tokens" in said


def test_a_folder_keeps_its_names_and_odd_sizes_are_no_problem(toy_folder: Path, tmp_path: Path) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    frames.mkdir()
    for number in (8, 10, 12):
        Image.fromarray(picture(number, 95, 321)).save(frames / f"{number:04d}.png")
    write_labels(tmp_path / "both.png", np.pad(FIRST + 4 * SECOND, ((0, 0), (0, 1)))[:95])
    mask = ["--mask", tmp_path / "both.png"]
    prompts = ["--object", 1, "--frame", 10, *mask, "--object", 4, "--frame", 10, *mask]
    found = track(frames, *prompts, "--model", toy_folder, "--out", out, "--fps", 6)
    assert found["fps"] == 6
    with av.open(str(out / "overlay.mp4")) as overlay:
        assert overlay.streams.video[0].average_rate == 6
    assert [frame["frame"] for frame in found["frames"]] == [8, 10, 12]
    assert [frame["name"] for frame in found["frames"]] == ["0008", "0010", "0012"]
    assert not labels_at(out, "0008").any()
    assert set(np.unique(labels_at(out, "0010"))) == {0, 1, 4}
    assert [picture.shape for picture in pictures(out / "overlay.mp4")] == [(96, 322, 3)] * 3


def test_overlapping_objects_share_no_pixel_of_the_label_map(clip: Path, toy_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prompts = ["--mask", clip / "first.png", "--object", "--mask", clip / "first.png", "--max-frames", 1]
    found = track(clip / "clip.mp4", *prompts, "--model", toy_folder, "--out", out)
    one, two = (coco_mask.decode(row["rle"]) > 0 for row in found["frames"][0]["objects"])
    assert overlap(one, two) == 1
    np.testing.assert_array_equal(labels_at(out, "00000") > 0, one | two)


def test_a_broken_file_leaves_what_was_tracked(clip: Path, toy_folder: Path, tmp_path: Path, capsys) -> None:
    broken, out = tmp_path / "broken.h264", tmp_path / "out"
    for name, height in (("one", 96), ("two", 64)):
        write_mp4(tmp_path / f"{name}.h264", (picture(number, height) for number in range(4)))
    broken.write_bytes((tmp_path / "one.h264").read_bytes() + (tmp_path / "two.h264").read_bytes())
    prompts = ["--mask", clip / "first.png", "--model", toy_folder, "--out", out]
    said = refused(capsys, "track", broken, *prompts)
    assert f"{broken}: frame 4: is 64 x 320 pixels" in said
    assert said.endswith(f"; the 4 frames before it are in {out}")
    found = json.loads((out / "tracks.json").read_text())
    assert found["num_frames"] == len(found["frames"]) == 4
    assert found["stopped"].startswith(f"{broken}: frame 4: ")
    assert len(pictures(out / "overlay.mp4")) == 4
    assert len(list((out / "masks").iterdir())) == 4
    # A number of frames that nobody knows: a prompt behind the end is found at the end, and nothing is lost.
    late = ["--object", "--frame", 9, "--box", 5, 5, 30, 30]
    said = refused(capsys, "track", tmp_path / "one.h264", *late, *prompts[2:-1], tmp_path / "late")
    assert "one.h264: object 1 has a prompt for frame 9, but the last frame is 3" in said
    assert json.loads((tmp_path / "late" / "tracks.json").read_text())["num_frames"] == 4


def test_what_is_refused_before_anything_is_written(clip: Path, toy_folder: Path, tmp_path: Path, capsys) -> None:
    write_labels(tmp_path / "small.png", FIRST[:50])
    Image.fromarray(np.repeat(FIRST[..., None] * np.uint8(9), 3, axis=2)).save(tmp_path / "colours.png")
    Image.fromarray(FIRST * np.uint16(900)).save(tmp_path / "deep.png")
    video, out = clip / "clip.mp4", tmp_path / "out"
    for prompts, message in (
        (
            ["--mask", tmp_path / "small.png"],
            f"{video}: frame 0, object 1: {tmp_path}/small.png: the mask is 50 x 320",
        ),
        (["--mask", tmp_path / "colours.png"], f"{video}: frame 0, object 1: {tmp_path}/colours.png: has mode RGB"),
        (["--mask", tmp_path / "deep.png"], "deep.png: has mode I;16"),
        (["--frame", 3, "--box", 0, 0, 400, 9], f"{video}: frame 3, object 1: box 0 0 400 9 lies outside the image"),
        (["--frame", 6, "--box", 0, 0, 9, 9], f"{video}: object 1 has a prompt for frame 6, which is not there"),
        (["--point", 1, 1, "--object", 1, "--point", 2, 2], f"{video}: frame 0: object 1 is used twice"),
    ):
        assert message in refused(capsys, "track", video, *prompts, "--model", toy_folder, "--out", out)
        assert not out.exists()
    end = ["--box", 0, 0, 9, 9, "--model", toy_folder, "--out"]
    assert "--out needs a new or an empty folder" in refused(capsys, "track", video, *end, clip)
    assert "--max-frames is 0" in refused(capsys, "track", video, *end, out, "--max-frames", 0)
    assert "--fps is 0; give 0.1 to 1000" in refused(capsys, "track", video, *end, out, "--fps", 0)
    assert "nothing.mp4: no such file" in refused(capsys, "track", clip / "nothing.mp4", *end, out)


@pytest.mark.slow  # a process of its own that imports torch
def test_an_interrupt_ends_the_run_and_keeps_what_was_tracked(clip: Path, toy_folder: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", list(range(400)))
    out = tmp_path / "out"
    prompts = ["--mask", clip / "first.png", "--model", toy_folder, "--out", out]
    command = [sys.executable, "-m", "phd", "track", tmp_path / "frames", *prompts]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (out / "masks" / "00003.png").is_file():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    assert process.returncode == 0
    found = json.loads((out / "tracks.json").read_text())
    assert found["stopped"] == "by the user"
    assert 3 <= len(found["frames"]) < 400
    assert len(pictures(out / "overlay.mp4")) == len(found["frames"])
    assert f"in {len(found['frames'])} frames".encode() in said


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real videos in {REAL}")
def test_a_real_clip_gives_the_tree_that_the_evaluation_reads(toy_folder: Path, tmp_path: Path, capsys) -> None:
    masks, out = REAL / "Annotations" / "tennis", tmp_path / "out"
    prompts = [word for number in (1, 2) for word in ("--object", number, "--mask", masks / "00000.png")]
    track(REAL / "videos" / "tennis", *prompts, "--model", toy_folder, "--out", out)
    assert sorted(path.name for path in (out / "masks").iterdir()) == sorted(path.name for path in masks.iterdir())
    for folder, source in (("gt", masks), ("pred", out / "masks")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tennis").symlink_to(source)
    trees = ["--gt", str(tmp_path / "gt"), "--pred", str(tmp_path / "pred"), "--protocol", "davis"]
    main(["evaluate", "video", *trees, "--json", str(tmp_path / "jf.json")])
    assert json.loads((tmp_path / "jf.json").read_text())["num_objects"] == 2
