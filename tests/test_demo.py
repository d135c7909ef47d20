"""The demo, end to end, at its smallest; and the steps that a stopped command does not do twice."""

import json
from pathlib import Path

import pytest
import torch
from moving_videos import moving
from record_samples import write

from datamodules.video_record import frame_extension
from phd.cli import run
from phd.commands import steps
from phd.commands.steps import World, evaluate_once, once, require_recipes, world_shards
from phd.commands.toy_teacher import PARTS
from phd.errors import UserError
from phd.student import Student
from phd.teachers import load_teacher

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
SIZES = {"train-scenes": 12, "test-scenes": 2, "train-clips": 4, "test-clips": 1, "train-phrases": 6, "test-phrases": 2}


@pytest.mark.slow
def test_demo_writes_a_report_and_goes_on_where_it_was(tmp_path):
    sizes = [f"--{name}={size}" for name, size in SIZES.items()]
    small = ["--trainer.max_steps=2", "--data.val_samples=2", "--data.batch_size=2"]
    run(["demo", str(tmp_path), *sizes, "--", *small])
    page = (tmp_path / "report.html").read_text()
    # Two scenes, a film strip, the reliability of presence, and of two scenes a true and a false phrase.
    assert page.count("<figure>") == 2 * 4 + 1 + 1 + 2 * 2 * 4
    after = json.loads((tmp_path / "after.json").read_text())
    assert f"{after['box_miou']:.3f}" in page
    assert after["teacher"]["num_instances"] == after["num_instances"] > 0
    names = ("dense", "before", "after")
    dense, before, tracked = (json.loads((tmp_path / f"video_{name}.json").read_text()) for name in names)
    assert tracked["teacher"]["num_objects"] == tracked["num_objects"] == dense["num_objects"] > 0
    tokens = [found["memory_tokens"] for found in (tracked["teacher"], dense, before, tracked)]
    assert tokens == [256, 256, 32, 32]
    assert all(f"<td>{found[part]:.3f}" in page for found in (dense, before, tracked) for part in ("j", "f", "jf"))

    check_concepts(tmp_path, page)
    weights = [tmp_path / f"stage{number}" / "run" / "student" / "model.safetensors" for number in (1, 2, 3)]
    written = [path.stat().st_mtime_ns for path in weights]
    run(["demo", str(tmp_path), *sizes, "--", *small])
    assert [path.stat().st_mtime_ns for path in weights] == written


def check_concepts(out, page):
    """The student of stage 2 begins stage 3 with the teacher's text and detector, and detects in the end."""
    start, begin, end = (
        Student.from_pretrained(out / place) for place in ("stage2/run/student", "stage3/before", "stage3/run/student")
    )
    teacher = load_teacher("toy-teacher-128")
    assert teacher.text is not None
    assert start.verbs == ("encode", "segment", "track")
    assert begin.verbs == end.verbs == ("encode", "segment", "track", "detect")
    for name, module in (("trunk", start.trunk), ("neck", start.neck), ("heads", start.heads), ("text", teacher.text)):
        mine, theirs = getattr(begin, name).state_dict(), module.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())
    detector, taught = (model.heads.detector_model.state_dict() for model in (begin, teacher))
    assert all(torch.equal(value, taught[key]) for key, value in detector.items())
    before, after = (json.loads((out / f"concept_{name}.json").read_text()) for name in ("before", "after"))
    assert after["teacher"]["num_datapoints"] == after["num_datapoints"] == before["num_datapoints"] > 0
    assert after["num_negative"] > 0
    assert len(after["chosen_annotators"]) == 3
    ece = [found["presence_ece"] for found in (after["teacher"], before, after)]
    assert "calibration error of presence" + "".join(f"<td>{value:.3f}" for value in ece) in page
    assert ece[1] != ece[2]
    assert [path.name for path in (out / "stage3" / "run" / "media").iterdir()] == ["epoch_000.jpg"]


@pytest.mark.parametrize(
    "world", [World("sa1b", 2, 3), World("sav", 1, 3, ("--seconds", "2", "2.1")), World("saco-gold", 2, 3)]
)
def test_a_part_of_the_world_becomes_shards_once(world, tmp_path):
    from datamodules.reader import ShardReader

    shards = world_shards(tmp_path, world)
    reader = ShardReader(shards)
    assert (len(reader), reader.form) == (
        world.samples,
        {"sa1b": "image", "sav": "video", "saco-gold": "concept"}[world.format],
    )
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


def test_each_part_of_the_teacher_says_its_size():
    """Without one it would go on at the size of the part before it."""
    sizes = [steps.settings_of(EXPERIMENTS, part.recipe, "model").get("image_size") for part in PARTS]
    assert set(sizes) == {64, 128, 192}
    assert sizes[0] == 64  # from nothing
    assert sizes[-1] == 128


def test_a_recipe_is_the_trainer_and_its_own_file(tmp_path):
    words = steps.recipe(Path("experiments"), "stage2", tmp_path)
    assert words == ["-c", "experiments/trainer.yaml", "-c", "experiments/toy/stage2.yaml", f"--data.root={tmp_path}"]
