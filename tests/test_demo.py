"""The demo, end to end, at its smallest; and the steps that a stopped command does not do twice."""

import json
from pathlib import Path

import pytest
from moving_videos import moving
from record_samples import write

from datamodules.video_record import frame_extension
from phd.cli import run
from phd.commands import steps
from phd.commands.steps import World, evaluate_once, once, require_recipes, world_shards
from phd.commands.toy_teacher import PARTS
from phd.errors import UserError

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
SIZES = {"train-scenes": 12, "test-scenes": 2, "train-clips": 4, "test-clips": 1}


@pytest.mark.slow
def test_demo_writes_a_report_and_goes_on_where_it_was(tmp_path):
    sizes = [f"--{name}={size}" for name, size in SIZES.items()]
    small = ["--trainer.max_steps=2", "--data.val_samples=2", "--data.batch_size=2"]
    run(["demo", str(tmp_path), *sizes, "--", *small])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 2 * 4 + 1
    after = json.loads((tmp_path / "after.json").read_text())
    assert f"{after['box_miou']:.3f}" in page
    assert after["teacher"]["num_instances"] == after["num_instances"] > 0
    names = ("dense", "before", "after")
    dense, before, tracked = (json.loads((tmp_path / f"video_{name}.json").read_text()) for name in names)
    assert tracked["teacher"]["num_objects"] == tracked["num_objects"] == dense["num_objects"] > 0
    tokens = [found["memory_tokens"] for found in (tracked["teacher"], dense, before, tracked)]
    assert tokens == [256, 256, 32, 32]
    assert all(f"<td>{found[part]:.3f}" in page for found in (dense, before, tracked) for part in ("j", "f", "jf"))

    weights = [tmp_path / stage / "run" / "student" / "model.safetensors" for stage in ("stage1", "stage2")]
    written = [path.stat().st_mtime_ns for path in weights]
    run(["demo", str(tmp_path), *sizes, "--", *small])
    assert [path.stat().st_mtime_ns for path in weights] == written


@pytest.mark.parametrize("world", [World("sa1b", 2, 3), World("sav", 1, 3, ("--seconds", "2", "2.1"))])
def test_a_part_of_the_world_becomes_shards_once(world, tmp_path):
    from datamodules.reader import ShardReader

    shards = world_shards(tmp_path, world)
    reader = ShardReader(shards)
    assert (len(reader), reader.form) == (world.samples, {"sa1b": "image", "sav": "video"}[world.format])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert world_shards(tmp_path, world) == shards
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    # Another number of samples is another part.
    assert World(world.format, world.samples + 1, world.seed).name != shards.name


def test_a_stopped_evaluation_is_no_result(tmp_path, toy_folder):
    """It ends at the second video and has written what was found in the first."""
    videos = {}
    for name in ("a", "b"):
        record, members = moving(4)
        record["video"]["name"] = name
        videos[name] = {**members, "json": json.dumps(record).encode()}
    whole = write(tmp_path / "whole", videos, form="video")
    damaged = {**videos, "b": {**videos["b"], frame_extension(4): b"no picture"}}
    broken = write(tmp_path / "broken", damaged, form="video")
    result, partial = tmp_path / "numbers.json", tmp_path / "numbers.json.partial"

    def evaluate(shards):
        arguments = ["video", "--data", str(shards), "--protocol", "sav", "--model", str(toy_folder)]
        return json.loads(evaluate_once(result, arguments).read_text())

    with pytest.raises(UserError, match="frame 4"):
        evaluate(broken)
    assert json.loads(partial.read_text())["num_videos"] == 1
    assert not result.exists()
    assert evaluate(whole)["num_videos"] == 2
    assert not partial.exists()
    assert evaluate(broken)["num_videos"] == 2  # not done again


def test_what_a_stopped_command_left_is_thrown_away(tmp_path):
    result = tmp_path / "result"

    def stopped(folder):
        folder.mkdir()
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(result, stopped)
    assert not result.exists()
    assert once(result, lambda folder: folder.mkdir()) == result
    assert list(tmp_path.rglob("*")) == [result]
    once(result, stopped)  # not done again


def test_a_missing_recipe_is_named_before_anything_is_done(tmp_path):
    with pytest.raises(UserError, match=r"no toy/stage1\.yaml"):
        run(["demo", str(tmp_path / "out"), "--experiments", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    require_recipes(EXPERIMENTS, [part.recipe for part in PARTS])


def test_a_recipe_is_the_trainer_and_its_own_file(tmp_path):
    words = steps.recipe(Path("experiments"), "stage2", tmp_path)
    assert words == ["-c", "experiments/trainer.yaml", "-c", "experiments/toy/stage2.yaml", f"--data.root={tmp_path}"]
