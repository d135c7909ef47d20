"""`--image-size`: every command that runs a model runs it at the size that was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import refused
from evaluated_videos import picture
from raw_samples import image_bytes
from raw_videos import write_labels
from tiny_concepts import concept_shards
from tiny_video import tiny_sam2_video

from phd.cli import run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, toy_raw: Path, toy_shards: Path, toy_folder: Path) -> Any:
    """Data of all kinds by name, and the teacher of 64 pixels."""
    root = tmp_path_factory.mktemp("sizes")
    shutil.copy(toy_raw / "sa_000001.jpg", root / "photo.jpg")
    for frame in range(3):
        jpeg = root / "raw" / "JPEGImages" / "480p" / "one" / f"{frame:05d}.jpg"
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        jpeg.write_bytes(image_bytes(picture(frame)))
        truth = np.zeros((40, 60), np.uint8)
        truth[10:30, 10 + frame : 40 + frame] = 1
        write_labels(root / "raw" / "Annotations" / "480p" / "one" / f"{frame:05d}.png", truth)
    return {
        "IMAGES": str(toy_shards),
        "PHRASES": str(concept_shards(root / "phrases", images=2)),
        "DAVIS": str(root / "raw"),
        "CLIP": str(root / "raw" / "JPEGImages" / "480p" / "one"),
        "PHOTO": str(root / "photo.jpg"),
        "OUT": str(root / "out"),
        "MODEL": str(toy_folder),
        "ROOT": root,
    }


COMMANDS = {
    "images": "evaluate images --data IMAGES --max-images 1",
    "concepts": "evaluate concepts --data PHRASES --max-images 1",
    "video": "evaluate video --davis DAVIS --protocol lvos",
    "segment": "segment PHOTO --point 30 30 --out OUT",
    "detect": "detect PHOTO triangle --out OUT",
    "detect a clip": "detect CLIP triangle --out OUT",
    "track": "track CLIP --box 10 10 40 30 --out OUT",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_size_reaches_the_model(places: Any, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [places.get(word, word) for word in command.split()]
    said = refused(capsys, *words, "--model", places["MODEL"], "--image-size", 60)
    assert "image size 60 (model.image_size, --image-size): SAM 3 needs a multiple of its patch of 8 pixels" in said
    assert sorted(path.name for path in places["ROOT"].iterdir()) == ["photo.jpg", "phrases", "raw"]


@pytest.mark.parametrize(("what", "number"), [("images", "box_miou"), ("concepts", "score_ece"), ("video", "jf")])
def test_a_report_says_its_size(places: Any, what: str, number: str, tmp_path: Path) -> None:
    words = [places.get(word, word) for word in COMMANDS[what].split()]
    found = {}
    for size in (None, 64, 96):
        more = [] if size is None else ["--image-size", str(size)]
        file = tmp_path / f"{size}.json"
        run([*words, "--model", places["MODEL"], "--teacher", places["MODEL"], *more, "--json", str(file)])
        found[size] = json.loads(file.read_text())
        # The teacher is measured at the same size, or their contracts would differ.
        assert found[size]["teacher"][number] == found[size][number]
        assert found[size]["teacher"]["image_size"] == found[size]["image_size"] == (size or 64)
    assert found[None][number] == found[64][number] != found[96][number]


def test_what_is_refused(places: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_sam2_video().save(tmp_path / "sam2")
    video = ("evaluate", "video", "--davis", places["DAVIS"])
    said = refused(capsys, *video, "--model", tmp_path / "sam2", "--image-size", 96)
    assert "image size 96 (model.image_size, --image-size): only SAM 3 runs at another size; leave it out" in said
    for size in (0, -8):
        assert f"image size {size}" in refused(capsys, *video, "--model", "toy-random", "--image-size", size)
    for what in ("video", "concepts"):
        on_disk = ("evaluate", what, "--gt", "a", "--pred", "b", "--image-size", 64)
        assert "--image-size, or the two" in refused(capsys, *on_disk)


def test_a_track_says_the_memory_of_its_size(places: Any, tmp_path: Path) -> None:
    for size, cells in ((None, 8), (96, 12)):
        more = [] if size is None else ["--image-size", str(size)]
        out = tmp_path / str(size)
        run(
            [
                "track",
                places["CLIP"],
                "--box",
                "10",
                "10",
                "40",
                "30",
                "--model",
                places["MODEL"],
                *more,
                "--out",
                str(out),
            ]
        )
        assert json.loads((out / "tracks.json").read_text())["memory_tokens"] == cells**2
