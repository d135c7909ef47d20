"""The commands beside training, as a user calls them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import ROOT, files, refused
from PIL import Image
from pycocotools import mask as coco_mask

from phd import ImagePredictor, __version__, load_segmenter
from phd.cli import TRAINING, main, run
from phd.commands import COMMANDS

PARTS = ("trunk", "neck", "heads")


@pytest.fixture
def photo(toy_raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(toy_raw / "sa_000001.jpg", tmp_path / "photo.jpg"))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_usage_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[2:]} == {*TRAINING, *COMMANDS}
    assert all(len(line.split()) > 2 for line in lines[2:])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"phd {__version__}\n"


@pytest.mark.parametrize("arguments", [["frobnicate"], ["frobnicate", "--help"]])
def test_unknown_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *arguments)
    assert "no command 'frobnicate'" in said
    assert all(name in said for name in (*TRAINING, *COMMANDS))


@pytest.mark.parametrize("command", [*TRAINING, *COMMANDS, "shards convert sa1b", "evaluate images"])
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage:")
    assert command in shown.splitlines()[0]


def test_the_list_of_commands_needs_no_torch() -> None:
    code = "import sys; from phd.cli import main; main(['--help']); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


def test_segment_from_a_box(student_folder: Path, photo: Path) -> None:
    main(["segment", str(photo), "--box", "10", "20", "200", "240", "--model", str(student_folder)])
    answer = json.loads(photo.with_name("photo_segment.json").read_text())
    mask = coco_mask.decode(answer["rle"]).astype(bool)
    picture, image = Image.open(photo.with_name("photo_segment.png")), Image.open(photo)
    assert (picture.format, picture.size, mask.shape) == ("PNG", image.size, image.size[::-1])
    assert (np.asarray(picture.convert("RGB")) != np.asarray(image)).any()
    assert answer["area"] == mask.sum() > 0
    rows, columns = np.nonzero(mask)
    assert answer["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert answer["box_prompt"] == [10, 20, 200, 240]
    assert isinstance(answer["score"], float)

    predictor = ImagePredictor(load_segmenter(str(student_folder)))  # the same in four lines of Python
    predictor.set_image(photo)
    prediction = predictor.segment(box=[10, 20, 200, 240])
    assert np.array_equal(prediction.mask, mask)
    assert prediction.score == answer["score"]


def test_segment_from_points(toy_folder: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "answer"
    points = ["--point", "60", "70", "--point", "80", "90", "--negative", "5", "5"]
    main(["segment", str(photo), *points, "--model", str(toy_folder), "--out", str(out)])
    answer = json.loads(out.with_suffix(".json").read_text())
    assert (answer["points"], answer["labels"]) == ([[60, 70], [80, 90], [5, 5]], [1, 1, 0])
    assert answer["area"] == coco_mask.area(answer["rle"])
    assert out.with_suffix(".png").is_file()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("--point 3000 30", "point 3000 30 lies outside the image of 292 x 273 pixels"),
        ("--point 30 30 --negative 30 -1", "point 30 -1 lies outside the image"),
        ("--box 10 10 6000 60", "box 10 10 6000 60 lies outside the image"),
        ("--box 60 10 10 60", "box 60 10 10 60 is empty"),
        ("--negative 5 5", "no prompt: give --box X0 Y0 X1 Y1 or --point X Y"),
        ("", "no prompt: give --box X0 Y0 X1 Y1 or --point X Y"),
        ("--point 3 3 --device gpu", "--device gpu"),
    ],
)
def test_segment_refuses(
    prompt: str, message: str, student_folder: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "segment", photo, "--model", student_folder, *prompt.split())
    assert files(photo.parent) == {"photo.jpg"}


def test_segment_names_the_bad_file(student_folder: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point = ["--point", "1", "1"]
    assert "nowhere.jpg: no such image file" in refused(
        capsys, "segment", "nowhere.jpg", *point, "--model", student_folder
    )
    empty = photo.with_name("empty")
    empty.mkdir()
    assert f"{empty}: no config.json" in refused(capsys, "segment", photo, *point, "--model", empty)
    assert "nobody/nothing" in refused(capsys, "segment", photo, *point, "--model", "nobody/nothing")
    photo.write_bytes(photo.read_bytes()[:500])
    said = refused(capsys, "segment", photo, *point, "--model", student_folder)
    assert f"{photo}: not a readable image" in said
    assert files(photo.parent) == {"photo.jpg"}


def test_evaluate_beside_the_teacher(
    student_folder: Path, toy_folder: Path, toy_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "numbers.json"
    limits = ["--max-images", "2", "--json", str(out)]
    arguments = ["evaluate", "images", "--data", str(toy_shards), "--model", str(student_folder)]
    run([*arguments, "--teacher", str(toy_folder), *limits])
    numbers = json.loads(out.read_text())
    rows = {"box_miou", "click1_miou", "click3_miou", "click5_miou"}
    for values in (numbers, numbers["teacher"]):
        assert {"protocol", "num_images", "num_instances", *rows} <= values.keys()
        assert all(0 <= values[row] <= 1 for row in rows)
        assert values["num_images"] == 2
        assert values["skipped"] == []
    assert numbers["protocol"]["max_clicks"] == 5
    assert numbers["num_instances"] == numbers["teacher"]["num_instances"] > 2
    sizes = numbers["by_size"].values()
    assert sum(size["num_instances"] for size in sizes) == numbers["num_instances"]
    shown = capsys.readouterr().out
    assert all(row in shown for row in rows)
    assert f"{numbers['teacher']['box_miou']:.4f}" in shown

    main(["evaluate", "images", "--data", str(toy_shards), "--model", str(toy_folder), *limits])
    alone = json.loads(out.read_text())
    assert {row: alone[row] for row in rows} == {row: numbers["teacher"][row] for row in rows}
    assert "teacher" not in alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "{student}", "--teacher", "toy-random"],
            "were made for different contracts (image_size: 64 against",
        ),
        (["--model", "{student}", "--max-images", "0"], "--max-images is 0"),
        (["--model", "{student}", "--data", "{empty}"], "{empty}: has no shards.json"),
        (["--model", "{empty}"], "{empty}: no config.json"),
        (["--model", ""], "the name of a model is empty"),
        (["--model", "{student}", "--device", "gpu"], "--device gpu"),
    ],
)
def test_evaluate_refuses(
    arguments: list[str],
    message: str,
    student_folder: Path,
    toy_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"student": student_folder, "empty": tmp_path / "empty"}
    words = [word.format(**names) for word in arguments]
    command = ["evaluate", "images", "--data", toy_shards, "--json", tmp_path / "out.json"]
    assert message.format(**names) in refused(capsys, *command, *words)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("names", [["efficientvit_b0"], pytest.param([], marks=pytest.mark.slow)], ids=["one", "all"])
def test_students_as_json(names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["students", "--json", str(tmp_path / "students.json"), *names])
    rows = json.loads((tmp_path / "students.json").read_text())
    assert len(rows) == (len(names) or 9)
    params, macs = [f"{part}_params" for part in PARTS], [f"{part}_gmacs" for part in PARTS]
    for row in rows:
        assert set(row) == {"name", *params, "total_params", "text_params", "full_params", *macs, "levels"}
        full = {kind: row["total_params"] + count for kind, count in row["text_params"].items()}
        assert row["full_params"] == full
        assert len(full) == 4
        assert row["total_params"] == sum(row[name] for name in params) > 1e6  # counts, not millions
        assert 0 < row["neck_gmacs"] <= 15
        assert row["name"] in capsys.readouterr().out or len(rows) > 1
    assert rows[0]["levels"]["tracker"] == [[256, 288, 288], [256, 144, 144], [256, 72, 72]]


def test_students_refuse_an_unknown_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "students", "efficientvit_b9", "--json", tmp_path / "students.json")
    assert "'efficientvit_b9' does not exist; near ones: efficientvit_b" in said
    assert files(tmp_path) == set()


def test_shapes_are_a_function_of_the_seed(tmp_path: Path, toy_raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["shapes", str(tmp_path / "world"), "--format", "sa1b", "--samples", "2", "--seed", "5"])
    assert files(tmp_path / "world") == {"sa_000001.jpg", "sa_000001.json", "sa_000002.jpg", "sa_000002.json"}
    assert all(
        (tmp_path / "world" / name).read_bytes() == (toy_raw / name).read_bytes() for name in files(tmp_path / "world")
    )
    assert "is not empty" in refused(capsys, "shapes", tmp_path / "world", "--samples", "2")
    assert "--samples is 0" in refused(capsys, "shapes", tmp_path / "other", "--samples", "0")
