"""Frames of video files, folders and cameras, and what is wrong with them."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from raw_samples import image_bytes
from raw_videos import found_square, iou, picture, square, write_frames, write_mp4

from phd.errors import UserError
from phd.video_source import SourceFrame, VideoSource, natural, open_source


def until_error(source: VideoSource) -> tuple[list[SourceFrame], str]:
    """The frames before the error, and what it says."""
    frames = []
    with pytest.raises(UserError) as error:  # noqa: PT012 what came before the error counts
        for frame in source.frames:
            frames.append(frame)
    return frames, str(error.value)


def faststart(path: Path, frames: int = 40) -> bytes:
    """An mp4 whose index comes first, so that it opens when it is cut off."""
    plain = path.with_name("plain.mp4")
    write_mp4(plain, (picture(number) for number in range(frames)))
    with av.open(str(plain)) as old, av.open(str(path), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return path.read_bytes()


def test_a_file_gives_its_frames_in_order(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", (picture(number) for number in range(9)))
    source = open_source(str(tmp_path / "clip.mp4"))
    assert source.numbers == range(9)
    assert source.rate == Fraction(24)
    frames = list(source.frames)
    assert [frame.number for frame in frames] == list(range(9))
    assert frames[8].name == "00008"
    assert frames[8].where == f"{tmp_path}/clip.mp4: frame 8"
    for frame in frames:
        assert iou(found_square(frame.pixels), square(frame.number) > 0) > 0.9


def test_a_folder_keeps_the_numbers_of_its_files(tmp_path: Path) -> None:
    write_frames(tmp_path, [8, 12, 10])
    (tmp_path / ".DS_Store").write_bytes(b"")
    source = open_source(str(tmp_path))
    assert source.numbers == [8, 10, 12]
    assert source.rate is None
    frames = list(source.frames)
    assert [frame.name for frame in frames] == ["00008", "00010", "00012"]
    assert iou(found_square(frames[1].pixels), square(10) > 0) > 0.9


def test_a_folder_of_other_names_is_sorted_as_people_do(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        (tmp_path / f"shot{number}.png").write_bytes(image_bytes(picture(number), "PNG"))
    source = open_source(str(tmp_path))
    assert [(frame.number, frame.name) for frame in source.frames] == [(0, "shot9"), (1, "shot10"), (2, "shot100")]
    assert sorted(["b2", "b10", "a", "2", "10"], key=natural) == ["2", "10", "a", "b2", "b10"]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8])
def test_what_a_broken_file_still_has_is_read(tmp_path: Path, part: float) -> None:
    data = faststart(tmp_path / "whole.mp4")
    path = tmp_path / "clip.mp4"
    path.write_bytes(data[: int(len(data) * part)])
    frames, said = until_error(open_source(str(path)))
    assert said.startswith(f"{path}: ")
    assert f"frame {len(frames)}" in said
    assert part < 0.5 or len(frames) > 5
    for frame in frames:
        assert iou(found_square(frame.pixels), square(frame.number) > 0) > 0.9


def test_a_file_cut_between_two_frames_is_noticed(tmp_path: Path) -> None:
    data = faststart(tmp_path / "whole.mp4")
    with av.open(str(tmp_path / "whole.mp4")) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    path = tmp_path / "clip.mp4"
    path.write_bytes(data[: places[29][0] + places[29][1]])
    frames, said = until_error(open_source(str(path)))
    assert f"{path}: breaks off at frame {len(frames)}" in said
    assert 25 <= len(frames) <= 30


def test_a_file_with_an_edit_list_is_whole(tmp_path: Path) -> None:
    """An edit list that starts late leaves out frames which the index counts."""
    path = tmp_path / "clip.mp4"
    write_mp4(tmp_path / "plain.mp4", (picture(number) for number in range(40)))
    with av.open(str(tmp_path / "plain.mp4")) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                # Time stamps before 0 become an edit list.
                shift = int(10 / 24 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                new.mux(packet)
    source = open_source(str(path))
    assert source.numbers == range(40)
    assert len(list(source.frames)) == 30


def test_frames_of_another_size(tmp_path: Path) -> None:
    write_frames(tmp_path, [0, 1])
    (tmp_path / "00002.jpg").write_bytes(image_bytes(picture(2, 64, 100)))
    frames, said = until_error(open_source(str(tmp_path)))
    assert len(frames) == 2
    assert said == (
        f"{tmp_path}/00002.jpg: is 64 x 100 pixels (height x width) but the frames before are 96 x 320; "
        f"give all frames in one size"
    )


def test_a_file_that_changes_its_size(tmp_path: Path) -> None:
    path = tmp_path / "clip.h264"
    for name, height in (("one", 96), ("two", 64)):
        write_mp4(tmp_path / f"{name}.h264", (picture(number, height, 128) for number in range(4)))
    path.write_bytes((tmp_path / "one.h264").read_bytes() + (tmp_path / "two.h264").read_bytes())
    source = open_source(str(path))
    assert source.numbers is None
    frames, said = until_error(source)
    assert len(frames) == 4
    assert said.startswith(f"{path}: frame 4: is 64 x 128 pixels (height x width) but the frames before are 96 x 128")


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video at all" * 99)
    empty, mixed, twice, bad = (tmp_path / name for name in ("empty", "mixed", "twice", "bad"))
    for folder in (empty, mixed, twice, bad):
        folder.mkdir()
    write_frames(mixed, [0])
    (mixed / "notes.txt").write_text("x")
    write_frames(twice, [3])
    shutil.copy(twice / "00003.jpg", twice / "3.jpg")
    write_frames(bad, [0, 1])
    (bad / "00001.jpg").write_bytes((bad / "00001.jpg").read_bytes()[:300])
    for name, message in (
        ("nowhere.mp4", "nowhere.mp4: no such file or folder"),
        ("clip.mp4", "clip.mp4: cannot be opened as a video"),
        ("empty", "empty: holds no image"),
        ("mixed", "notes.txt: no image"),
        ("twice", "twice: two images are frame 3"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(str(tmp_path / name))
    frames, said = until_error(open_source(str(bad)))
    assert len(frames) == 1
    assert "00001.jpg: not a readable image" in said


def test_a_file_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
    with pytest.raises(UserError, match=r"sound.wav: has no video stream"):
        open_source(str(path))


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"camera 97: (cannot be opened as a video|PyAV cannot open cameras)"):
        open_source("97")
