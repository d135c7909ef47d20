"""Videos for evaluation, from shards and from raw folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from converted import SHARED
from evaluated_videos import picture, record_of, truth_of, video_of
from moving_videos import HEIGHT, WIDTH
from raw_samples import image_bytes
from raw_videos import write_labels

from datamodules import rle
from datamodules.labelled_folders import folder_videos, resolution_folder
from datamodules.labelled_videos import labelled_video, shard_videos
from datamodules.reader import ShardReader
from phd.cli import run
from phd.errors import UserError

needs_davis = pytest.mark.skipif(not (SHARED / "videos").is_dir(), reason=f"{SHARED}: the real videos are not here")


def write_raw(root: Path, frames: str, masks: str, digits: int = 5, first: int = 0) -> Path:
    """A video whose every second frame is labelled."""
    for frame in range(4):
        jpeg = root / frames / "a b" / f"{frame + first:0{digits}d}.jpg"
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        jpeg.write_bytes(image_bytes(picture(frame)))
        if frame % 2 == 0:
            labels = truth_of(frame)[1] + 2 * truth_of(frame)[2]
            write_labels(root / masks / "a b" / f"{frame + first:0{digits}d}.png", labels)
    return root


@pytest.mark.parametrize(
    ("frames", "masks"),
    [("JPEGImages/480p", "Annotations/480p"), ("JPEGImages/1080p", "Annotations/1080p"), ("videos", "Annotations")],
)
def test_a_raw_folder(tmp_path: Path, frames: str, masks: str) -> None:
    videos = folder_videos(write_raw(tmp_path, frames, masks, digits=8, first=1))
    assert len(videos) == 1
    (video,) = videos
    assert (video.name, video.height, video.width) == ("a b", HEIGHT, WIDTH)
    assert video.frames == ["00000001", "00000002", "00000003", "00000004"]
    assert (video.labelled, video.ids) == ([0, 2], [1, 2])
    mask = video.masks[0][2]
    assert mask is not None
    assert np.array_equal(rle.decode(mask), truth_of(2)[1])
    assert np.abs(video.read(3).astype(int) - picture(3)).mean() < 4  # a JPEG


def test_several_resolutions(tmp_path: Path) -> None:
    for name in ("240p/a", "1080p/a"):
        (tmp_path / "JPEGImages" / name).mkdir(parents=True)
    with pytest.raises(UserError, match="has the resolutions 1080p, 240p; keep the one to evaluate"):
        resolution_folder(tmp_path, "JPEGImages")
    (tmp_path / "JPEGImages" / "480p" / "a").mkdir(parents=True)
    assert resolution_folder(tmp_path, "JPEGImages") == "JPEGImages/480p"
    assert resolution_folder(tmp_path, "Annotations") is None


def test_shards(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", "JPEGImages/480p", "Annotations/480p")
    run(["shards", "convert", "davis", str(raw), str(tmp_path / "shards")])
    reader = ShardReader(tmp_path / "shards")
    (video,) = shard_videos(reader)
    assert (video.name, video.frames[-1], video.labelled) == ("a b", "00003", [0, 2])
    assert video.masks[1][1] is None
    assert np.abs(video.read(1).astype(int) - picture(1)).mean() < 4
    assert len(shard_videos(reader, ["a_b"])) == 1
    with pytest.raises(UserError, match="shards: has no video a b; it has 1: a_b"):
        shard_videos(reader, ["a b"])
    with pytest.raises(UserError, match="the video a_b is chosen twice"):
        shard_videos(reader, ["a_b", "a_b"])


def test_what_cannot_be_evaluated() -> None:
    with pytest.raises(UserError, match=r"^here: has the first mask of each object only, as YouTube-VOS"):
        video_of(first_masks_only=True)
    record, _ = record_of()
    with pytest.raises(UserError, match=r"^here: no frame has ground truth"):
        labelled_video({**record, "labelled": [], "objects": []}, lambda place: b"", "here", "key", 5)
    smaller = image_bytes(np.zeros((20, 30, 3), dtype=np.uint8))
    video = labelled_video(record, lambda place: smaller, "here", "key", 5)
    with pytest.raises(UserError, match=r"^here: frame 2 is 20 x 30 pixels .* but the video 40 x 60"):
        video.read(2)
    record["objects"][0]["iscrowd"] = 1
    assert labelled_video(record, lambda place: smaller, "here", "key", 5).ids == [2, 3]
    record["video"]["name"] = "../key"
    assert labelled_video(record, lambda place: smaller, "here", "key", 5).name == "key"


@needs_davis
def test_real_videos() -> None:
    videos = folder_videos(SHARED, chosen=["tennis", "bear"])
    tennis, bear = videos
    assert (tennis.name, tennis.ids, len(tennis.frames), tennis.labelled) == ("tennis", [1, 2], 24, list(range(24)))
    assert any(tennis.void)
    assert (bear.ids, bear.height, bear.width) == ([1], 360, 640)
    assert not any(bear.void)
    assert bear.read(0).shape == (360, 640, 3)
