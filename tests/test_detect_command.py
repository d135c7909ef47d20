"""`phd detect` on photographs and videos, with an untrained toy, and the files that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from cli_runs import files, refused
from PIL import Image
from pycocotools import mask as coco_mask
from raw_videos import picture, write_frames, write_mp4
from scripted_concepts import SIDE, Box, Scripted, followed
from teacher_cases import stirred

from phd.cli import run
from phd.commands.detect import is_video
from phd.commands.detect_veval import VevalTracks
from phd.loading import load_segmenter
from phd.video_concepts import ConceptTracker, ConceptTrackSettings
from phd.video_concepts.tracker import _without

LOW = ["--threshold", "0.001", "--new-threshold", "0.001"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from phd.teachers import new_toy

    folder = tmp_path_factory.mktemp("toy") / "teacher"
    stirred(new_toy(64)).save(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_mp4(folder / "clip.mp4", (picture(number) for number in range(5)))
    write_frames(folder / "frames", list(range(3)))
    return folder


def test_which_sources_are_videos(tmp_path: Path) -> None:
    (tmp_path / "7").write_bytes(b"")
    assert [is_video(name) for name in ("a.MP4", "b.webm", str(tmp_path), "0")] == [True] * 4
    assert [is_video(name) for name in ("a.jpg", "b.tiff", "none", str(tmp_path / "7"))] == [False] * 4


def test_a_clip(toy: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, save = tmp_path / "out", tmp_path / "pred.json"
    video = ["detect", str(clip / "clip.mp4"), "red ring", "star", "--model", str(toy), "--out", str(out)]
    more = ["--delay", "2", "--save", str(save), "--video-id", "7", "--category-id", "30", "--category-id", "20"]
    run([*video, *LOW, *more])
    found = json.loads((out / "tracks.json").read_text())
    assert files(out) == {"overlay.mp4", "tracks.json", *(f"masks/{number:05d}.png" for number in range(5))}
    assert found["num_frames"] == 5
    assert found["stopped"] is None
    assert found["settings"]["delay"] == 2
    assert [row["phrase"] for row in found["phrases"]] == ["red ring", "star"]
    rows = [row for frame in found["frames"] for row in frame["objects"]]
    assert {row["phrase"] for row in rows} <= {"red ring", "star"}
    assert rows, "a random toy scores above 0.001 somewhere"
    assert [list(frame["presence"]) for frame in found["frames"]] == [["red ring", "star"]] * 5
    for frame in found["frames"]:
        labels = np.asarray(Image.open(out / "masks" / f"{frame['name']}.png"))
        together = sum(coco_mask.decode(row["rle"]) for row in frame["objects"])
        np.testing.assert_array_equal(labels > 0, np.asarray(together) > 0)
    with av.open(str(out / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    said = capsys.readouterr().out
    assert "star: " in said
    assert "presence at most 0." in said
    results = json.loads(save.read_text())
    objects = {row["id"] for row in rows}
    assert len(results) == len(objects)
    assert {item["category_id"] for item in results} <= {20, 30}
    assert all(len(item["segmentations"]) == 5 for item in results)
    height, width = picture(0).shape[:2]
    truth = {
        "videos": [{"id": 7, "height": height, "width": width, "file_names": [f"{n}.jpg" for n in range(5)]}],
        "annotations": [],
        "categories": [{"id": 20, "name": "star"}, {"id": 30, "name": "red ring"}],
        "video_np_pairs": [{"id": n, "video_id": 7, "category_id": n} for n in (20, 30)],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    arguments = ["--gt", str(tmp_path / "gt.json"), "--pred", str(save), "--json", str(tmp_path / "n.json")]
    run(["evaluate", "concepts-video", *arguments])
    assert json.loads((tmp_path / "n.json").read_text())["num_predictions"] == len(results)


def test_a_folder_in_which_nothing_is_found(toy: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["detect", str(clip / "frames"), "star", "--model", str(toy), "--threshold", "1", "--max-frames", "2"])
    said = capsys.readouterr().out
    assert "star: not found; presence at most 0." in said
    found = json.loads((clip / "frames_detect" / "tracks.json").read_text())
    assert found["phrases"][0]["objects"] == []
    assert 0 < found["phrases"][0]["largest_presence"] < 1
    assert [frame["objects"] for frame in found["frames"]] == [[], []]


def test_a_photo_says_the_presence_of_what_is_not_there(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "photo.png")
    run(["detect", str(tmp_path / "photo.png"), "star", "star", "--model", str(toy), "--threshold", "1"])
    said = capsys.readouterr().out
    assert said.count("star: 0 found; presence 0.") == 1
    assert json.loads((tmp_path / "photo_detect.json").read_text()) == []


def test_what_is_refused(toy: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, video = tmp_path / "photo.png", clip / "clip.mp4"
    Image.fromarray(picture(0)).save(photo)
    end = ("--model", toy)
    for arguments, message in (
        ((photo, "star", "--delay", 3), "--delay: is for videos, and "),
        ((video, "star", "--exemplar", 1, 1, 9, 9), "--exemplar: is for photographs, and "),
        ((photo, ""), "phrase 1 of 1 is empty ('')"),
        ((video, "star", "", "--out", tmp_path / "o"), "phrase 2 of 2 is empty ('')"),
        ((video,), "no phrase: give one"),
        ((photo, "star", "--exemplar", 1, 1, 900, 9), "box 1 1 900 9 lies outside the image of 320 x 96 pixels"),
        ((photo, "star", "--exemplar", 9, 1, 4, 9), "box 9 1 4 9 is empty"),
        ((photo, "star", "--negative-exemplar", -4, 1, 4, 9), "box -4 1 4 9 lies outside the image"),
        ((video, "star", "--category-id", 1, "--category-id", 2), "--category-id: 2 ids [1, 2] for 1 phrases"),
        ((video, "star", "--new-threshold", 7), "new_threshold is 7.0; give a number from 0 to 1"),
        ((video, "star", "--max-frames", 0), "--max-frames is 0"),
        ((video, "star", "--out", clip), "--out needs a new or an empty folder"),
        ((tmp_path / "none.mp4", "star"), "none.mp4: no such file or folder"),
    ):
        assert message in refused(capsys, "detect", *arguments, *end)
    assert not (tmp_path / "o").exists()


def test_long_phrases_are_counted_on_a_video_too(toy: Path, clip: Path, tmp_path: Path, capsys) -> None:
    more = ["--model", str(toy), "--max-frames", "1", "--out", str(tmp_path / "o"), "--threshold", "1"]
    run(["detect", str(clip / "clip.mp4"), "star", "ring " * 40, *more])
    assert "warning: 1 of 2 phrases are longer" in capsys.readouterr().err


def test_veval_tracks_by_hand() -> None:
    box: Box = (2, 3, 10, 8)
    answers = followed(Scripted([[("dog", box, 0.9)], [], []], [box, None, box]))
    tracks = VevalTracks()
    for answer in answers:
        tracks.add(answer)
    (track,) = tracks.predictions(5, {"dog": 9})
    assert (track["video_id"], track["category_id"], track["score"]) == (5, 9, pytest.approx(0.9, abs=1e-4))
    assert track["bboxes"] == [list(box), [0, 0, 0, 0], list(box)]
    assert track["areas"] == [80, 0, 80]
    assert track["segmentations"][1] is None
    mask = coco_mask.decode(track["segmentations"][2])
    assert mask.shape == (SIDE, SIDE)
    assert mask[3:11, 2:12].sum() == mask.sum() == 80


@torch.inference_mode()
def test_the_memory_of_those_that_stay_does_not_change(toy: Path) -> None:
    """Two objects of which one is removed, against one that was alone from the start."""
    model: Any = load_segmenter(str(toy)).eval()
    images = [torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    masks = torch.zeros(2, 64, 64)
    masks[0, 5:30, 5:30] = masks[1, 30:60, 20:60] = 1
    from phd.contract import ObjectPrompt

    first, second = (ObjectPrompt(mask=mask) for mask in masks)
    both = model.track(images[1], model.track(images[0], None, {1: first, 2: second}))
    alone = model.track(images[1], model.track(images[0], None, {2: second}))
    one = _without(both, {1})
    assert one.ids == (2,)
    for image in images[2:]:
        one, alone = model.track(image, one), model.track(image, alone)
        torch.testing.assert_close(one.answer.masks, alone.answer.masks, rtol=1e-3, atol=1e-3)
    assert _without(both, {1, 2}).ids == ()
    again = model.track(images[2], _without(both, {1, 2}), {3: first})
    assert (again.ids, again.frame) == ((3,), 2)


def test_a_toy_tracks_what_it_detects(toy: Path) -> None:
    settings = ConceptTrackSettings(threshold=0.001, new_threshold=0.001, delay=1, reprompt_every=2)
    tracker = ConceptTracker(load_segmenter(str(toy)), ["star", "red ring"], "cpu", settings)
    answers = list(tracker.follow(picture(number) for number in range(4)))
    assert [answer.frame for answer in answers] == [0, 1, 2, 3]
    for answer in answers:
        assert answer.masks.shape == (len(answer.ids), 96, 320)
        assert len(answer.phrases) == len(answer.scores) == len(answer.present) == len(answer.logits)
    assert answers[0].ids
