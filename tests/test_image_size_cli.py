"""`--image-size`: every command that runs a model runs it at the size that was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_runs import refused
from evaluated_videos import write_davis
from tiny_concepts import concept_shards
from tiny_video import tiny_sam2_video

from phd.cli import run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, toy_raw: Path, toy_shards: Path, toy_folder: Path) -> Any:
    """Data of all kinds by name, and the teacher of 64 pixels."""
    root = tmp_path_factory.mktemp("sizes")
    shutil.copy(toy_raw / "sa_000001.jpg", root / "photo.jpg")
    write_davis(root / "raw", ("one",), frames=3)
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


def words(places: Any, what: str) -> list[str]:
    """The command with its data in place."""
    return [places.get(word, word) for word in COMMANDS[what].split()]


COMMANDS = {
    "images": "evaluate images --data IMAGES --max-images 1",
    "concepts": "evaluate concepts --data PHRASES --max-images 1",
    "video": "evaluate video --davis DAVIS --protocol lvos",
    "segment": "segment PHOTO --point 30 30 --out OUT",
    "detect": "detect PHOTO triangle --out OUT",
    "detect a clip": "detect CLIP triangle --out OUT",
    "track": "track CLIP --box 10 10 40 30 --out OUT",
}


@pytest.mark.parametrize("what", COMMANDS)
def test_the_size_reaches_the_model(places: Any, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *words(places, what), "--model", places["MODEL"], "--image-size", 60)
    assert "image size 60 (model.image_size, --image-size): SAM 3 needs a multiple of its patch of 8 pixels" in said
    assert sorted(path.name for path in places["ROOT"].iterdir()) == ["photo.jpg", "phrases", "raw"]


@pytest.mark.parametrize(("what", "number"), [("images", "box_miou"), ("concepts", "score_ece"), ("video", "jf")])
def test_a_report_says_its_size(places: Any, what: str, number: str, tmp_path: Path) -> None:
    found = {}
    for size in (None, 64, 96):
        more = [] if size is None else ["--image-size", str(size)]
        file = tmp_path / f"{size}.json"
        both = ["--model", places["MODEL"], "--teacher", places["MODEL"]]
        run([*words(places, what), *both, *more, "--json", str(file)])
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
        command = words({**places, "OUT": str(out)}, "track")
        run([*command, "--model", places["MODEL"], *more])
        assert json.loads((out / "tracks.json").read_text())["memory_tokens"] == cells**2
