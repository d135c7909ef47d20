"""`phd evaluate video` with a model: its numbers are those of its masks on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated_videos import LATE, truth_of, video_of, write_label_maps, write_object_folders
from moving_videos import HEIGHT, WIDTH
from PIL import Image
from tiny_video import tiny_sam2_video

from phd.errors import UserError
from phd.evaluate.video_model import evaluate_videos
from phd.evaluate.video_prompt import beginnings, prompt_of
from phd.evaluate.video_protocol import Protocol, sav_object
from phd.evaluate.video_source import label_numbers, true_labels
from phd.evaluate.video_speed import Clock
from phd.evaluate.video_track import without_overlap
from phd.evaluate.video_trees import evaluate_trees
from phd.teachers import Teacher
from phd.video_predictor import TrackedImage, VideoPredictor

NUMBERS = ("j", "f", "jf", "objects", "videos", "protocol", "drops_first_and_last_frame", "num_objects")


@pytest.fixture(scope="module")
def model() -> Teacher:
    return tiny_sam2_video()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


@pytest.mark.parametrize(("protocol", "first_id"), [("davis", 1), ("lvos", 1), ("sav", 0)])
def test_scores_are_those_of_the_saved_masks(model: Teacher, tmp_path: Path, protocol: Protocol, first_id: int) -> None:
    video = video_of(first_id=first_id)
    report = evaluate_videos(model, [video], protocol, save=tmp_path / "pred", progress=False).to_dict()
    (write_object_folders if protocol == "sav" else write_label_maps)(tmp_path / "gt" / video.name, video)
    expected = evaluate_trees(tmp_path / "gt", tmp_path / "pred", protocol).to_dict()
    assert {name: report[name] for name in NUMBERS} == {name: expected[name] for name in NUMBERS}
    assert expected["protocol_details"].items() <= report["protocol_details"].items()
    # The objects of the first frame, or all; their masks are neither empty nor right, so that numbers mean something.
    assert [row["object"] for row in report["objects"]] == {
        "davis": ["1", "2"],
        "lvos": ["1", "2", "3"],
        "sav": ["000", "001", "002"],
    }[protocol]
    assert 0 < report["j"] < 1
    assert all(read(path).any() for path in (tmp_path / "pred").rglob("00004.png"))


def test_masks_are_those_of_the_predictor(model: Teacher) -> None:
    """Frame by frame, each object from the first labelled frame that shows it, also where not all are labelled."""
    video = video_of(frames=7, stride=2)
    predictor = VideoPredictor(model)
    found = np.zeros((7, 3, HEIGHT, WIDTH), dtype=np.uint8)
    for frame in range(7):
        # Frame 3 is not labelled, so that the late object begins in frame 4.
        for number in {0: [1, 2], 4: [3]}.get(frame, []):
            predictor.add(number, mask=truth_of(frame)[number] > 0)
        tracked = predictor.track(video.read(frame))
        for number, mask in zip(tracked.ids, tracked.masks, strict=True):
            found[frame, number - 1] = mask
    report = evaluate_videos(model, [video], "sav", progress=False)
    names = ["00000", "00002", "00004", "00006"]
    for number, score in enumerate(report.scores, start=1):
        expected = sav_object(
            video.name,
            f"{number:03d}",
            names,
            lambda name, number=number: truth_of(int(name))[number],
            lambda name, number=number: found[int(name), number - 1],
        )
        assert score == expected
    assert report.speed["num_frames"] == 7


def test_an_object_that_comes_late_has_no_mask_before(model: Teacher, tmp_path: Path) -> None:
    video = video_of()
    assert beginnings(video, "sav") == beginnings(video, "lvos") == {0: [0, 1], LATE: [2]}
    assert beginnings(video, "davis") == {0: [0, 1]}
    evaluate_videos(model, [video], "sav", save=tmp_path / "out", progress=False)
    own = tmp_path / "out" / "clip.a" / "003"
    assert sorted(path.name for path in own.iterdir()) == [f"{n:05d}.png" for n in range(6)]
    assert not any(read(own / f"{n:05d}.png").any() for n in range(LATE))
    assert read(own / f"{LATE:05d}.png").max() == 1


def test_prompts_of_a_mask() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[2:7, 3:6] = True
    assert prompt_of(mask, "mask")["mask"] is mask
    assert prompt_of(mask, "box") == {"box": [3, 2, 6, 7]}
    # Two pixels from the border on each side: rows 3 to 5 of column 4 are equally far, the first is taken.
    assert prompt_of(mask, "point") == {"points": [(4, 3)], "labels": [1]}


@pytest.mark.parametrize("prompt", ["box", "point"])
def test_other_prompts_are_written_into_the_report(model: Teacher, prompt: Any) -> None:
    report = evaluate_videos(model, [video_of(frames=3)], "davis", prompt=prompt, progress=False).to_dict()
    assert report["prompt"] == prompt
    assert {"box": "tight box", "point": "positive click"}[prompt] in report["protocol_details"]["prompt"]


def test_a_pixel_of_several_objects_goes_to_the_largest_logit(model: Teacher) -> None:
    side = model.contract.mask_size
    logits = torch.full((3, side, side), -5.0)
    logits[0, :, : side // 2] = 1.0
    logits[1, : side // 2] = 2.0
    masks = (model.contract.to_image(logits, 16, 16) > 0).numpy()
    tracked = TrackedImage(0, [0, 1, 2], masks, [1.0] * 3, [1.0] * 3, logits)
    found = without_overlap(tracked, model.contract)
    assert found.sum(0).max() == 1
    assert np.array_equal(found.any(0), masks.any(0))
    # The corner belongs to both; away from the border the second, larger one has it.
    assert not found[0, :6, :6].any()
    assert found[1, :6, :6].all()
    assert found[0, 10:, :6].all()
    assert not found[2].any()


def test_objects_as_labels() -> None:
    assert label_numbers(video_of()) == [1, 2, 3]
    assert label_numbers(video_of(first_id=0)) == [1, 2, 3]
    assert label_numbers(video_of(first_id=253)) == [1, 2, 3]  # 255 is void
    assert label_numbers(video_of(first_id=7)) == [7, 8, 9]
    labels = true_labels(video_of(), 4)
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 255]
    video = video_of()
    video.masks[1][4] = video.masks[0][4]
    with pytest.raises(UserError, match=r"^clip.a/00004: the true masks of objects 1 and 2 overlap.*--protocol sav"):
        true_labels(video, 4)


def test_an_object_that_is_in_no_frame_that_counts_is_listed(model: Teacher) -> None:
    video = video_of()
    video.masks[2] = [None] * 5 + video.masks[2][5:]
    report = evaluate_videos(model, [video], "sav", progress=False).to_dict()
    assert [row["object"] for row in report["objects"]] == ["001", "002"]
    reason = "the truth shows it in no frame that counts"
    assert report["left_out"] == [{"video": "clip.a", "object": "003", "reason": reason}]
    kept = evaluate_videos(model, [video], "sav", skip_ends=False, progress=False).to_dict()
    assert [row["frames"] for row in kept["objects"]] == [6, 6, 1]
    assert not kept["left_out"]


def test_speed_leaves_out_the_warm_up() -> None:
    clock = Clock(torch.device("cpu"))
    clock.seconds = [[9.0, 0.25, 0.75]]
    assert clock.to_dict()["fps"] == 2
    clock.seconds = [[9.0, 9.0], [], [0.5, 0.25, 0.25]]
    assert (clock.to_dict()["fps"], clock.to_dict()["fps_frames"]) == (3, 3)
    clock.seconds = [[9.0]]
    assert clock.to_dict()["fps"] is None


def test_the_report_has_speed_and_memory(model: Teacher) -> None:
    seen: list[int] = []
    videos = [video_of(frames=3), video_of(frames=4)]
    report = evaluate_videos(
        model, videos, "davis", progress=False, after=lambda report: seen.append(len(report.scores))
    ).to_dict()
    assert seen == [2, 4]
    assert report["memory_tokens"] == 8 * 8
    assert report["fps"] > 0
    assert (report["num_frames"], report["fps_frames"], report["tracked_objects"]) == (7, 4, 4)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters()) / 2**20
    assert report["peak_memory_mb"] > weights
    assert report["peak_memory_of"] == "resident set of the whole process"


def test_masks_are_not_mixed_with_older_ones(model: Teacher, tmp_path: Path) -> None:
    (tmp_path / "old.png").touch()
    with pytest.raises(UserError, match="--save-masks needs a new or an empty folder"):
        evaluate_videos(model, [video_of()], "sav", save=tmp_path, progress=False)
